"""Requests that run together: how many, whose outputs are whose, and who is told what failed."""

import asyncio
import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from forebay.contract.caching import CacheOptions
from forebay.contract.errors import (
    BackendFailed,
    ErrorKind,
    ForebayError,
    LaneFull,
    TooLong,
)
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.prediction import Lane, PredictionId
from forebay.contract.rows import DEFAULT_OPTIONS, Output, Row, Task, TextRow, Value
from forebay.gateway.bundles import FEWEST, MOST_BYTES, MOST_ROWS, Bundles, may_join
from forebay.gateway.errors import ClientGone
from forebay.gateway.names import Name, derived
from forebay.gateway.patience import Patience
from forebay.gateway.streaming import Outcome
from forebay.gateway.waits import WhenGone
from forebay.gateway.work import Request
from tests.fixtures.waiting import eventually

SPEC = ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="package:none", name="minilm")
PATIENCE = Patience(60_000, 0, 60.0)


def asked(*texts: str, **more: Any) -> Request:
    """A request for these texts."""
    given: dict[str, Any] = {
        "model": SPEC,
        "spec": SPEC,
        "id": PredictionId.new("minilm"),
        "rows": tuple(map(TextRow, texts)),
        "lane": Lane.BULK,
        "now_ms": 0,
        "patience": PATIENCE,
        "options": DEFAULT_OPTIONS,
        "kept": False,
    }
    return Request(**{**given, **more})


class Lanes:
    """Runs requests: answers each text in capitals, and fails those that say so."""

    def __init__(self) -> None:
        self.ran: list[list[str]] = []
        self.ids: list[str] = []
        self.gone: list[list[str]] = []
        self.held = asyncio.Event()
        self.held.set()

    async def run(self, request: Request, when_gone: WhenGone | None) -> Outcome:
        texts = [_text(row) for row in request.rows]
        self.ran.append(texts)
        self.ids.append(request.id.text)
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def leave() -> None:
            self.gone.append(texts)
            left.set_exception(ClientGone())

        if when_gone is not None:
            when_gone(leave)
        waits = asyncio.create_task(self.held.wait())
        left.add_done_callback(lambda _: waits.cancel())
        with contextlib.suppress(asyncio.CancelledError):
            await waits
        if left.done():
            await left
        for index, text in enumerate(texts):
            if text in FAILURES:
                raise FAILURES[text](f"Row {index}: {text}", row=index)
        outputs: Sequence[Output] = [Value(text.upper().encode()) for text in texts]
        return Outcome(outputs, "abc", None)


class LostError(ForebayError):
    kind = ErrorKind.WORKER_LOST


FAILURES = {"long": TooLong, "poison": BackendFailed, "deadly": LostError, "full": LaneFull}


def _text(row: Row) -> str:
    assert isinstance(row, TextRow)
    return row.text


async def all_of(bundles: Bundles, *requests: Request) -> list[list[bytes] | BaseException]:
    """What came of each: its outputs, or why there are none."""
    told = await asyncio.gather(
        *(bundles.run(request, None) for request in requests), return_exceptions=True
    )
    return [
        one
        if isinstance(one, BaseException)
        else [output.json for output in one.outputs if isinstance(output, Value)]
        for one in told
    ]


async def under_way(bundles: Bundles, lanes: Lanes) -> list[asyncio.Task[Outcome]]:
    """So many rows that bundles may be as large as they get, held until `lanes.held`."""
    lanes.held.clear()
    plugs = [
        asyncio.create_task(bundles.run(asked(*["plug"] * MOST_ROWS), None)) for _ in range(FEWEST)
    ]
    await eventually(lambda: len(lanes.ran) == FEWEST)
    return plugs


async def test_what_comes_at_once_runs_together_and_each_gets_its_own() -> None:
    lanes = Lanes()
    bundles = Bundles(lanes.run)
    plugs = await under_way(bundles, lanes)
    lanes.ran.clear()
    asking = asyncio.create_task(all_of(bundles, asked("a"), asked("b", "c"), asked("d")))
    await eventually(lambda: lanes.ran)
    assert lanes.ran == [["a", "b", "c", "d"]]
    lanes.held.set()
    assert await asking == [[b"A"], [b"B", b"C"], [b"D"]]
    await asyncio.gather(*plugs)


async def test_a_request_that_runs_alone_keeps_its_id() -> None:
    lanes = Lanes()
    one = asked("a")
    assert await all_of(Bundles(lanes.run), one) == [[b"A"]]
    assert lanes.ids == [one.id.text]


