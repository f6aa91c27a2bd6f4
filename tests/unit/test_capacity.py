"""The load model: its arithmetic, and that docs/scaling.md and docs/benchmarks.md say the same."""

import json
import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from forebay.autoscaler.capacity import Costs, Terms, capacity, shard_rate
from forebay.cli.main import app
from tests.bench import efficiency, forebay_server
from tests.bench.loads import HITS_64, MINILM_64
from tests.bench.results import read as kept
from tests.bench.stats import select

DOCS = Path(__file__).parents[2] / "docs"

rates = st.floats(min_value=0.1, max_value=1e7)
shares = st.floats(min_value=0, max_value=1)


def test_a_rate_takes_what_its_requests_take() -> None:
    costs = Costs(gateway_us=100, redis_us=50, row_us=1000, kept_bytes=1 << 20, kept_s=10, wait_s=0)
    found = capacity(6000, costs, Terms(busy=0.5, copies=2, core_price=1, gib_price=1))
    assert (found.gateways, found.shards, found.worker_cores) == (2, 1, 12)
    assert found.redis_gib == pytest.approx(6000 * 10 / 1024)
    assert found.price == pytest.approx(2 + 12 + 2 + 2 * found.redis_gib)
    assert found.per_million == pytest.approx(found.price / (6000 * 3600) * 1e6)


def test_what_the_cache_answers_takes_a_gateway_alone() -> None:
    found = capacity(100_000, Costs(hit_us=60), Terms(hits=1, busy=0.6))
    assert (found.gateways, found.shards, found.worker_cores) == (10, 1, 1)
    assert found.redis_gib == 0


@given(rate=rates, hits=shares, busy=st.floats(min_value=0.05, max_value=1))
def test_nothing_is_busier_than_it_may_be(rate: float, hits: float, busy: float) -> None:
    costs, terms = Costs(), Terms(hits=hits, busy=busy)
    found = capacity(rate, costs, terms)
    rows = rate * (1 - hits)
    for many, us in ((found.shards, costs.redis_us), (found.worker_cores, costs.row_us)):
        assert rows * us / 1e6 <= many * busy * (1 + 1e-9)
    assert rows <= found.shards * shard_rate(costs, terms) * (1 + 1e-9)


@given(rate=rates, hits=shares, more=st.floats(min_value=1, max_value=10))
def test_more_takes_no_less(rate: float, hits: float, more: float) -> None:
    terms = Terms(hits=hits)
    less, much = (capacity(one, Costs(), terms) for one in (rate, rate * more))
    assert less.gateways <= much.gateways
    assert less.shards <= much.shards
    assert less.worker_cores <= much.worker_cores
    assert less.price <= much.price * (1 + 1e-9)


def test_the_page_shows_what_its_commands_print() -> None:
    page = (DOCS / "scaling.md").read_text()
    commands = re.findall(r"^forebay (autoscale capacity .*)$", page, flags=re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        done = CliRunner().invoke(app, [*shlex.split(command), "--json"])
        assert done.exit_code == 0, done.output
        for one in json.loads(done.stdout):
            line = (
                f"| {one['rate']:,.0f} | {one['gateways']:,} | {one['shards']:,} | "
                f"{one['redis_gib']:,.1f} | {one['worker_cores']:,} | {one['price']:,.2f} | "
                f"{one['per_million']:.3f} |"
            )
            assert line in page, line


def test_what_is_taken_for_granted_was_measured() -> None:
    """Within a factor of two: a machine may be slower on the day of the next benchmark."""
    results, costs = kept(DOCS / "benchmarks.json"), Costs()
    used = efficiency.cpu_us(select(results.samples, forebay_server.NAME, MINILM_64.name))
    hits = efficiency.cpu_us(select(results.samples, forebay_server.NAME, HITS_64.name))
    rate_in, rate_out = (results.figures[f"queued-{way}-at-0"].median for way in ("in", "out"))
    measured = {
        "gateway_us": used["gateway"],
        "row_us": used["worker minilm"],
        "hit_us": hits["gateway"],
        "redis_us": 1e6 / rate_in + 1e6 / rate_out,
        "queued_bytes": results.figures["queued-bytes"].median,
    }
    for name, found in measured.items():
        assert 0.5 <= getattr(costs, name) / found <= 2, (name, found)


def test_a_person_is_shown_a_table() -> None:
    done = CliRunner().invoke(app, ["autoscale", "capacity", "1000", "--hits", "0.5"])
    assert done.exit_code == 0, done.output
    assert "worker cores" in done.output
    assert "One model has its lanes on one shard: 8,955 rows a second at most." in done.output


@pytest.mark.parametrize("words", [["0"], ["-5"], ["10", "--hits", "2"], ["10", "--busy", "0"], []])
def test_what_makes_no_sense_is_refused(words: list[str]) -> None:
    assert CliRunner().invoke(app, ["autoscale", "capacity", *words]).exit_code == 2
