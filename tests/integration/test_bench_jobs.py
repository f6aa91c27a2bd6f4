"""Forebay's side of the bare job rate, with a real worker and a real server."""

from pathlib import Path

from tests.bench import jobs


def test_forebay_runs_its_jobs_and_answers_all_of_them_right(tmp_path: Path) -> None:
    with jobs.clients([None], tmp_path) as (client,):
        took = client.run(3_000)
    assert took.wrong == 0
    assert 0 < took.ran_s <= took.seconds
