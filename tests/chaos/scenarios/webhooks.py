"""Receivers that fail, hang and are away, and a background that is killed while it calls them."""

import asyncio
import contextlib
import functools
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterable

from standardwebhooks import Webhook, WebhookVerificationError

from forebay.contract.notices import DeliveryState, delivery_id
from forebay.lanes.keys import Keys
from forebay.records.deliveries import Deliveries
from forebay.records.signing import SecretStore
from tests.chaos.clients import Load
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.scene import beside, scene
from tests.fixtures.hooked import BROKEN, OK, Receiver
from tests.fixtures.waiting import eventually

FAILS = 0.5
"""Share of calls that the receiver answers with 500."""

HANGS = 0.05
"""Share of calls that it never answers."""

TIMEOUT_S = 1.0
RETRIES = 60
"""One a second: with one call in two answered, none is given up in a life of the universe."""

KILLS = 5
LATE_S = 600.0


class Odd(Receiver):
    """Fails and hangs by chance, and may be away.

    Attributes:
        taken: how often each id was answered with 200.
    """

    PATH = "/hook"

    def __init__(self) -> None:
        super().__init__()
        self.taken: Counter[str] = Counter()
        self.answers[self.PATH] = self._answer
        self._server: asyncio.Server | None = None

    def _answer(self, _: int) -> bytes | None:
        drawn = random.random()
        if drawn < HANGS:
            return None
        if drawn < HANGS + FAILS:
            return BROKEN
        self.taken[self.heard[-1].id] += 1
        return OK

    async def come(self) -> None:
        """Listen, where it did before."""
        self._server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def go(self) -> None:
        """Hang up, and listen no more."""
        if self._server is not None:
            self._server.close()
        await self.aclose()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Listen until the block ends."""
        await self.come()
        try:
            yield
        finally:
            await self.go()

    def has_taken(self, more_than: float) -> bool:
        """Whether it has answered more than so many webhooks with 200."""
        return len(self.taken) > more_than

    def unsigned(self, secret: str) -> int:
        """How many calls came without a signature that is valid."""
        wrong = 0
        for one in self.heard:
            try:
                Webhook(secret).verify(one.body, one.headers, json_parse=False)
            except WebhookVerificationError as error:
                # What was sent a while ago is as good as it was then.
                wrong += "too old" not in str(error)
        return wrong


async def told(short: bool) -> Outcome:
    """Kill the background again and again while it calls a receiver like that."""
    count, over_s, away_s = (30, 2.0, 1.0) if short else (2_000, 60.0, 30.0)
    kills = 1 if short else KILLS
    outcome, receiver = Outcome(), Odd()
    async with (
        scene(
            egress_loopback=True,
            webhook_timeout_s=TIMEOUT_S,
            webhook_retries_s=",".join(["1"] * RETRIES),
        ) as stage,
        receiver.listening(),
    ):
        gateway = await stage.gateway()
        await stage.worker()
        background, _ = stage.background()
        await stage.at_work(background)
        also = {"webhook": receiver.url(Odd.PATH), "webhook_events_filter": ["completed"]}
        load = Load([gateway.http], also=also)

        async def be_away() -> None:
            await eventually(lambda: receiver.has_taken(count / 10), within_s=LATE_S)
            await receiver.go()
            await asyncio.sleep(away_s)
            await receiver.come()

        async def kill() -> None:
            for number in range(kills):
                share = count * (number + 1) / (kills + 2)
                await eventually(functools.partial(receiver.has_taken, share), within_s=LATE_S)
                await stage.at_work(background)
                background.restart()

        killed = asyncio.create_task(kill())
        async with beside(be_away, lambda: stage.audit.watch(load)):
            await load.feed(count, over_s)
            await stage.drained(outcome, list(load.values))
            ids = {delivery_id(id_, "completed") for id_ in load.values}
            await _arrived(receiver, ids, outcome)
        outcome.promise(killed.done(), "the background was not killed as often as it should be")
        killed.cancel()
        await stage.audit.tally(load, gateway.http, outcome)
        outcome.all_succeed(count)

        keys = Keys(stage.settings.key_prefix)
        secret = (await SecretStore(stage.audit.client, keys).read()).current
        unsigned = receiver.unsigned(secret)
        strange = {one.id for one in receiver.heard} - ids
        contradicted = _contradicted(receiver)
        outcome.promise(not unsigned, f"{unsigned} calls have no valid signature")
        outcome.promise(not strange, f"{len(strange)} ids are none that a delivery may have")
        outcome.promise(not contradicted, f"{contradicted} deliveries had several bodies")
        states = Counter([one.state async for one in Deliveries(stage.audit.client, keys).newest()])
        outcome.promise(
            states == {DeliveryState.DELIVERED: count}, f"deliveries ended as {dict(states)}"
        )
        again = sum(times > 1 for times in receiver.taken.values())
        outcome.done = (
            f"{count:,} webhooks to a receiver that fails half of the time, hangs, and is away for "
            f"{away_s:g} s; background killed {kills} times"
        )
        outcome.notes.append(
            f"{len(receiver.heard):,} calls; {again:,} webhooks arrived more than once"
        )
    return outcome


async def _arrived(receiver: Odd, ids: Iterable[str], outcome: Outcome) -> None:
    """Wait until each of these was answered with 200."""
    left = set(ids)

    def all_arrived() -> bool:
        left.difference_update(receiver.taken)
        return not left

    try:
        await eventually(all_arrived, within_s=LATE_S)
    except AssertionError:
        outcome.broken.append(f"{len(left)} webhooks have not arrived")


def _contradicted(receiver: Odd) -> int:
    bodies: dict[str, set[bytes]] = {}
    for one in receiver.heard:
        bodies.setdefault(one.id, set()).add(one.body)
    return sum(len(several) > 1 for several in bodies.values())


SCENARIOS = (
    Scenario(
        "kill-webhooks",
        "Webhooks with a background killed",
        "The background is killed while it calls a receiver that fails half of the time, hangs and "
        "is away: each webhook arrives at least once, signed, under one id and with one body.",
        told,
    ),
)
