"""Queues beside each other: who takes part, how clients are asked, what their answers come to."""

import os
import sys
from pathlib import Path

import msgspec
import pytest

from tests.bench import environments, jobs
from tests.bench.jobs import Client, Measured, Took
from tests.bench.processes import StartError

FAITHFUL = """
import sys
for line in sys.stdin:
    print('{"ran_s": 0.5, "seconds": %d, "wrong": 1}' % int(line), flush=True)
"""


def client(code: str, folder: Path) -> Client:
    command = [sys.executable, "-c", code]
    return Client(command, env=dict(os.environ), cwd=folder, log=folder / "client.log")


def measured(name: str, *rates: float) -> Measured:
    by_round = dict(enumerate(rates))
    halved = {round_: rate / 2 for round_, rate in by_round.items()}
    return Measured(name, name.capitalize(), "1.0", by_round, halved, 0)


def test_every_queue_says_how_its_worker_is_started_and_is_pinned() -> None:
    found = jobs.find()
    assert set(found) == {"arq", "celery", "dramatiq", "rq", "saq", "streaq", "taskiq"}
    for name, queue in found.items():
        assert queue.environment in environments.names()
        assert name in environments.pins(queue.environment)
        assert queue.worker


def test_wrong_results_are_no_throughput(tmp_path: Path) -> None:
    it = client(FAITHFUL, tmp_path)
    try:
        assert it.run(10) == Took(0.5, 10.0, 1)
        (found,) = jobs.measure([it], ["celery"], jobs.find(), rounds=2, jobs=10)
    finally:
        it.stop()
    assert found.ran_s == {0: 18.0, 1: 18.0}
    assert found.answered_s == {0: 0.9, 1: 0.9}
    assert found.wrong == 3  # one of them while it was warmed


def test_a_client_that_ends_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    it = client("import sys; print('no broker', file=sys.stderr)", tmp_path)
    try:
        with pytest.raises(StartError, match="no broker"):
            it.run(10)
    finally:
        it.stop()


def test_the_table_has_the_quickest_first_and_ratios_of_the_same_rounds() -> None:
    rows = jobs.table([measured("slow", 10, 40), measured(jobs.FOREBAY, 20, 40)]).rows
    assert [row[0] for row in rows] == ["Forebay 1.0", "Slow 1.0"]
    assert rows[0][3] == "–"
    assert rows[1][1:4] == ("25", "10–40", "1.5×")


def test_a_queue_is_shown_without_forebay_too() -> None:
    ((*_, ratio, failed),) = jobs.table([measured("alone", 10)]).rows
    assert (ratio, failed) == ("–", "0")


def test_a_header_with_a_field_we_do_not_know_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = '# /// script\n# [tool.jobs]\n# title = "x"\n# colour = 1\n# ///\n'
    (tmp_path / "x_jobs.py").write_text(source)
    monkeypatch.setattr(jobs, "FOLDER", tmp_path)
    with pytest.raises(msgspec.ValidationError, match="colour"):
        jobs.find()
