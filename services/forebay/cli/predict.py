"""A small client of the native job API, on the standard library alone."""

import http.client
import json
import time
from pathlib import Path
from typing import Any, cast
from urllib import error, parse, request

from forebay.contract.errors import ForebayError, InvalidInput, Unavailable
from forebay.contract.rows import Task
from forebay.runtime import catalog

POLL_S = 0.25
LONGEST_PREFER_S = 60
"""The gateway lets nobody wait longer in one request."""

MARGIN_S = 5.0
"""What an answer may take beyond the time it was told to wait."""

TERMINAL = frozenset({"succeeded", "failed", "canceled"})


def ask(url: str, model: str, input_: dict[str, Any], *, wait_s: float) -> dict[str, Any]:
    """Make a prediction and wait for its end.

    Args:
        url: the gateway's.
        model: its name.
        input_: its input, as the model takes it.
        wait_s: longest wait, seconds.

    Returns:
        The prediction, in a terminal state or, once the time is over, as it is.

    Raises:
        Unavailable: no gateway answers there.
        ForebayError: the gateway refused; its words.
    """
    deadline = time.monotonic() + wait_s
    prefer = max(1, min(int(wait_s), LONGEST_PREFER_S))
    prediction = _call(
        f"{url.rstrip('/')}/v1/predictions",
        body={"version": model, "input": input_},
        headers={"Prefer": f"wait={prefer}"},
        timeout_s=prefer + MARGIN_S,
    )
    while prediction["status"] not in TERMINAL and time.monotonic() < deadline:
        time.sleep(POLL_S)
        id_ = parse.quote(str(prediction["id"]))
        prediction = _call(f"{url.rstrip('/')}/v1/predictions/{id_}", timeout_s=MARGIN_S)
    return prediction


def read_input(text: str, task: Task | None) -> dict[str, Any]:
    """What to send for an input as typed.

    Args:
        text: a text, or the whole input as a JSON object.
        task: the model's, if it is known here; it says which field a text goes to.

    Raises:
        InvalidInput: it looks like JSON and is not.
    """
    if not text.lstrip().startswith("{"):
        return {"value" if task is Task.ECHO else "text": text}
    try:
        return cast("dict[str, Any]", json.loads(text))
    except ValueError as fault:
        raise InvalidInput(
            f"The input starts with '{{' but is not JSON: {fault}. A text can be given as "
            'JSON too: {"text": "…"}.'
        ) from fault


def task_of(model: str, models_file: Path) -> Task | None:
    """The model's task by the catalog on this machine, which need not be the gateway's."""
    try:
        return catalog.read(models_file).find(model.partition(":")[0]).task
    except ForebayError:
        return None


def _call(
    url: str,
    *,
    body: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float,
) -> dict[str, Any]:
    if parse.urlsplit(url).scheme not in ("http", "https"):
        raise InvalidInput(f"{url!r} is no http:// or https:// URL.")
    data = None if body is None else json.dumps(body).encode()
    head = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
    try:
        with request.urlopen(  # noqa: S310 - the scheme has been checked
            request.Request(url, data=data, headers=head),  # noqa: S310
            timeout=timeout_s,
        ) as answer:
            return cast("dict[str, Any]", json.load(answer))
    except error.HTTPError as fault:
        raise ForebayError(_refusal(fault)) from fault
    except (OSError, http.client.HTTPException) as fault:
        reason = getattr(fault, "reason", fault)
        raise Unavailable(
            f"No gateway answers at {url}: {reason}. Start one with `forebay up`."
        ) from fault
    except ValueError as fault:
        raise Unavailable(f"What answers at {url} is no Forebay gateway: {fault}.") from fault


def _refusal(fault: error.HTTPError) -> str:
    """The gateway's own words, from a body as RFC 9457 has it; else just the status."""
    try:
        problem = json.load(fault)
        return str(problem.get("detail") or problem["title"])
    except (ValueError, KeyError, AttributeError, OSError):
        return f"The gateway answered {fault.code} {fault.reason}."