@pytest.mark.parametrize("rows", [64, 256, 4_096])
async def test_rows_under_way_make_enough_bundles_for_many_workers(rows: int) -> None:
    lanes = Lanes()
    told = await all_of(Bundles(lanes.run), *(asked(f"t{number}") for number in range(rows)))
    assert told == [[b"T%d" % number] for number in range(rows)]
    assert len(lanes.ran) >= min(FEWEST, rows)
    assert {len(texts) for texts in lanes.ran} == {min(rows // FEWEST, MOST_ROWS)}


async def test_a_bundle_of_long_rows_is_smaller() -> None:
    lanes = Lanes()
    long = "x" * (MOST_BYTES // 2)
    await all_of(Bundles(lanes.run), *(asked(f"{long}{number:04d}") for number in range(320)))
    assert {len(texts) for texts in lanes.ran} == {1}


async def test_what_differs_in_what_is_asked_runs_apart() -> None:
    lanes = Lanes()
    bundles = Bundles(lanes.run)
    others = [
        asked("b", truncate=True),
        asked("c", patience=Patience(1_000, 0, 1.0)),
        asked("d", spec=msgspec.structs.replace(SPEC, name="minilm@v2")),
    ]
    plugs = await under_way(bundles, lanes)
    lanes.ran.clear()
    asking = asyncio.create_task(all_of(bundles, asked("a"), *others, asked("e")))
    await eventually(lambda: len(lanes.ran) >= 4)
    lanes.held.set()
    assert await asking == [[b"A"], [b"B"], [b"C"], [b"D"], [b"E"]]
    assert sorted(lanes.ran[:4]) == [["a", "e"], ["b"], ["c"], ["d"]]
    await asyncio.gather(*plugs)


@pytest.mark.parametrize("fault", ["long", "poison", "deadly"])
async def test_a_row_at_fault_fails_its_own_request_and_no_other(fault: str) -> None:
    lanes = Lanes()
    texts = [f"t{number}" for number in range(8 * FEWEST)]
    texts[3] = texts[100] = fault
    told = await all_of(Bundles(lanes.run), *map(asked, texts))
    for text, one in zip(texts, told, strict=True):
        if text == fault:
            assert isinstance(one, FAILURES[fault])
            assert (one.message, one.row) == (f"Row 0: {fault}", 0)
        else:
            assert one == [text.upper().encode()]


async def test_rows_that_cost_workers_are_tried_once_together_and_once_alone() -> None:
    lanes = Lanes()
    texts = ["deadly", *(f"t{number}" for number in range(8 * FEWEST - 1))]
    await all_of(Bundles(lanes.run), *map(asked, texts))
    assert [len(ran) for ran in lanes.ran if "deadly" in ran] == [8, 1]


async def test_what_is_refused_for_all_is_told_all_and_not_tried_again() -> None:
    lanes = Lanes()
    texts = ["full", *(f"t{number}" for number in range(8 * FEWEST - 1))]
    told = await all_of(Bundles(lanes.run), *map(asked, texts))
    assert all(isinstance(one, LaneFull) for one in told[:8])
    assert all(isinstance(one, list) for one in told[8:])
    assert len(lanes.ran) == FEWEST


async def test_a_bundle_goes_on_until_all_who_asked_have_gone() -> None:
    lanes = Lanes()
    lanes.held.clear()
    bundles = Bundles(lanes.run)
    leave: dict[str, Any] = {}
    texts = [f"t{number}" for number in range(2 * FEWEST)]
    tasks = {
        text: asyncio.create_task(
            bundles.run(asked(text), functools.partial(leave.__setitem__, text))
        )
        for text in texts
    }
    await eventually(lambda: len(lanes.ran) >= FEWEST)
    leave["t0"]()
    assert lanes.gone == []
    leave["t2"]()
    leave["t3"]()
    assert lanes.gone == [["t2", "t3"]]
    lanes.held.set()
    for text in ("t0", "t2", "t3"):
        with pytest.raises(ClientGone):
            await tasks[text]
    assert (await tasks["t1"]).outputs == [Value(b"T1")]
    await asyncio.gather(*tasks.values(), return_exceptions=True)


@pytest.mark.parametrize(
    ("more", "joins"),
    [
        ({}, True),
        ({"name": derived("line 1")}, True),
        ({"lane": Lane.REALTIME}, False),
        ({"name": Name("key:mine", "f")}, False),
        ({"rows": tuple(TextRow("x") for _ in range(MOST_ROWS))}, False),
        ({"spec": msgspec.structs.replace(SPEC, join=False)}, False),
        ({"spec": msgspec.structs.replace(SPEC, cache=CacheOptions(enabled=True))}, False),
        ({"spec": msgspec.structs.replace(SPEC, task=Task.PYTHON)}, False),
        ({"spec": msgspec.structs.replace(SPEC, task=Task.GENERATION)}, False),
    ],
)
def test_who_may_run_with_others(more: dict[str, Any], joins: bool) -> None:
    assert may_join(asked("a", **more)) is joins
