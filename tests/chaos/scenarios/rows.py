"""Rows that take others with them: one that raises, and one that ends its worker's process."""

import asyncio
import math

from tests.chaos.clients import Load
from tests.chaos.odd import CRASH, POISON
from tests.chaos.outcome import Outcome, Scenario
from tests.chaos.programs import Program
from tests.chaos.scene import beside, scene

ROWS = 32
STRIKES = 4
"""`max_strikes`, as it is by default: once in company, the rest alone."""

KEPT_S = 0.05
"""How often it is looked whether the worker has ended."""


async def poison(short: bool) -> Outcome:
    """Put a row on which the backend raises among 31 others."""
    rounds = 1 if short else 10
    outcome = Outcome()
    extra: list[int] = []
    # The batch waits for company: all rows are there before the worker is.
    async with scene(batch={"max_rows": ROWS, "prefetch_rows": ROWS, "max_wait_ms": 300}) as stage:
        gateway = await stage.gateway()
        load = Load([gateway.http], waiting_every=0)
        for number in range(rounds):
            values = [f"good-{number}-{row}" for row in range(ROWS - 1)]
            values.insert((7 * number + 3) % ROWS, f"{POISON}-{number}")
            for value in values:
                await load.want(value)
            begun = len(stage.begun())
            worker = await stage.odd_worker()
            await stage.drained(outcome, list(load.values))
            await stage.exits(worker, outcome)
            batches = [batch.rows for batch in stage.begun()[begun:]]
            outcome.promise(
                len(batches[0]) == ROWS, f"the first batch had {len(batches[0])} of {ROWS} rows"
            )
            failing = [rows for rows in batches if f"{POISON}-{number}" in rows]
            others = [row for rows in batches if rows not in failing for row in rows]
            outcome.promise(
                len(batches) - 1 <= math.log2(ROWS) + 2, f"{len(batches) - 1} extra runs"
            )
            outcome.promise(
                sorted(others) == sorted(value for value in values if value.startswith("good")),
                "a neighbour did not run exactly once without it",
            )
            extra.append(len(batches) - 1)
        told = await stage.audit.tally(load, gateway.http, outcome)
        for id_, value in load.values.items():
            if value.startswith(POISON):
                error = told[id_].error or ""
                outcome.promise("failed on this row" in error, f"its error is {error!r}")
        tally = outcome.tally
        outcome.promise(tally.failed == rounds, f"{tally.failed} failed instead of {rounds}")
        outcome.promise(tally.succeeded == rounds * (ROWS - 1), "not all neighbours succeeded")
        outcome.done = f"{rounds} times {ROWS} rows in a batch, one of which raises"
        outcome.notes.append(
            f"a batch with a bad row among {ROWS} took {min(extra)} to {max(extra)} extra runs; "
            "each neighbour ran once without it"
        )
    return outcome


async def crash(short: bool) -> Outcome:
    """Put a row that segfaults its worker among others, and keep starting workers."""
    neighbours = 60 if short else 400
    outcome = Outcome()
    async with scene(batch={"max_rows": 8, "max_wait_ms": 100}) as stage:
        gateway = await stage.gateway()
        load = Load([gateway.http], waiting_every=0)
        for number in range(neighbours):
            if number == 20:
                await load.want(CRASH)
            await load.want(f"good-{number}")
        worker = await stage.odd_worker()

        async with beside(lambda: _keep(worker), lambda: stage.audit.watch(load)):
            await stage.drained(outcome, list(load.values))
        ids = {value: id_ for id_, value in load.values.items()}
        told = await stage.audit.tally(load, gateway.http, outcome)
        tally = outcome.tally
        fatal = [batch.rows for batch in stage.begun() if CRASH in batch.rows]
        company = [row for row in fatal[0] if row != CRASH] if fatal else []
        outcome.promise(
            len(company) > 0 and [len(rows) for rows in fatal[1:]] == [1] * (STRIKES - 1),
            f"it ran in batches of {[len(rows) for rows in fatal]}",
        )
        outcome.promise(told[ids[CRASH]].status == "failed", "it did not fail")
        outcome.promise(
            tally.succeeded == neighbours, f"{neighbours - tally.succeeded} neighbours failed"
        )
        strikes = await stage.audit.strikes(load.values)
        struck = {load.values[id_] for id_, count in strikes.items() if count}
        outcome.promise(
            struck == {CRASH, *company},
            f"{len(struck)} were struck, {len(company) + 1} ran with it",
        )
        letters = await stage.audit.dead_letters()
        history = letters[0].get("history", "").splitlines() if letters else []
        outcome.promise(len(letters) == 1, f"there are {len(letters)} dead letters")
        outcome.promise(
            len(history) == STRIKES, f"the dead letter tells of {len(history)} strikes: {history}"
        )
        outcome.done = f"{neighbours + 1} predictions; one ends its worker, {len(fatal)} times"
        reason = letters[0].get("reason", "") if letters else "there is none"
        outcome.notes.append(
            f"it ran once with {len(company)} neighbours and {len(fatal) - 1} times alone; its "
            f"dead letter tells of {len(history)} strikes: {reason}"
        )
    return outcome


async def _keep(worker: Program) -> None:
    """Start a worker again whenever it has ended."""
    while True:
        worker.start()
        await asyncio.sleep(KEPT_S)


SCENARIOS = (
    Scenario(
        "poison-row",
        "A row that raises",
        "One bad row in a batch of 32: 31 succeed, 1 fails with its own error; finding it takes "
        "log₂ 32 + 2 extra runs at most.",
        poison,
    ),
    Scenario(
        "crash-row",
        "A row that crashes",
        "A row that segfaults its worker is a dead letter after 4 strikes, 3 of them alone; all "
        "its neighbours succeed, and none that did not run with it is under suspicion.",
        crash,
    ),
)
