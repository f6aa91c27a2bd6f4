"""How peers are asked: each takes and gives JSON in one of these forms."""

import json
from collections.abc import Callable
from enum import StrEnum

from tests.bench.loads import Target, Workload, to_json


class Dialect(StrEnum):
    """The form of a peer's requests and answers.

    `plain`: {"input": …} gives {"output": …}, or {"embedding": [floats]}. `list`: {"input": […]}
    of one gives a list of one output or vector. `openai`: as OpenAI's embeddings, or chats.
    """

    PLAIN = "plain"
    LIST = "list"
    OPENAI = "openai"

    def target(self, url: str, app: Workload) -> Target:
        """How this workload is sent to this address."""
        match self:
            case Dialect.PLAIN:
                return _target(url, app, lambda given: {"input": given}, '"output"', _plain)
            case Dialect.LIST:
                return _target(url, app, lambda given: {"input": [given]}, '"value"', _list)
            case Dialect.OPENAI:
                model = app.value
                if app is Workload.SMOLLM2:
                    return _chat_target(url)

                def ask(given: object) -> object:
                    return {"model": model, "input": given}

                return _target(url, app, ask, "", _openai)


def _target(
    url: str,
    app: Workload,
    ask: Callable[[object], object],
    null_marker: str,
    vector: Callable[[bytes], list[float]],
) -> Target:
    if app is Workload.NULL:
        body = to_json(ask({"value": 1}))
        return Target(url, lambda _: body, marker=null_marker)
    marker = "[[" if vector is _list else '"embedding"'
    return Target(url, lambda text: to_json(ask(text)), marker=marker, vector=vector)


def _chat_target(url: str) -> Target:
    def encode(text: str) -> bytes:
        messages = [{"role": "user", "content": text}]
        return to_json({"messages": messages, "max_tokens": 1})

    return Target(url, encode, marker='"choices"')


def _plain(body: bytes) -> list[float]:
    vector: list[float] = json.loads(body)["embedding"]
    return vector


def _list(body: bytes) -> list[float]:
    (vector,) = json.loads(body)
    return list(vector)


def _openai(body: bytes) -> list[float]:
    vector: list[float] = json.loads(body)["data"][0]["embedding"]
    return vector
