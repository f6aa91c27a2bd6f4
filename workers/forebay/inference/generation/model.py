"""An artifact that generates text: its tokenizer and template before, its graph behind the loop."""

from collections.abc import Sequence
from pathlib import Path

from forebay.contract.errors import ArtifactError, ConfigurationError, InvalidInput
from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.generation import GenerationTable, Sampling
from forebay.contract.manifest import Decoder, Manifest
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Row, TextRow
from forebay.inference.backends.base import PreparedRow
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.continuous import ContinuousEngine
from forebay.inference.generation.grammar.grammars import Grammars
from forebay.inference.generation.pool import Pool
from forebay.inference.generation.prompts import Prompts
from forebay.inference.generation.protocol import Wanted
from forebay.inference.generation.session import DecoderSession
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.tasks.chat import ChatTemplate
from forebay.inference.tasks.load import TOKENIZER_FILE
from forebay.inference.tasks.text import open_tokenizer

TEMPLATE_FILE = "chat_template.jinja"

PART = 32
"""Tokens of prompts that are computed in a step, which is how long running texts wait for them
(decision 0038)."""

_WARM_TOKENS = 3
_DEFAULT = Sampling()


class OnnxGenerator:
    """A model that generates text; see `protocol.Generator`.

    Args:
        folder: the artifact.
        manifest: its manifest, already checked.
        table: how many texts at once, and how long they may be.
        threads: threads of one run.
        providers: ONNX Runtime execution providers, by name, the preferred one first.

    Raises:
        ArtifactError: a file is damaged, or none that the manifest's words fit.
        ConfigurationError: the model can't take texts as long as the table says, or can't be run
            by a provider.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        table: GenerationTable,
        *,
        threads: int,
        providers: Providers = ON_CPU,
    ) -> None:
        decoder = manifest.decoder
        if decoder is None:
            raise ArtifactError(
                f"The manifest of {manifest.model!r} says nothing of how its graph generates "
                f"text; run `forebay models build {manifest.model}`."
            )
        context = table.context or decoder.context
        if context > decoder.context:
            raise ConfigurationError(
                f"models.{manifest.model}.generation.context is {context:,}, and this model was "
                f"made for {decoder.context:,} tokens: ask for no more, or leave it out."
            )
        self._manifest = manifest
        tokenizer = open_tokenizer(folder / TOKENIZER_FILE)
        self._vocabulary = Vocabulary(tokenizer)
        self._prompts = Prompts(
            tokenizer,
            _template(folder, decoder),
            Grammars(
                tokenizer,
                self._vocabulary,
                size=decoder.vocabulary,
                end_ids=decoder.end_ids,
                form=manifest.tools,
            ),
            vocabulary=decoder.vocabulary,
            context=context,
        )
        self._end_ids = decoder.end_ids
        self._session = DecoderSession(
            folder / MODEL_FILE,
            decoder,
            Pool(decoder, slots=table.slots, capacity=context),
            chunk=PART,
            threads=threads,
            providers=providers,
        )
        self._engine = self._new_engine()

    @property
    def version(self) -> str:
        """Short digest of the artifact."""
        return self._manifest.version

    @property
    def engine(self) -> ContinuousEngine:
        """What runs it."""
        return self._engine

    def warm(self) -> None:
        """Go on from the manifest's samples, side by side.

        Raises:
            ArtifactError: the model can't.
        """
        sampling = Sampling(max_tokens=_WARM_TOKENS, temperature=0, ignore_end=True)
        rows = [TextRow(text) for text in self._manifest.samples]
        prompts = self.prepare(rows, truncate=False, options=Options(sampling=sampling))
        # Of its own, so that no request finds anything of the samples.
        engine = self._new_engine()
        for number, prompt in enumerate(prompts):
            if isinstance(prompt, InvalidInput):
                raise ArtifactError(f"{self._broken}: {prompt.message}")
            engine.submit(Wanted(number, prompt, sampling))
        while engine.busy:
            for delta in engine.step():
                if delta.error is not None:
                    raise ArtifactError(f"{self._broken}: {delta.error.message}")

    def prepare(
        self, rows: Sequence[Row], *, truncate: bool, options: Options = DEFAULT_OPTIONS
    ) -> list[PreparedRow | InvalidInput]:
        """Render and tokenize prompts.

        Args:
            rows: texts, token ids or chats.
            truncate: means nothing here: a prompt that has no room is refused, as one without its
                beginning or its end would be another.
            options: what is asked for.

        Returns:
            For each row, in order: the row ready to run, `TooLong`, or `InvalidInput`.
        """
        sampling = options.sampling or _DEFAULT
        return [self._prompts.prepare(row, index, sampling) for index, row in enumerate(rows)]

    def close(self) -> None:
        """Drop the graph, its weights, and all keys and values."""
        self._session.close()

    @property
    def _broken(self) -> str:
        return (
            f"The artifact of {self._manifest.model!r} can't go on from its own samples; run "
            f"`forebay models build {self._manifest.model}`"
        )

    def _new_engine(self) -> ContinuousEngine:
        return ContinuousEngine(self._session, self._vocabulary, self._end_ids)


def _template(folder: Path, decoder: Decoder) -> ChatTemplate | None:
    if not decoder.chat:
        return None
    path = folder / TEMPLATE_FILE
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"The chat template {path} can't be read: {error}") from error
    return ChatTemplate(text, bos=decoder.bos, eos=decoder.eos)
