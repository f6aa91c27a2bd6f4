"""The model that is measured, opened as a worker opens it, and what it is asked."""

from pathlib import Path

import msgspec
import numpy as np

from forebay.contract.errors import ArtifactError
from forebay.contract.generation import Message
from forebay.contract.manifest import Decoder
from forebay.contract.model import ModelSpec
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.continuous import ContinuousEngine
from forebay.inference.generation.model import TEMPLATE_FILE
from forebay.inference.generation.onnx import PART
from forebay.inference.generation.pool import Pool
from forebay.inference.generation.session import DecoderSession, Ids
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.tasks.chat import ChatTemplate
from forebay.inference.tasks.load import TOKENIZER_FILE
from forebay.inference.tasks.text import open_tokenizer
from forebay.runtime.processor import cores
from forebay.storage.artifacts import ArtifactStore

QUESTIONS = (
    "What is the capital of France?", "Explain gravity.", "List thirty colors.",
    "Who wrote Hamlet?", "Describe the moon.", "Name all planets.", "Tell a story about a dog.",
    "Say a long poem.",
)  # fmt: skip
STREAMS = len(QUESTIONS)
"""As many as the model has slots: further texts wait."""

LONG_PROMPT = 2_000


def questions(count: int) -> list[str]:
    """So many questions, no two of them equal."""
    return [
        QUESTIONS[number % STREAMS] + (f" ({number})" if number >= STREAMS else "")
        for number in range(count)
    ]


class Subject(msgspec.Struct, frozen=True):
    """What is measured.

    Attributes:
        folder: the artifact.
        threads: of one run.
        context: tokens that a slot has room for.
    """

    folder: Path
    decoder: Decoder
    threads: int
    context: int

    def engine(self, *, slots: int = STREAMS, part: int = PART) -> ContinuousEngine:
        """An engine."""
        vocabulary = Vocabulary(open_tokenizer(self.folder / TOKENIZER_FILE))
        session = self.session(slots=slots, part=part)
        return ContinuousEngine(session, vocabulary, self.decoder.end_ids)

    def session(self, *, slots: int = STREAMS, part: int = PART) -> DecoderSession:
        """A session."""
        pool = Pool(self.decoder, slots=slots, capacity=self.context)
        path = self.folder / MODEL_FILE
        return DecoderSession(path, self.decoder, pool, chunk=part, threads=self.threads)

    def prompts(self) -> list[Ids]:
        """The questions as the model's template renders them, in tokens."""
        text = (self.folder / TEMPLATE_FILE).read_text("utf-8")
        template = ChatTemplate(text, bos=self.decoder.bos, eos=self.decoder.eos)
        tokenizer = open_tokenizer(self.folder / TOKENIZER_FILE)
        rendered = (template.render([Message("user", question)]) for question in QUESTIONS)
        return [
            np.array(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
            for text in rendered
        ]

    def long_prompt(self) -> Ids:
        """A prompt that takes long to read, and begins as none of the others does."""
        return np.resize(np.concatenate(self.prompts())[::-1], LONG_PROMPT)


def open_subject(spec: ModelSpec, home: Path) -> Subject:
    """A built model that generates text.

    Raises:
        ArtifactError: it isn't built, or generates none.
    """
    artifact = ArtifactStore(home).open(spec.name)
    decoder = artifact.manifest.decoder
    if decoder is None or not decoder.chat:
        raise ArtifactError(f"{spec.name} answers no chats")
    context = spec.generation.context or decoder.context
    return Subject(artifact.folder, decoder, spec.threads or cores(), context)
