"""Runs models on events: what the links take, on the loop of the intake."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from cloudevents.core.base import BaseCloudEvent

from forebay.background.taking.packing import unpacked
from forebay.background.triggers import events, letters
from forebay.background.triggers.forgetting import KEPT_S, Forgetting
from forebay.background.triggers.inputs import input_of
from forebay.background.triggers.letters import Outgoing
from forebay.background.triggers.link import Link, Session, Taken
from forebay.background.triggers.table import Trigger
from forebay.contract.asking import Asking, Predicted
from forebay.contract.errors import ErrorKind, InvalidInput, LaneFull, NotFound, Unavailable
from forebay.contract.prediction import Status
from forebay.lanes.producer import kept_going

log = logging.getLogger(__name__)

AGAIN_S: Final = 1.0
"""Pause before asking again what could not be taken, if nobody says how long."""

END_S: Final = 5.0
"""How long links may take to give back what they have."""

REFUSED: Final = (ErrorKind.INVALID_INPUT, ErrorKind.TOO_LONG)
"""Failures that would be the same another time."""


class Triggers:
    """All triggers; a `Service` of the intake.

    Args:
        triggers: each has a link of its own, and none waits for another.
        prefix: `settings.key_prefix`.
        lease_s: as of `Link`.
        kept_s: as of `Forgetting`.
    """

    def __init__(
        self,
        triggers: Sequence[Trigger],
        *,
        prefix: str,
        lease_s: float,
        kept_s: float = KEPT_S,
    ) -> None:
        self._triggers = triggers
        self._prefix = prefix
        self._lease_s = lease_s
        self._kept_s = kept_s

    @property
    def name(self) -> str:
        """What logs call it."""
        return f"triggers {', '.join(trigger.name for trigger in self._triggers)}"

    async def run(self, asking: Asking) -> None:
        """Take events until cancelled; those without an outcome then go back to their brokers."""
        forgetting = Forgetting(asking, kept_s=self._kept_s)
        ends = [
            _End(trigger, asking, forgetting, prefix=self._prefix, lease_s=self._lease_s)
            for trigger in self._triggers
        ]
        async with kept_going("outcomes of triggers", forgetting.run):
            try:
                for end in ends:
                    end.link.start()
                await asyncio.Event().wait()
            finally:
                for end in ends:
                    end.close()
                await asyncio.gather(*(asyncio.to_thread(end.link.join, END_S) for end in ends))


class _End:
    """The loop's end of a trigger's link.

    Args:
        trigger: what is to be done with its events.
        asking: the gateway.
        forgetting: deletes outcomes.
        prefix: as of `Link`.
        lease_s: likewise.
    """

    def __init__(
        self,
        trigger: Trigger,
        asking: Asking,
        forgetting: Forgetting,
        *,
        prefix: str,
        lease_s: float,
    ) -> None:
        self._trigger = trigger
        self._asking = asking
        self._tasks: dict[Session, set[asyncio.Task[None]]] = {}
        self._forgetting = forgetting
        loop = asyncio.get_running_loop()
        self.link = Link(
            trigger,
            prefix=prefix,
            lease_s=lease_s,
            take=lambda taken: loop.call_soon_threadsafe(self._take, taken),
            done=lambda outgoing: loop.call_soon_threadsafe(forgetting.add, outgoing),
            lose=lambda session: loop.call_soon_threadsafe(self._lose, session),
        )

    def close(self) -> None:
        """Take no more, and wait for nothing."""
        self.link.stop()
        for session in tuple(self._tasks):
            self._lose(session)

    def _take(self, taken: Taken) -> None:
        tasks = self._tasks.setdefault(taken.session, set())
        task = asyncio.get_running_loop().create_task(self._settle(taken))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def _lose(self, session: Session) -> None:
        """What was under way comes again, by the same key; nobody waits for it meanwhile."""
        for task in self._tasks.pop(session, ()):
            task.cancel()

    async def _settle(self, taken: Taken) -> None:
        try:
            outgoing = await self._outcome(taken)
        except (InvalidInput, NotFound) as error:
            outgoing = self._dead(taken, error.message)
        except Exception:
            log.exception("trigger %s: an event can't be handled", self._trigger.name)
            outgoing = self._dead(taken, "Something unexpected; the log of the background has it.")
        taken.settle(outgoing)

    async def _outcome(self, taken: Taken) -> Outgoing:
        """The event that tells what a message came to.

        Raises:
            InvalidInput: it is no event, or none that the model takes.
            NotFound: the model is no longer there.
        """
        message, most = taken.message, self._trigger.max_bytes
        if message.fault:
            raise InvalidInput(f"The message can't be read: {message.fault}.")
        if len(message.body) > most:
            raise InvalidInput(
                f"The message has {len(message.body):,} bytes; its trigger takes {most:,} "
                "(max_bytes)."
            )
        body = unpacked(message.body, message.headers, most=most)
        event = events.read(body, message.headers, message.content_type)
        input_json = input_of(event, self._trigger.input)
        events.check_carried(self._trigger, event)
        key = events.key_of(self._trigger, event)
        with self._forgetting.waiting(key):
            told = await self._predicted(event, input_json)
        made = events.result(self._trigger, event, told[-1])
        result = self._trigger.result
        return Outgoing(
            result.exchange,
            result.key,
            made.body,
            made.content_type or "",
            made.headers,
            key,
            tuple(one.id for one in told),
        )

    async def _predicted(self, event: BaseCloudEvent, input_json: bytes) -> list[Predicted]:
        """How the prediction of an event ended, each time that it was made."""
        told = [await self._asked(input_json, events.key_of(self._trigger, event))]
        for retry in range(1, self._trigger.retries + 1):
            last = told[-1]
            if last.status is not Status.FAILED or (last.error and last.error.kind in REFUSED):
                break
            told.append(await self._asked(input_json, events.key_of(self._trigger, event, retry)))
        return told

    async def _asked(self, input_json: bytes, key: str) -> Predicted:
        """Ask until there is room, and everything is within reach."""
        while True:
            try:
                return await self._asking.predict(
                    self._trigger.model,
                    input_json,
                    key=key,
                    lane=self._trigger.lane,
                    behalf=f"trigger {self._trigger.name}",
                )
            except (LaneFull, Unavailable) as error:
                await asyncio.sleep(error.retry_after_s or AGAIN_S)

    def _dead(self, taken: Taken, reason: str) -> Outgoing:
        """The message as it came, for the queue of dead letters."""
        log.warning("trigger %s: a message is a dead letter: %s", self._trigger.name, reason)
        return letters.dead(self._trigger, taken.message, reason)
