"""How a model writes calls of tools: found by having its chat template write some."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from forebay.contract.tools import ToolForm

Message = Mapping[str, Any]
Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]] | None, bool], str]
"""A template: renders messages with tools, and what begins the assistant's turn where asked to."""

_NAMES: Final = ("look_up_tide", "look_up_wind")
_ARGUMENTS: Final = {"where": "Whitby"}
_IDS: Final = ("aB3dE6gH9", "jK2mN5pQ8")
"""Of the one length and kind that Mistral's templates take."""

_ASKED: Final[Message] = {"role": "user", "content": "How high is the water?"}


def form_of(render: Render, ends: Sequence[str]) -> ToolForm | None:
    """How calls are written.

    Args:
        render: the model's template; raises whatever it likes on what it can't render.
        ends: texts of tokens that end a text.

    Returns:
        None where the template takes no tools, or writes calls otherwise than as a fixed text, the
        name, a fixed text, the arguments as JSON, and a fixed text.
    """
    tools = [_tool(name) for name in _NAMES]
    try:
        if render([_ASKED], tools, True) == render([_ASKED], None, True):
            return None
        one = _written(render, tools, calls=1)
    except Exception:  # whatever a template makes Python raise
        return None
    try:
        two = _written(render, tools, calls=2)
    except Exception:  # many take one call at a time
        two = None
    parts = _parts(one, ends)
    if parts is None:
        return None
    before, middle, after = parts
    marker = _marker(before)
    if marker is None:
        return None
    between = "" if two is None else _between(two, middle, after)
    return ToolForm(marker, before, middle, after, between)


def _tool(name: str) -> Mapping[str, Any]:
    parameters = {"type": "object", "properties": {"where": {"type": "string"}}}
    function = {"name": name, "description": "From the gauges.", "parameters": parameters}
    return {"type": "function", "function": function}


def _written(render: Render, tools: Sequence[Mapping[str, Any]], *, calls: int) -> str | None:
    """What the template writes as a turn of the assistant's that is calls alone."""
    turn = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "id": id_, "function": {"name": name, "arguments": _ARGUMENTS}}
            for name, id_ in zip(_NAMES[:calls], _IDS, strict=False)
        ],
    }
    begun = render([_ASKED], tools, True)
    # With results behind it, as templates write a last turn that had its thoughts taken out with
    # an empty place for them.
    results = [{"role": "tool", "tool_call_id": id_, "content": "4 m"} for id_ in _IDS[:calls]]
    whole = render([_ASKED, turn, *results], tools, False)
    if not whole.startswith(begun):
        return None
    written = whole[len(begun) :]
    for id_ in _IDS:
        # Ids are the client's matter: models don't write them, whatever their templates do.
        written = written.replace(f', "id": "{id_}"', "")
    return written


def _parts(written: str | None, ends: Sequence[str]) -> tuple[str, str, str] | None:
    """The fixed texts around a call's name and arguments."""
    arguments = json.dumps(_ARGUMENTS)
    if written is None or written.count(_NAMES[0]) != 1 or written.count(arguments) != 1:
        return None
    before, rest = written.split(_NAMES[0])
    middle, separator, after = rest.partition(arguments)
    if not (before and middle and separator):
        return None
    places = [place for end in ends if end and (place := after.find(end)) >= 0]
    if not places:
        return None
    return before, middle, after[: min(places)].rstrip()


def _between(written: str | None, middle: str, after: str) -> str:
    """The fixed text from one call to the next; empty where there is none."""
    arguments = json.dumps(_ARGUMENTS)
    found = "" if written is None else written.partition(arguments)[2].partition(_NAMES[1])[0]
    follows = f"{found}{_NAMES[1]}{middle}{arguments}{after}"
    return found if found and written is not None and follows in written else ""


def _marker(before: str) -> str | None:
    """What a call begins with and no other text; None where there is nothing of the kind."""
    if before.startswith("{"):
        return ""
    ends = {"<": ">", "[": "]"}
    end = ends.get(before[:1])
    if end is None or end not in before:
        return None
    return before[: before.index(end) + 1]
