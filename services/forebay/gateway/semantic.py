"""The semantic cache: a prompt is answered with what was written for one that means about the same.

    chat ─▶ its last message ─▶ embedded by another model ─▶ prompts of the same context near it
                                                                  │
         the text of the nearest that is cached ◀── Caching ◀─────┘

The *context* is all else that a text follows from: the artifact, the messages before, what is
asked of the text, who shares it, what embeds, and the numbers in the last message. It must be
equal, bit for bit; only the last message may differ in its words. Off unless a model says so;
decision 0072.
"""

import asyncio
import logging
import re
import time
from collections.abc import Sequence
from typing import Final, Protocol

import msgspec
from redis.exceptions import RedisError

from forebay.contract.caching import SemanticOptions, row_keys
from forebay.contract.errors import ConfigurationError, ForebayError, InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Lane
from forebay.contract.rows import ChatRow, Embedding, Row, TextRow
from forebay.gateway.recall import Asker
from forebay.gateway.streaming import Outcome
from forebay.gateway.work import Request
from forebay.lanes.prompts import PROMPTS_A_CALL, Prompt, Prompts
from forebay.runtime.catalog import Catalog
from forebay.runtime.redis import Link

log = logging.getLogger(__name__)

SHARE_S: Final = 1.0
"""How often gateways tell one another of prompts."""

MOST_TO_TELL: Final = 1_000
"""Prompts that wait to be told; more are forgotten: Redis is out of reach."""

WARN_S: Final = 60.0
"""A model that can't embed is told of no oftener."""

_NUMBER: Final = re.compile(r"[-\u2212]?\d+")
"""In digits, with its sign. What is a hyphen there costs a hit at most."""


class Run(Protocol):
    """`Dispatch.run`, as far as it is used here."""

    async def __call__(
        self,
        spec: ModelSpec,
        rows: Sequence[Row],
        /,
        *,
        lane: Lane | None,
        timeout_s: float | None,
        asker: Asker | None,
    ) -> Outcome:
        """Run rows."""
        ...


class Near(msgspec.Struct, frozen=True):
    """A prompt that is like a request's.

    Attributes:
        key: of its row in the cache.
        cosine: of both.
    """

    key: bytes
    cosine: float


class _For:
    """An `Asker` that asks in another's name, and wants nothing of the cache."""

    def __init__(self, asker: Asker | None) -> None:
        self._asker = asker

    def cache_control(self) -> str:
        """Nothing: a prompt's meaning stays what it is."""
        return ""

    def caller(self) -> bytes:
        """The other's."""
        return b"" if self._asker is None else self._asker.caller()

    def behalf(self) -> bytes:
        """The other's."""
        return b"" if self._asker is None else self._asker.behalf()

    def tell_cache(self, status: str) -> None:
        """The other hears of its own request only."""


class _Known:
    """What a gateway knows of one model's prompts.

    Raises:
        ConfigurationError: NumPy is not installed.
    """

    def __init__(self, spec: ModelSpec, options: SemanticOptions) -> None:
        try:
            from forebay.gateway import likeness
        except ImportError as error:
            raise ConfigurationError(
                f"models.{spec.name}.cache.semantic needs NumPy in the gateway ({error}): install "
                "`forebay[gateway,semantic]`, or leave the field out."
            ) from error
        self.arrays = likeness
        self.likeness = likeness.Likeness(options.entries)
        self.last = b""
        self.untold: list[Prompt] = []
        self.warned_at = -WARN_S


