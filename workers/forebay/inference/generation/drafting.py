"""What a model drafts with: put together when it is loaded, tried when it is warmed."""

import logging
import time
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from forebay.contract.errors import ConfigurationError
from forebay.contract.execution import ON_CPU, Providers
from forebay.contract.generation import GenerationTable, Speculation
from forebay.contract.manifest import Decoder
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.checking import Speculating
from forebay.inference.generation.draft_model import ModelDrafts
from forebay.inference.generation.drafts import Drafter, Lookup
from forebay.inference.generation.pool import Pool
from forebay.inference.generation.session import DecoderSession
from forebay.inference.generation.trial import trial
from forebay.inference.tasks.load import TOKENIZER_FILE
from forebay.inference.tasks.text import open_tokenizer
from forebay.storage.artifacts import Artifact

log = logging.getLogger(__name__)

ROWS: Final = 8
"""Tokens that are checked at once: more are seldom all right (decision 0042)."""

MAX_MAPPINGS: Final = 16_384
"""Of the 65,530 that Linux lets a process have (vm.max_map_count)."""

PART: Final = 32
"""Tokens that a draft model computes at once of what it lacks."""

_STEPS: Final = 4


class Room(msgspec.Struct, frozen=True):
    """What texts may take, and with what they run.

    Attributes:
        slots: texts side by side.
        capacity: tokens of each.
        threads: threads of one run.
        providers: ONNX Runtime execution providers, the preferred one first.
    """

    slots: int
    capacity: int
    threads: int
    providers: Providers = ON_CPU


class Drafting:
    """Drafts of one model's texts.

    Args:
        model: its name.
        decoder: of its manifest.
        folder: its artifact.
        table: says who drafts.
        room: of its texts.
        other: the artifact of the model that drafts, where the table names one.

    Raises:
        ArtifactError: the other model can't be loaded.
        ConfigurationError: it can't draft for this one.
    """

    def __init__(
        self,
        model: str,
        decoder: Decoder,
        folder: Path,
        table: GenerationTable,
        room: Room,
        other: Artifact | None = None,
    ) -> None:
        self._model = model
        self._draft_s = 0.0
        self._drafter: Drafter | None = None
        self._other: ModelDrafts | None = None
        self.pool = _pool(decoder, room, mirrored=table.speculation is not Speculation.OFF)
        """For the model's own keys and values."""
        if self.pool.rows == 1:
            return
        if other is None:
            self._drafter = Lookup()
            return
        session = _session_of(other, model, folder, room)
        self._draft_s = _step_s(session)
        self._drafter = self._other = ModelDrafts(session, decoder.vocabulary)

    def begin(self, session: DecoderSession) -> Speculating | None:
        """What is to be drafted from now on; None if nothing is.

        Args:
            session: the model's, on `pool`, which nobody uses yet.

        Raises:
            BackendFailed: ONNX Runtime failed.
        """
        if self._drafter is None:
            return None
        costs = trial(session)
        if costs is None:
            log.warning(
                "%s: here several tokens at once come to other bits than one by one, so nothing "
                'is drafted; `speculation = "off"` saves the trial',
                self._model,
            )
            return None
        costs = msgspec.structs.replace(costs, draft=self._draft_s)
        rows, length = self.pool.rows, self.pool.capacity // 4
        log.info(
            "%s: %d tokens at once take %.1f times as long as one",
            self._model,
            rows,
            costs.of(rows, length) / costs.of(1, length),
        )
        return Speculating(self._drafter, costs, session, rows=self.pool.rows)

    def close(self) -> None:
        """Drop the model that drafts, if there is one."""
        if self._other is not None:
            self._other.close()


def _pool(decoder: Decoder, room: Room, *, mirrored: bool) -> Pool:
    """A pool, whose slots are several rows each where that is wanted and possible."""
    rows = 1
    if mirrored:
        rows = min(ROWS, MAX_MAPPINGS // (2 * decoder.layers * room.slots), room.capacity // 4)
    if rows > 1:
        try:
            return Pool(decoder, slots=room.slots, capacity=room.capacity, rows=rows)
        except OSError as error:
            log.warning("memory can't be mapped twice here, so nothing is drafted: %s", error)
    return Pool(decoder, slots=room.slots, capacity=room.capacity)


def _session_of(other: Artifact, model: str, folder: Path, room: Room) -> DecoderSession:
    decoder, name = other.manifest.decoder, other.manifest.model
    where = f"models.{model}.generation.draft is {name!r}"
    if decoder is None:
        raise ConfigurationError(f"{where}, which generates no text: name a model that does.")
    if _words_of(other.folder) != _words_of(folder):
        raise ConfigurationError(
            f"{where}, which has another tokenizer, so that its drafts would be other words here: "
            'name a smaller model of the same family, or have `speculation = "lookup"`.'
        )
    return DecoderSession(
        other.folder / MODEL_FILE,
        decoder,
        Pool(decoder, slots=room.slots, capacity=min(room.capacity, decoder.context)),
        chunk=PART,
        threads=room.threads,
        providers=room.providers,
    )


def _words_of(folder: Path) -> dict[str, int]:
    words: dict[str, int] = open_tokenizer(folder / TOKENIZER_FILE).get_vocab(
        with_added_tokens=True
    )
    return words


def _step_s(session: DecoderSession) -> float:
    """Seconds that a token of the other model takes, at the least."""
    taken = []
    for filled in range(_STEPS):
        began = time.perf_counter()
        session.decode(0, np.zeros(1, np.int64), np.array([filled]))
        taken.append(time.perf_counter() - began)
    return min(taken)
