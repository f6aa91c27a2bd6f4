"""A small client of the native job API, on the standard library alone."""

import base64
import contextlib
import http.client
import json
import math
import os
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast
from urllib import error, parse, request

from forebay.contract.errors import ForebayError, InvalidInput, Unavailable
from forebay.contract.rows import Task
from forebay.local.welcome import API_KEY
from forebay.runtime import catalog

POLL_S = 0.25
LONGEST_PREFER_S = 60
"""The gateway lets nobody wait longer in one request."""

MARGIN_S = 5.0
"""What an answer may take beyond the time it was told to wait."""

LEAST_WAIT_S = 0.1

TERMINAL = frozenset({"succeeded", "failed", "canceled"})


def check_wait(wait_s: float) -> None:
    """Make sure that a wait is one that has an end.

    Raises:
        InvalidInput: it is too short, endless, or no number.
    """
    if not LEAST_WAIT_S <= wait_s < math.inf:
        raise InvalidInput(
            f"--wait takes a number of seconds, {LEAST_WAIT_S} or more, and not {wait_s:g}."
        )


def check_url(url: str) -> str:
    """Make sure that a gateway's URL is one; returns it without a slash at its end.

    Raises:
        InvalidInput: it can't be understood, or says more than where the gateway is.
    """
    try:
        parts = parse.urlsplit(url)
        host = parts.hostname or ""
        host.encode("idna")
        port = parts.port
    except ValueError as fault:
        raise _no_url(url, str(fault)) from fault
    if parts.scheme not in ("http", "https"):
        raise _no_url(url, "it is no http:// or https:// URL")
    if not host or port == 0:
        raise _no_url(url, "it names no host" if not host else "nothing listens on port 0")
    if parts.username is not None or parts.query or parts.fragment:
        raise _no_url(url, "only host, port and path belong there")
    if not url.isprintable() or " " in url or not parts.path.isascii():
        raise _no_url(url, "it has characters that no URL has")
    return url.rstrip("/")


def ask(url: str, model: str, input_: object, *, wait_s: float) -> dict[str, Any]:
    """Make a prediction and wait for its end.

    Args:
        url: the gateway's.
        model: its name.
        input_: its input, as the model takes it.
        wait_s: longest wait, seconds.

    Returns:
        The prediction, in a terminal state or, once the time is over, as it is.

    Raises:
        InvalidInput: the URL is none, or the input can't be sent as JSON.
        Unavailable: no gateway answers there.
        ForebayError: the gateway refused; its words.
    """
    base = f"{check_url(url)}/v1/predictions"
    deadline = time.monotonic() + wait_s
    prefer = max(1, min(int(wait_s), LONGEST_PREFER_S))
    prediction = ask_for(
        base,
        body={"version": model, "input": input_},
        headers={"Prefer": f"wait={prefer}"},
        timeout_s=prefer + MARGIN_S,
    )
    while prediction["status"] not in TERMINAL and time.monotonic() < deadline:
        time.sleep(POLL_S)
        id_ = parse.quote(str(prediction["id"]))
        prediction = ask_for(f"{base}/{id_}", timeout_s=MARGIN_S)
    return prediction


def read_input(text: str, task: Task | None) -> object:
    """What to send for an input as typed.

    Args:
        text: a text, or the whole input as a JSON object; for a python model also a list of them,
            for one of images also the path of a file. One that generates is asked it as a chat.
        task: the model's, if it is known here; it says which field a text goes to.

    Raises:
        InvalidInput: it looks like JSON and is not, is no text, or no file that can be read.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("The input is no text: it is not UTF-8.") from None
    first = text.lstrip()[:1]
    if first != "{" and task is Task.IMAGE_CLASSIFICATION:
        return {"image": _image(text)}
    if first != "{" and task is Task.TENSORS:
        raise InvalidInput(
            'This model takes tensors, as a JSON object: {"NAME": [[1.0, 2.0]]}. `forebay models '
            "check` lists their names."
        )
    if first != "{" and task is Task.GENERATION:
        # The most likely text: what small models draw by chance soon makes no sense.
        return {"messages": [{"role": "user", "content": text}], "temperature": 0}
    if first != "{" and (first != "[" or task not in (Task.PYTHON, Task.PIPELINE)):
        return {"value" if task is Task.ECHO else "text": text}
    try:
        return json.loads(text)
    except ValueError as fault:
        raise InvalidInput(
            f"The input starts with '{first}' but is not JSON: {fault}. A text can be given as "
            'JSON too: {"text": "…"}.'
        ) from fault
    except RecursionError:
        raise InvalidInput("The input nests too deeply.") from None


def _image(text: str) -> str:
    """The image that was meant: a file's, in base64, or what was typed where it is a URL."""
    if text.startswith(("data:", "http://", "https://")):
        return text
    try:
        return base64.b64encode(Path(text).read_bytes()).decode()
    except (OSError, ValueError) as fault:
        raise InvalidInput(f"The image {text[:200]!r} can't be read: {fault}.") from fault


