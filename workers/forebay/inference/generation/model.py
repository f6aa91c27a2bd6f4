"""An artifact that generates text: tokenizer and template before, what executes it behind."""

from collections.abc import Sequence
from pathlib import Path

from forebay.contract.errors import ArtifactError, ConfigurationError, InvalidInput
from forebay.contract.generation import GenerationTable, Sampling
from forebay.contract.manifest import Decoder, Manifest
from forebay.contract.rows import DEFAULT_OPTIONS, Options, Row, TextRow
from forebay.inference.backends.base import Model, PreparedRow
from forebay.inference.generation.continuous import ContinuousEngine
from forebay.inference.generation.decoding import Decoding
from forebay.inference.generation.grammar.grammars import Grammars
from forebay.inference.generation.prompts import Prompts
from forebay.inference.generation.protocol import Engine, Wanted
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.tasks.chat import ChatTemplate
from forebay.inference.tasks.load import TOKENIZER_FILE
from forebay.inference.tasks.text import open_tokenizer

TEMPLATE_FILE = "chat_template.jinja"

_WARM_TOKENS = 3
_DEFAULT = Sampling()


class ArtifactGenerator:
    """A model that generates text; see `protocol.Generator`.

    Args:
        manifest: of the artifact, already checked.
        table: what part of texts those have that nobody waits for.
        session: what executes it, with room for texts so long.
        words: what makes prompts, and what tokens stand for; see `read_words`.

    Raises:
        ArtifactError: the manifest says nothing of texts.
    """

    def __init__(
        self,
        manifest: Manifest,
        table: GenerationTable,
        session: Decoding,
        words: tuple[Prompts, Vocabulary],
    ) -> None:
        self._manifest = manifest
        self._prompts, self._vocabulary = words
        self._end_ids = decoder_of(manifest).end_ids
        self._floor = table.bulk_share
        self._session = session
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
        # An engine of its own, so that no request finds anything of the samples.
        warm_up(self, self._new_engine(), self._manifest)

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
        """Drop the weights, and all keys and values."""
        self._session.close()

    def _new_engine(self) -> ContinuousEngine:
        return ContinuousEngine(self._session, self._vocabulary, self._end_ids, floor=self._floor)


def warm_up(model: Model, engine: Engine, manifest: Manifest) -> None:
    """Go on from a manifest's samples, side by side.

    Args:
        model: prepares them.
        engine: runs them.
        manifest: of the model's artifact.

    Raises:
        ArtifactError: the model can't.
    """
    broken = (
        f"The artifact of {manifest.model!r} can't go on from its own samples; run "
        f"`forebay models build {manifest.model}`"
    )
    sampling = Sampling(max_tokens=_WARM_TOKENS, temperature=0, ignore_end=True)
    rows = [TextRow(text) for text in manifest.samples]
    prompts = model.prepare(rows, truncate=False, options=Options(sampling=sampling))
    for number, prompt in enumerate(prompts):
        if isinstance(prompt, InvalidInput):
            raise ArtifactError(f"{broken}: {prompt.message}")
        engine.submit(Wanted(number, prompt, sampling))
    while engine.busy:
        for delta in engine.step():
            if delta.error is not None:
                raise ArtifactError(f"{broken}: {delta.error.message}")


def decoder_of(manifest: Manifest) -> Decoder:
    """How what an artifact holds generates text.

    Raises:
        ArtifactError: it doesn't.
    """
    if manifest.decoder is None:
        raise ArtifactError(
            f"The manifest of {manifest.model!r} says nothing of how its graph generates "
            f"text; run `forebay models build {manifest.model}`."
        )
    return manifest.decoder


def context_of(manifest: Manifest, table: GenerationTable) -> int:
    """Most tokens of a prompt and its text together.

    Raises:
        ConfigurationError: the table asks for more than the model was made for.
    """
    made_for = decoder_of(manifest).context
    context = table.context or made_for
    if context > made_for:
        raise ConfigurationError(
            f"models.{manifest.model}.generation.context is {context:,}, and this model was "
            f"made for {made_for:,} tokens: ask for no more, or leave it out."
        )
    return context


def read_words(
    folder: Path, manifest: Manifest, *, context: int, held: bool = True
) -> tuple[Prompts, Vocabulary]:
    """What makes prompts, and what tokens stand for.

    Args:
        folder: the artifact.
        manifest: of it.
        context: most tokens of a prompt and its text together.
        held: whether what runs the model can hold texts to a grammar.

    Raises:
        ArtifactError: the tokenizer or the chat template can't be read.
    """
    decoder = decoder_of(manifest)
    tokenizer = open_tokenizer(folder / TOKENIZER_FILE)
    vocabulary = Vocabulary(tokenizer)
    grammars = None
    if held:
        grammars = Grammars(
            tokenizer,
            vocabulary,
            size=decoder.vocabulary,
            end_ids=decoder.end_ids,
            form=manifest.tools,
        )
    template = _template(folder, decoder)
    prompts = Prompts(tokenizer, template, grammars, vocabulary=decoder.vocabulary, context=context)
    return prompts, vocabulary


def _template(folder: Path, decoder: Decoder) -> ChatTemplate | None:
    if not decoder.chat:
        return None
    path = folder / TEMPLATE_FILE
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"The chat template {path} can't be read: {error}") from error
    return ChatTemplate(text, bos=decoder.bos, eos=decoder.eos)
