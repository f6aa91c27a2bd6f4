"""Forebay as a contender: started as its users start it, `forebay up`, on its own Redis."""

import json
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from urllib import request

import msgspec

from forebay.contract.model import ModelSpec
from forebay.inference.backends.load import load
from forebay.inference.backends.onnx import OnnxModel
from forebay.local.server import free_port
from forebay.storage.artifacts import ArtifactStore
from tests.bench import guarded
from tests.bench.loads import HttpContender, Target, Workload, to_json
from tests.bench.processes import (
    POLL_S,
    Process,
    StartError,
    command_line,
    descendants,
    peak_rss_bytes,
)
from tests.bench.vectors import from_base64
from tests.fixtures.catalogs import shipped, small_catalog, write

START_TIMEOUT_S = 90.0
NAME = "forebay"
BASE64 = f"{NAME}-base64"
UNCACHED = f"{NAME}-uncached"
EXTRA = {NAME: False, BASE64: True, UNCACHED: True}
"""The ways in which it is asked, and whether a quick run leaves them out."""


class WorkerMemory(msgspec.Struct, frozen=True):
    """The most memory that the worker of a model has held at once."""

    model: str
    peak_bytes: int


class ForwardPasses(msgspec.Struct, frozen=True):
    """How a worker runs its model on this machine.

    Attributes:
        at_once: forward passes side by side.
        threads: threads of each.
        max_tokens: most padded tokens in one, beside the limit of rows that everybody has.
    """

    at_once: int
    threads: int
    max_tokens: int


def forward_passes(spec: ModelSpec, home: Path) -> ForwardPasses:
    """What a worker makes of this spec, by the code with which a worker loads it.

    Args:
        spec: a model that is run by ONNX Runtime.
        home: has its artifact.

    Raises:
        ArtifactError: there is no artifact, or it does not load.
    """
    backend = load(spec, ArtifactStore(home))
    try:
        assert isinstance(backend, OnnxModel)
        return ForwardPasses(backend.streams, backend.threads, spec.batch.max_tokens)
    finally:
        backend.close()


