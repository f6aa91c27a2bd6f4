"""Generated text in a terminal: shown as it is written, and talked with."""

import contextlib
import json
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any
from urllib import parse

from forebay.cli.predict import MARGIN_S, answered, ask_for, check_url
from forebay.contract.errors import DeadlineExceeded, ForebayError
from forebay.contract.rows import Task

PROMPT = "> "


def grows(task: Task | None, input_: object) -> bool:
    """Whether what comes of an input is one text, which can be shown while it is generated."""
    several = isinstance(input_, dict) and isinstance(input_.get("prompt"), list)
    return task is Task.GENERATION and not several


def show(url: str, model: str, input_: object, *, wait_s: float) -> None:
    """Make a prediction and print its text while it is generated.

    Whoever stops it, or has no more time for it, cancels it.

    Args:
        url: the gateway's.
        model: its name.
        input_: its input, as the model takes it.
        wait_s: longest wait for the end, seconds.

    Raises:
        DeadlineExceeded: the time is over.
        ForebayError: the gateway refused, or the prediction did not succeed; says why.
    """
    base = f"{check_url(url)}/v1/predictions"
    body = {"version": model, "input": input_, "stream": True}
    made = ask_for(base, body=body, timeout_s=MARGIN_S)
    prediction = f"{base}/{parse.quote(str(made['id']))}"
    ended = False
    try:
        with answered(f"{prediction}/stream", timeout_s=wait_s) as lines:
            for name, data in events(_within(lines, wait_s)):
                if name == "output":
                    print(data, end="", flush=True)
                elif name == "error":
                    ended = True
                    print()
                    raise ForebayError(f"The prediction failed: {json.loads(data)['detail']}")
                elif name == "done":
                    ended = True
                    _finish(json.loads(data))
                    return
        raise ForebayError("The gateway hung up before the text was done.")
    finally:
        if not ended:
            print()
            with contextlib.suppress(ForebayError):
                ask_for(f"{prediction}/cancel", body={}, timeout_s=MARGIN_S)


def converse(url: str, model: str, *, system: str | None = None, wait_s: float) -> None:
    """Chat with a model until the input ends. Ctrl-C ends an answer.

    Args:
        url: the gateway's.
        model: its name.
        system: what the model is told before anything else.
        wait_s: longest wait for the next piece of an answer, seconds.

    Raises:
        ForebayError: the first message was refused; says why.
    """
    path = f"{check_url(url)}/v1/chat/completions"
    messages = [{"role": "system", "content": system}] if system else []
    answers = 0
    while (said := _read()) is not None:
        if not said.strip():
            continue
        messages.append({"role": "user", "content": said})
        body = {"model": model, "messages": messages, "stream": True, "temperature": 0}
        written: list[str] = []
        try:
            for piece in _pieces(path, body, wait_s):
                written.append(piece)
                print(piece, end="", flush=True)
            print()
        except KeyboardInterrupt:
            print(" …")
        except ForebayError as error:
            if not answers:
                raise
            print(f"forebay: {error.message}", file=sys.stderr)
            messages.pop()
            continue
        answers += 1
        messages.append({"role": "assistant", "content": "".join(written)})


def events(lines: Iterable[bytes]) -> Iterator[tuple[str, str]]:
    """Server-Sent Events: the name and the data of each."""
    name, data = "message", list[str]()
    for raw in lines:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        if not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)


def _pieces(path: str, body: dict[str, Any], wait_s: float) -> Generator[str]:
    with answered(path, body=body, timeout_s=wait_s) as lines:
        for _, data in events(lines):
            if data == "[DONE]":
                return
            told = json.loads(data)
            if "error" in told:
                raise ForebayError(told["error"]["message"])
            for choice in told["choices"]:
                yield choice["delta"].get("content") or ""


def _within(lines: Iterable[bytes], wait_s: float) -> Iterator[bytes]:
    """Lines, until the time is over; a gateway that has nothing to tell sends comments."""
    until = time.monotonic() + wait_s
    for line in lines:
        if time.monotonic() > until:
            raise DeadlineExceeded(
                f"The text was not done within {wait_s:g} s: give it a longer --wait."
            )
        yield line


def _read() -> str | None:
    """The next message; None where there is none."""
    try:
        return input(PROMPT if sys.stdin.isatty() else "")
    except EOFError:
        return None


def _finish(done: dict[str, Any]) -> None:
    print()
    if done.get("reason"):
        raise ForebayError(f"The prediction was {done['reason']}.")