def task_of(model: str, models_file: Path) -> Task | None:
    """The model's task by the catalog on this machine, which need not be the gateway's."""
    try:
        return catalog.read(models_file).find(model.partition(":")[0]).task
    except ForebayError:
        return None


def ask_for(
    url: str,
    *,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float,
) -> dict[str, Any]:
    """One request whose answer is a prediction; a POST if it has a body.

    Raises:
        InvalidInput: the body can't be sent as JSON.
        Unavailable: no gateway answers there.
        ForebayError: the gateway refused; its words.
    """
    with answered(url, body=body, headers=headers, timeout_s=timeout_s) as answer:
        try:
            return _prediction(json.load(answer))
        except (ValueError, RecursionError) as fault:
            raise Unavailable(f"What answers at {url} is no Forebay gateway: {fault}.") from fault


@contextlib.contextmanager
def answered(
    url: str,
    *,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float,
) -> Generator[http.client.HTTPResponse]:
    """One request, and its answer while it comes; raises what `ask_for` does.

    Args:
        url: where.
        body: makes it a POST.
        headers: further ones.
        timeout_s: longest wait for the next bytes.
    """
    data = None if body is None else _encode(body)
    head = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
    if key := os.environ.get(API_KEY):
        head["Authorization"] = f"Bearer {key}"
    try:
        with request.urlopen(  # noqa: S310 - the scheme has been checked
            request.Request(url, data=data, headers=head),  # noqa: S310
            timeout=timeout_s,
        ) as answer:
            yield answer
    except BrokenPipeError:
        raise  # whoever read what was printed of it, not the gateway
    except error.HTTPError as fault:
        raise ForebayError(_refusal(fault)) from fault
    except (OSError, http.client.HTTPException) as fault:
        reason = getattr(fault, "reason", fault)
        raise Unavailable(
            f"No gateway answers at {url}: {reason}. Start one with `forebay up`."
        ) from fault
    except ValueError as fault:
        raise Unavailable(f"What answers at {url} is no Forebay gateway: {fault}.") from fault


def _encode(body: dict[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as fault:
        raise InvalidInput(
            f"The input has a number that JSON can't say: {fault}. Numbers go up to about 1e308."
        ) from fault


def _prediction(answer: object) -> dict[str, Any]:
    """The answer, if it has what a prediction has.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(answer, dict):
        prediction = cast("dict[str, Any]", answer)
        if all(isinstance(prediction.get(field), str) for field in ("id", "status")):
            return prediction
    raise ValueError("its answer is no prediction")


def _refusal(fault: error.HTTPError) -> str:
    """The gateway's own words, as RFC 9457 or OpenAI has them; else just the status."""
    try:
        problem = json.load(fault)
        if "error" in problem:
            return str(problem["error"]["message"])
        return str(problem.get("detail") or problem["title"])
    except (
        ValueError,
        RecursionError,
        KeyError,
        AttributeError,
        TypeError,
        OSError,
        http.client.HTTPException,
    ):
        return f"The gateway answered {fault.code} {fault.reason}."


def _no_url(url: str, why: str) -> InvalidInput:
    return InvalidInput(f"{url!r} can't be a gateway's URL: {why}. Write it as http://HOST:PORT.")
