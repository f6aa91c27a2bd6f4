"""What `forebay up` says once it is ready: where it is, and three commands to paste."""

import importlib.util
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from forebay.contract.model import ModelSpec
from forebay.contract.rows import Task

EXAMPLE = "Water finds its level."


API_KEY = "FOREBAY_API_KEY"
"""Variable that `forebay predict` takes its key from: on a command line others could read it."""

HOW_TO_GET_A_KEY = (
    f"Requests take an API key. To have one: export {API_KEY}=$(forebay keys create)\n"
)


class Address(msgspec.Struct, frozen=True):
    """Where the gateway listens."""

    host: str
    port: int

    @property
    def reachable(self) -> str:
        """An address that a client on this machine can use."""
        return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    @property
    def target(self) -> str:
        """Host and port, as seen from this machine."""
        host = f"[{self.reachable}]" if ":" in self.reachable else self.reachable
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The gateway's URL, as seen from this machine."""
        return f"http://{self.target}"


class Ready(msgspec.Struct, frozen=True):
    """Everything is ready.

    Attributes:
        seconds: what the whole start took.
        grpc: where gRPC is spoken, if it is.
        resting: names of models whose worker is started by the first request.
        unserved: of each model that is too big for its worker, a sentence that says so.
        asks_for_keys: whether a request takes an API key.
    """

    address: Address
    models: tuple[ModelSpec, ...]
    seconds: float
    grpc: Address | None = None
    resting: tuple[str, ...] = ()
    unserved: tuple[str, ...] = ()
    asks_for_keys: bool = False


def commands(ready: Ready) -> list[str]:
    """Three commands that show it work: curl, Forebay's own client, and the openai package."""
    url = ready.address.url
    embedder = next((spec for spec in ready.models if spec.task is Task.EMBEDDING), None)
    echo = next((spec for spec in ready.models if spec.task is Task.ECHO), None)
    asked = embedder or echo
    forebay = _program("forebay", Path(sys.executable).with_name("forebay"))
    if embedder is not None:
        path = "/v1/embeddings"
        body = json.dumps({"model": embedder.name, "input": EXAMPLE})
        call = f"embeddings.create(model='{embedder.name}', input='{EXAMPLE}').data[0].embedding"
        shown = f"{call}[:4]"
    else:
        path = "/v1/predictions"
        body = json.dumps({"version": echo.name if echo else "", "input": {"value": EXAMPLE}})
        shown = "models.list().data"
    bearer = f'-H "Authorization: Bearer ${API_KEY}" ' if ready.asks_for_keys else ""
    post = f"{bearer}{url}{path} -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    wait = "" if embedder is not None else "-H 'Prefer: wait' "
    python = _program("python", Path(sys.executable))
    key = f"os.environ['{API_KEY}']" if ready.asks_for_keys else "'none'"
    snippet = (
        f"{'import os; ' if ready.asks_for_keys else ''}from openai import OpenAI; "
        f"print(OpenAI(base_url='{url}/v1', api_key={key}).{shown})"
    )
    install = "" if importlib.util.find_spec("openai") else f"{python} -m pip install -q openai && "
    if asked is None:
        # What a python model takes is its own: `check` tells.
        first, second = (
            f"curl {bearer}{url}/v1/models",
            f"{forebay} models check {ready.models[0].name}",
        )
    else:
        first = f"curl {wait}{post}"
        second = f"{forebay} predict --url {url} {asked.name} {shlex.quote(EXAMPLE)}"
    return [
        first,
        second,
        f'{install}{python} -c "{snippet}"',
    ]


def text(ready: Ready) -> str:
    """The whole message."""
    models = ", ".join(spec.name for spec in ready.models)
    grpc = [] if ready.grpc is None else [f"gRPC (Open Inference Protocol): {ready.grpc.target}"]
    names = "each" if len(ready.resting) == len(ready.models) else ", ".join(ready.resting)
    resting = [f"Started by the first request: {names}"] if ready.resting else []
    lines: Sequence[str] = [
        f"Forebay is ready at {ready.address.url} after {ready.seconds:.1f} s.",
        *grpc,
        f"Models: {models}",
        *resting,
        *(f"Not served: {why}" for why in ready.unserved),
        "",
        *([HOW_TO_GET_A_KEY] if ready.asks_for_keys else []),
        "Try:",
        *(f"  {command}" for command in commands(ready)),
        "",
        "Ctrl-C drains and stops.",
    ]
    return "\n".join(lines)


def _program(name: str, path: Path) -> str:
    """How to call a program of this environment from the current folder."""
    found = shutil.which(name)
    if found is not None and Path(found).parent == path.parent:
        return name
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)