class ForebayServer:
    """A running `forebay up`.

    Args:
        root: the repository; holds `models.toml`, whose `minilm` and `echo` are served.
        home: a folder of its own for everything it writes.
        artifacts: folder of built models, linked into the home so that nothing is built again.
        log: takes its output.
        models: the catalog, if it isn't the shipped one without the model that writes, whose
            workers are always there.
        env: what its environment says besides; see `guarded`.

    Attributes:
        key: what clients send as their API key, if keys are asked for; see `ask_for_keys`.
    """

    def __init__(
        self,
        root: Path,
        *,
        home: Path,
        artifacts: Path,
        log: Path,
        models: Path | None = None,
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.key = ""
        home.mkdir(parents=True, exist_ok=True)
        link = home / "artifacts"
        if not link.exists():
            link.unlink(missing_ok=True)
            link.symlink_to(artifacts.resolve())
        self.port = free_port()
        own = {name: v for name, v in os.environ.items() if not name.startswith("FOREBAY_")}
        own |= {
            "FOREBAY_HOME": str(home),
            "FOREBAY_MODELS_FILE": str(models or small_catalog(home)),
            **env,
        }
        self._process = Process(
            [str(program()), "up", "--port", str(self.port)], env=own, cwd=root, log=log
        )

    @property
    def pid(self) -> int:
        """Of its supervisor."""
        return self._process.pid

    @property
    def program(self) -> Process:
        """Its supervisor."""
        return self._process

    def wait_until_ready(self) -> None:
        """Return once `/health/ready` says so.

        Raises:
            StartError: it ended first, or the time is over.
        """
        url = f"http://127.0.0.1:{self.port}/health/ready"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            self._process.check()
            with suppress(OSError), request.urlopen(url, timeout=2) as response:
                if response.status == 200:
                    return
            time.sleep(POLL_S)
        raise StartError(
            f"Forebay is not ready after {START_TIMEOUT_S:.0f} s. {self._process.log_end()}"
        )

    def ask_for_keys(self) -> None:
        """Have a key made that clients are to send; it takes one, and is ready.

        Raises:
            StartError: there is none to be had.
        """
        url = self.redis_url()
        if url is None:
            raise StartError("Forebay's Redis is not to be found.")
        self.key = guarded.make_key(str(program()), url)

    @property
    def headers(self) -> dict[str, str]:
        """What clients send with everything."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}

    def replicas(self, model: str) -> int:
        """Workers of a model that are present."""
        url = f"http://127.0.0.1:{self.port}/health/ready"
        with request.urlopen(url, timeout=10) as response:
            return int(json.load(response)["models"][model]["replicas"])

    def stop(self) -> None:
        """Let it drain and end."""
        self._process.stop(grace_s=40)

    def redis_url(self) -> str | None:
        """URL of the server it embeds, from that server's own command line or title."""
        for pid in descendants(self._process.pid):
            url = read_redis_url(command_line(pid))
            if url is not None:
                return url
        return None

    def worker_memory(self) -> list[WorkerMemory]:
        """Peak memory of each worker process, the largest first."""
        found = []
        for pid in descendants(self._process.pid):
            model, peak = read_worker_model(command_line(pid)), peak_rss_bytes(pid)
            if model is not None and peak is not None:
                found.append(WorkerMemory(model, peak))
        return sorted(found, key=lambda memory: -memory.peak_bytes)


def read_redis_url(command: str) -> str | None:
    """Where a Redis or Valkey server listens, if the command line is one of theirs.

    These servers write it there themselves once they are up: `valkey-server 127.0.0.1:6379`.
    """
    port = re.search(r"\b(?:redis|valkey)-server\s+\S*:([1-9]\d*)\b", command)
    return f"redis://127.0.0.1:{port[1]}/0" if port else None


def read_worker_model(command: str) -> str | None:
    """The model that a process serves, if the command line is a worker's."""
    match = re.search(r"\bforebay\.cli worker (\S+)", command)
    return match[1] if match else None


def cached_catalog(folder: Path) -> Path:
    """A catalog like the shipped one, of MiniLM alone, whose answers are kept."""
    models = shipped(Workload.MINILM)
    models[Workload.MINILM].pop("replicas", None)
    models[Workload.MINILM]["cache"] = {"enabled": True}
    return write(models, folder / "cached.toml")


def contenders(server: ForebayServer) -> list[HttpContender]:
    """Forebay asked as its peers are; as the openai client asks; and past its cache."""
    base = f"http://127.0.0.1:{server.port}"
    echo = to_json({"version": "echo", "input": {"value": 1}})
    return [
        HttpContender(
            NAME,
            "Forebay",
            {
                Workload.NULL: Target(
                    f"{base}/v1/predictions",
                    lambda _: echo,
                    marker='"status":"succeeded"',
                    headers={"Prefer": "wait", **server.headers},
                ),
                Workload.MINILM: _embeddings(base, "float", server.headers),
            },
        ),
        HttpContender(
            BASE64,
            "Forebay, base64",
            {Workload.MINILM: _embeddings(base, "base64", server.headers)},
            extra=EXTRA[BASE64],
        ),
        HttpContender(
            UNCACHED,
            "Forebay, past its cache",
            {
                Workload.MINILM: _embeddings(
                    base, "float", {"Cache-Control": "no-store", **server.headers}
                )
            },
            extra=EXTRA[UNCACHED],
        ),
    ]


def _embeddings(base: str, encoding: str, headers: Mapping[str, str]) -> Target:
    def encode(text: str) -> bytes:
        return to_json({"model": "minilm", "input": text, "encoding_format": encoding})

    return Target(
        f"{base}/v1/embeddings",
        encode,
        marker='"object":"embedding"',
        headers=headers,
        vector=_read_vector,
    )


def _read_vector(body: bytes) -> list[float]:
    vector: str | list[float] = json.loads(body)["data"][0]["embedding"]
    return from_base64(vector) if isinstance(vector, str) else vector


def program() -> Path:
    """The `forebay` command of this environment."""
    return Path(sys.executable).with_name("forebay")