class Semantic:
    """Finds prompts that are like others.

    Args:
        catalog: the models there are.
        prompts: what gateways share.
        link: whether Redis is within reach.

    Raises:
        ConfigurationError: a model wants it, and NumPy is not installed.
    """

    def __init__(self, catalog: Catalog, *, prompts: Prompts, link: Link) -> None:
        self._catalog = catalog
        self._prompts = prompts
        self._run: Run | None = None
        self._link = link
        self._known = {
            name: _Known(spec, spec.cache.semantic)
            for name, spec in catalog.served.items()
            if spec.cache.semantic is not None
        }

    def __bool__(self) -> bool:
        """Whether any model has a semantic cache."""
        return bool(self._known)

    def embeds_by(self, run: Run) -> None:
        """Have prompts embedded by the gateway's own dispatch."""
        self._run = run

    async def near(self, request: Request) -> list[Near]:
        """Prompts that are like a request's, the likest first; remembers the request's own.

        Args:
            request: of a model that has a semantic cache, whose row is not in the exact one.
        """
        recalled, options = request.recalled, request.spec.cache.semantic
        if options is None or recalled is None or recalled.keys is None or len(request.rows) > 1:
            return []
        taken = _apart(request.rows[0])
        if taken is None or self._run is None:
            return []
        text, rest = taken
        known = self._known[request.spec.name]
        try:
            told = await self._run(
                self._catalog.find(options.model),
                [TextRow(text)],
                lane=request.lane,
                timeout_s=options.timeout_s,
                asker=_For(request.asker),
            )
        except InvalidInput:
            return []  # longer than that model reads
        except ForebayError as error:
            self._warn(known, request.spec, options.model, error)
            return []
        (output,) = told.outputs
        if told.version is None or not isinstance(output, Embedding):
            return []
        (context,) = row_keys(
            (rest,),
            # That has embedded it: another may serve by now, and their vectors don't compare.
            version=f"{recalled.keys.version} {told.version}",
            truncate=request.truncate,
            options=request.options,
            scope=recalled.scope or b"",
        )
        vector = known.arrays.read_vector(output.vector)
        found: list[tuple[bytes, float]] = []
        if recalled.why != "request":  # `no-cache`
            found = known.likeness.near(context, vector, options.threshold)
        (key,) = recalled.keys.keys
        if known.likeness.add(key, context, vector) and len(known.untold) < MOST_TO_TELL:
            known.untold.append(Prompt(key, context, known.arrays.pack(vector)))
        return [Near(key, cosine) for key, cosine in found]

    def clear(self, model: str) -> None:
        """Forget a model's prompts: its cache was emptied."""
        if (known := self._known.get(model)) is not None:
            known.likeness.clear()
            known.untold.clear()

    async def run(self) -> None:
        """Tell other gateways of prompts and hear of theirs, until cancelled."""
        while True:
            await self._link.returned()
            for model in self._known:
                try:
                    await self.share(model)
                except (RedisError, OSError) as error:
                    log.warning("prompts of %s are not shared: %s", model, error)
            await asyncio.sleep(SHARE_S)

    async def share(self, model: str) -> None:
        """Do so once for a model.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach.
        """
        known, spec = self._known[model], self._catalog.served[model]
        if spec.cache.semantic is None:
            return
        while True:
            several = await self._prompts.since(model, known.last)
            for entry, prompt in several:
                known.last = entry
                known.likeness.add(prompt.key, prompt.context, known.arrays.unpack(prompt.vector))
            if len(several) < PROMPTS_A_CALL:
                break
        if untold := known.untold:
            known.untold = []
            most, ttl_ms = spec.cache.semantic.entries, spec.cache.ttl_ms
            await self._prompts.add(model, untold, most=most, ttl_ms=ttl_ms)

    def _warn(self, known: _Known, spec: ModelSpec, model: str, error: ForebayError) -> None:
        now = time.monotonic()
        if now - known.warned_at >= WARN_S:
            known.warned_at = now
            log.warning(
                "a prompt of %s was run without a look at those like it: %s could not embed it: %s",
                spec.name,
                model,
                error.message,
            )


def _apart(row: Row) -> tuple[str, Row] | None:
    """The text that another may stand for, and what is left of the row but for it.

    Its numbers are left: what embeds texts takes little notice of them. None where no other may.
    """
    match row:
        case TextRow(text=text) if text.strip():
            return text, TextRow(_numbers(text))
        case ChatRow(messages=(*before, last)) if last.role == "user" and last.content.strip():
            rest = msgspec.structs.replace(last, content=_numbers(last.content))
            return last.content, msgspec.structs.replace(row, messages=(*before, rest), expected="")
        case _:
            return None


def _numbers(text: str) -> str:
    return " ".join(_NUMBER.findall(text))
