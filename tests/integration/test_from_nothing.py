"""The models that are shipped, as `forebay up` has them: none runs until it is asked for.

The one that writes has its own tests (`test_smollm2`); here it would take minutes to build.
"""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from forebay.runtime import catalog
from tests.fixtures.catalogs import SHIPPED, shipped, write
from tests.fixtures.processes import workers_of
from tests.fixtures.stack import Stack, running_stack
from tests.fixtures.waiting import PATIENCE_S, eventually_sync

MODELS = ("minilm", "echo")


def workers(stack: Stack) -> list[str]:
    """Models that have a process, each as often as it has one."""
    return [model for model in MODELS for _ in workers_of(stack.process, model)]


@pytest.fixture
def stack(minilm_home: Path, tmp_path: Path) -> Iterator[Stack]:
    """With the shipped tables, but for how long the last one stays."""
    models = shipped(*MODELS)
    for model in models.values():
        model["replicas"]["idle_s"] = 2
    path = write(models, tmp_path / "models.toml")
    with running_stack(minilm_home, tmp_path, models_file=str(path)) as made:
        yield made


def test_all_that_is_shipped_starts_from_none() -> None:
    assert all(spec.replicas.from_zero for spec in catalog.read(SHIPPED).wanted)


def test_a_model_runs_once_it_is_asked_for_and_no_longer_than_that(stack: Stack) -> None:
    assert workers(stack) == []
    assert "Started by the first request: each" in stack.output

    body = {"model": "minilm", "input": "A river feeds the lake."}
    asked = httpx.post(f"{stack.url}/v1/embeddings", json=body, timeout=PATIENCE_S)
    assert len(asked.raise_for_status().json()["data"][0]["embedding"]) == 384
    assert workers(stack) == ["minilm"]

    call = {"version": "echo", "input": {"value": 1}}
    now = {"Prefer": "wait"}
    said = httpx.post(f"{stack.url}/v1/predictions", json=call, headers=now, timeout=PATIENCE_S)
    assert said.json()["output"] == 1, said.text

    eventually_sync(lambda: workers(stack) == [], what=lambda: stack.output)
    assert httpx.get(f"{stack.url}/health/ready").is_success
