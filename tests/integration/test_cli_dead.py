"""`forebay dead`, as operators run it, against a real server."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from forebay.contract.messages import Computation, encode
from forebay.contract.prediction import Lane, PredictionId, Status
from forebay.contract.rows import Row, TextRow, TokensRow, ValueRow
from forebay.lanes.consumer import Consumer
from forebay.lanes.dead import DeadLetters
from forebay.lanes.lane import Part
from forebay.lanes.predictions import Records
from tests.fixtures.lanes import LONG_MS, enqueue, join, read, settlement, submission, view
from tests.fixtures.servers import LaneServer
from tests.fixtures.waiting import PATIENCE_S

CATALOG = """
[models.echo]
task = "echo"
backend = "echo"
realtime.max_rows = 4
[models.quiet]
task = "echo"
backend = "echo"
"""

Ended = subprocess.CompletedProcess[str]


class Operator:
    """Runs verbs in a folder with a catalog."""

    def __init__(self, folder: Path, **settings: str) -> None:
        (folder / "models.toml").write_text(CATALOG)
        self._folder = folder
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FOREBAY_")}
        self._environ = kept | settings

    def run(self, *words: str, answer: str = "") -> Ended:
        return subprocess.run(
            [sys.executable, "-m", "forebay.cli", "dead", *words],
            input=answer,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            cwd=self._folder,
            env=self._environ,
        )

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "forebay.cli", "dead", *words],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env=self._environ,
        )

    def told(self, *words: str, answer: str = "") -> str:
        """What a verb that succeeds prints."""
        ended = self.run(*words, answer=answer)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    def refused(self, *words: str, answer: str = "") -> str:
        """The one line in which a verb says why it fails."""
        ended = self.run(*words, answer=answer)
        assert ended.returncode == 1
        assert ended.stderr.startswith("forebay: ")
        assert ended.stderr.count("\n") == 1, ended.stderr
        return ended.stderr


@pytest.fixture
def operator(tmp_path: Path, redis_url: str, key_prefix: str) -> Operator:
    return Operator(tmp_path, FOREBAY_REDIS_URL=redis_url, FOREBAY_KEY_PREFIX=key_prefix)


@pytest.fixture
async def worker(real_lanes: LaneServer) -> Consumer:
    return await join(real_lanes)


async def die(
    lanes: LaneServer,
    worker: Consumer,
    *rows: Row,
    lane: Lane = Lane.BULK,
    message: bytes = b"",
    reason: str = "it killed its worker 4 times",
    history: str = "",
) -> PredictionId:
    """A prediction with these rows becomes a dead letter."""
    given = rows or (ValueRow(b"1"),)
    packed = message or encode(Computation(given, 0, LONG_MS, first_row=256))
    one = submission(lane=lane, input=b'{"value": 1}')
    one = msgspec.structs.replace(one, parts=(Part(len(given), packed),))
    await enqueue(lanes, one)
    if history:
        record = lanes.echo.record(one.id.text)
        await lanes.redis.execute_command("HSET", record, "h0", history, "k0", 2)
    (delivery,) = await read(worker, 1)
    await worker.settle([settlement(delivery, Status.FAILED, dead=reason)])
    return one.id


async def letters_left(lanes: LaneServer) -> int:
    return int(await lanes.redis.execute_command("XLEN", lanes.echo.dead))


async def test_letters_are_listed_newest_first(
    real_lanes: LaneServer, worker: Consumer, operator: Operator
) -> None:
    assert operator.told("list") == "There are no dead letters.\n"
    assert json.loads(operator.told("list", "--json")) == []
    first = await die(real_lanes, worker)
    second = await die(real_lanes, worker, reason="tore \x1b[31mit\ndown")
    header, newest, oldest = operator.told("list").splitlines()
    assert header.split()[:3] == ["model", "prediction", "part"]
    assert [newest.split()[:3], oldest.split()[:3]] == [
        ["echo", second.text, "0"],
        ["echo", first.text, "0"],
    ]
    assert "it killed its worker 4 times" in oldest
    # Nothing from outside reaches the terminal but letters.
    assert r"tore \x1b[31mit\ndown" in newest
    assert operator.told("list", "quiet") == "There are no dead letters.\n"
    (letter,) = json.loads(operator.told("list", "echo", "--json", "--limit", "1"))
    assert letter["prediction"] == second.text
    assert (letter["model"], letter["part"], letter["lane"]) == ("echo", 0, "bulk")
    assert (letter["strikes"], letter["attempts"], letter["replayable"]) == (0, 1, True)
    assert letter["died_at"].endswith("Z")
    assert letter["bytes"] > 100


async def test_a_model_that_was_taken_out_keeps_its_letters_in_the_list(
    real_lanes: LaneServer, worker: Consumer, operator: Operator, tmp_path: Path
) -> None:
    dead = await die(real_lanes, worker)
    (tmp_path / "models.toml").unlink()
    assert operator.told("list") == "There are no dead letters.\n"
    await real_lanes.redis.execute_command("SADD", real_lanes.keys.models, "echo")
    assert dead.text in operator.told("list")
    assert "no model catalog" in operator.refused("replay", dead.text)
    assert dead.text in operator.told("drop", dead.text, "--yes")


async def test_a_letter_is_shown_with_its_history_and_its_rows_shortened(
    real_lanes: LaneServer, worker: Consumer, operator: Operator
) -> None:
    rows: tuple[Row, ...] = (
        TextRow("a" * 500),
        TextRow("\x1b[2J"),
        TokensRow(tuple(range(50))),
        *(ValueRow(b'{"n": %d}' % n) for n in range(20)),
    )
    history = "1750000000000 attempt 1, run by w1, which was lost\nand another"
    dead = await die(real_lanes, worker, *rows, history=history)
    shown = operator.told("show", dead.text)
    assert shown.startswith(f"{dead.text}: failed\n")
    for said in (
        "on the bulk lane",
        "it killed its worker 4 times",
        "2 in 1 attempts",
        "2025-06-15 15:06:40Z  attempt 1, run by w1, which was lost",
        "?                     and another",
        f'256  "{"a" * 100}" … 500 characters',
        r'257  "\x1b[2J"',
        "258  [0, 1, 2, 3, … 50 numbers]",
        '259  {"n": 0}',
        "and 13 more",
    ):
        assert said in shown
    told: dict[str, Any] = json.loads(operator.told("show", dead.text, "--json"))
    assert (told["prediction"], told["model"], told["status"]) == (dead.text, "echo", "failed")
    (letter,) = told["letters"]
    assert letter["history"][0]["at"] == "2025-06-15T15:06:40Z"
    assert letter["rows"][0] == {"index": 256, "text": "a" * 500}
    assert letter["rows"][2]["tokens"] == list(range(50))
    assert letter["rows"][-1] == {"index": 278, "value": {"n": 19}}
    await real_lanes.redis.execute_command("DEL", real_lanes.echo.record(dead.text))
    assert "no longer kept" in operator.told("show", dead.text)


async def test_a_replay_prints_the_new_id(
    real_lanes: LaneServer, worker: Consumer, operator: Operator
) -> None:
    dead = [await die(real_lanes, worker) for _ in range(3)]
    (line,) = operator.told("replay", dead[0].text).splitlines()
    old, new = line.split(" is replayed as ")
    assert old == dead[0].text
    prediction = await Records(real_lanes.redis, real_lanes.keys).prediction(
        PredictionId.parse(new)
    )
    assert prediction is not None
    assert (prediction.status, prediction.retry_of) == (Status.STARTING, old)
    assert await letters_left(real_lanes) == 2
    lines = operator.told("replay", "--model", "echo", "--all").splitlines()
    # Oldest first.
    assert [line.split()[0] for line in lines] == [dead[1].text, dead[2].text]
    assert await letters_left(real_lanes) == 0
    assert (await view(real_lanes)).demand[Lane.BULK] == 3
    told = operator.told("replay", "--model", "echo", "--all")
    assert told == "There is no dead letter to replay.\n"


async def test_a_replay_stops_at_a_full_lane_and_says_how_far_it_came(
    real_lanes: LaneServer, worker: Consumer, operator: Operator
) -> None:
    rows = (ValueRow(b"1"),) * 3
    for _ in range(2):
        await die(real_lanes, worker, *rows, lane=Lane.REALTIME)
    said = operator.refused("replay", "--model", "echo", "--all")
    assert "no room for 3 more rows" in said
    assert "1 of 2 were replayed before it" in said
    assert await letters_left(real_lanes) == 1


async def test_a_replay_that_is_killed_has_neither_lost_nor_doubled_anything(
    real_lanes: LaneServer, operator: Operator
) -> None:
    worker = await join(real_lanes, dead_letter_max=1_000)
    dead = {(await die(real_lanes, worker)).text for _ in range(300)}
    process = operator.start("replay", "--model", "echo", "--all")
    assert process.stdout is not None
    # What nobody reads holds it up, so that it is not done before it is killed.
    if sys.platform == "linux":
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4_096)
    process.stdout.readline()
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    entries = await real_lanes.redis.execute_command(
        "XRANGE", real_lanes.echo.lane(Lane.BULK), "-", "+"
    )
    replayed = []
    for _, fields in entries:
        record = real_lanes.echo.record(fields[1].decode().rpartition(".")[0])
        replayed.append((await real_lanes.redis.execute_command("HGET", record, "rt")).decode())
    letters = await DeadLetters(real_lanes.redis, real_lanes.keys).every("echo")
    left = [letter.prediction for letter in letters]
    assert 1 <= len(replayed) < 300
    assert sorted(replayed + left) == sorted(dead)


async def test_one_letter_that_can_not_be_replayed_does_not_hold_up_the_others(
    real_lanes: LaneServer, worker: Consumer, operator: Operator
) -> None:
    foreign = encode(Computation((ValueRow(b"1"),), 0, LONG_MS, wire=99))
    bad = await die(real_lanes, worker, message=foreign)
    good = await die(real_lanes, worker)
    assert "another release wrote its rows" in operator.refused("replay", bad.text)
    ended = operator.run("replay", "--model", "echo", "--all")
    assert ended.returncode == 1
    assert ended.stdout.startswith(good.text)
    first, last = ended.stderr.splitlines()
    assert bad.text in first
    assert last == "forebay: 1 of 2 were not replayed."
    # What there is to see of it is shown all the same.
    shown = operator.run("show", bad.text)
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)
    assert "another release wrote its rows" in shown.stderr
    assert "it killed its worker" in shown.stdout


async def test_what_is_no_letter_can_be_listed_and_dropped_but_not_replayed(
    real_lanes: LaneServer, operator: Operator
) -> None:
    for computation in ("", f"{PredictionId.new('quiet').text}.0"):
        await real_lanes.redis.execute_command(
            "XADD", real_lanes.echo.dead, "*", "c", computation, "reason", "none"
        )
    assert operator.told("list").count("(can't be replayed)") == 2
    ended = operator.run("replay", "--model", "echo", "--all")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.splitlines()[-1] == "forebay: 2 of 2 were not replayed."
    assert operator.told("drop", "--model", "echo", "--all", "-y").startswith("dropped 2")


async def test_nothing_is_dropped_before_the_answer_is_yes(
    real_lanes: LaneServer, worker: Consumer, operator: Operator
) -> None:
    dead = [await die(real_lanes, worker) for _ in range(4)]
    for answer in ("n\n", ""):
        ended = operator.run("drop", dead[0].text, answer=answer)
        assert ended.returncode == 1
        assert "Drop 1 dead letter for good?" in ended.stdout
        assert await letters_left(real_lanes) == 4
    assert "Nothing was dropped" in operator.run("drop", dead[0].text, answer="n\n").stderr
    told = operator.told("drop", dead[0].text, dead[0].text, dead[1].text, answer="y\n")
    assert f"{dead[0].text}: dropped 1 dead letter\n" in told
    assert await letters_left(real_lanes) == 2
    told = operator.told("drop", "--model", "echo", "--all", "--yes")
    assert told == "dropped 2 dead letters of echo\n"
    assert await letters_left(real_lanes) == 0
    # Nothing to ask about.
    told = operator.told("drop", "--model", "echo", "--all")
    assert told == "dropped 0 dead letters of echo\n"


async def test_an_unknown_id_is_refused_before_anything_is_done(
    real_lanes: LaneServer, worker: Consumer, operator: Operator
) -> None:
    dead = await die(real_lanes, worker)
    unknown = PredictionId.new("echo").text
    for words in (("replay",), ("drop", "--yes")):
        said = operator.refused(*words, dead.text, unknown)
        assert f"no dead letter of {unknown}" in said
    assert f"no dead letter of {unknown}" in operator.refused("show", unknown)
    assert await letters_left(real_lanes) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("show", "nonsense"), "not a prediction id"),
        (("replay",), "Name predictions, or say --model MODEL --all"),
        (("replay", "--all"), "Name predictions"),
        (("drop", "--model", "echo"), "Name predictions"),
        (("drop", "x", "--model", "echo", "--all"), "Name predictions"),
        (("list", "nobody"), "no model 'nobody' here. Models: echo, quiet"),
        (("drop", "--model", "nobody", "--all", "--yes"), "no model 'nobody'"),
        (("replay", "--model", "nobody", "--all"), "no model 'nobody'"),
        (("list", "--limit", "0"), "--limit takes 1 or more"),
        (("list", "--redis-url", "redis://:secret@127.0.0.1:1"), "can't be asked"),
        (("list", "--redis-url", "nonsense"), "can't be understood"),
    ],
)
def test_what_is_wrong_is_one_line(operator: Operator, words: tuple[str, ...], said: str) -> None:
    line = operator.refused(*words)
    assert said in line
    assert "secret" not in line


def test_without_a_redis_it_says_how_to_name_one(tmp_path: Path) -> None:
    assert "FOREBAY_REDIS_URL" in Operator(tmp_path).refused("list")


async def test_what_redis_refuses_is_one_line(real_lanes: LaneServer, operator: Operator) -> None:
    await real_lanes.redis.execute_command("SET", real_lanes.echo.dead, "no stream")
    assert "WRONGTYPE" in operator.refused("list")
