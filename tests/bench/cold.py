"""Cold starts: from no worker at all to the first result, as whoever asks first waits for it."""

import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.forebay_server import ForebayServer
from tests.bench.loads import Target, Workload, to_json
from tests.bench.processes import StartError
from tests.bench.stats import Figures, spread
from tests.fixtures.catalogs import shipped, write

IDLE_S = 1
"""How long a worker stays with nothing to do."""

GONE_S = 60.0
SETTLED_S = 1.0
ANSWER_S = 60.0
POLL_S = 0.1


def target(base: str, model: Workload) -> Target:
    """How a model is asked for the least that it gives."""
    if model is Workload.MINILM:
        return Target(
            f"{base}/v1/embeddings",
            lambda text: to_json({"model": model, "input": text}),
            marker='"object":"embedding"',
        )
    return Target(
        f"{base}/v1/chat/completions",
        lambda text: to_json(
            {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 1}
        ),
        marker='"choices"',
    )


def measure(root: Path, artifacts: Path, model: Workload, times: int) -> Figures:
    """Seconds from a request to its result, nobody being there to run it.

    Args:
        root: the repository.
        artifacts: folder of built models.
        model: `minilm` or `smollm2`; it is all that is served.
        times: how often.

    Raises:
        StartError: Forebay does not come up, gives no right answer, or its worker does not go.
    """
    with tempfile.TemporaryDirectory(prefix="forebay-cold-") as name:
        folder = Path(name)
        models = write(_catalog(model), folder / "models.toml")
        server = ForebayServer(
            root, home=folder / "home", artifacts=artifacts, log=folder / "log", models=models
        )
        try:
            server.wait_until_ready()
            asked = target(f"http://127.0.0.1:{server.port}", model)
            took = [_one(server, asked, model, number) for number in range(times + 1)]
        finally:
            server.stop()
    found = spread(took[1:])  # the first of all makes what later ones find
    return {} if found is None else {f"cold-{model}": found}


def _one(server: ForebayServer, asked: Target, model: Workload, number: int) -> float:
    deadline = time.monotonic() + GONE_S
    while server.replicas(model):
        if time.monotonic() > deadline:
            raise StartError(f"The worker of {model} is still there after {GONE_S:.0f} s.")
        time.sleep(POLL_S)
    time.sleep(SETTLED_S)
    began = time.perf_counter()
    answer = asked.ask(f"Text number {number}.", timeout_s=ANSWER_S)
    took = time.perf_counter() - began
    if asked.marker.encode() not in answer:
        raise StartError(f"{asked.url} gives no right answer: {answer[:200]!r}")
    return took


def _catalog(model: Workload) -> dict[str, Any]:
    models = shipped(model)
    models[model]["replicas"] = {"min": 0, "max": 1, "idle_s": IDLE_S}
    return models
