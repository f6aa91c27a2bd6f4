"""The grammar of an answer that may call tools, in llguidance's dialect of Lark.

https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md
"""

import json

from forebay.contract.tools import ToolForm, Tools

_TEXT = r"/(.|\n)*/"


def written(tools: Tools, form: ToolForm, *, marker: int | None, schema: str | None) -> str:
    """The grammar.

    Args:
        tools: what may be called, and whether it must be.
        form: how the model writes calls.
        marker: token id of the form's marker, where it is one token that texts can't spell.
        schema: JSON schema of what is said where nothing is called; None is any text. A form
            without a marker can't do with one.
    """
    callable_ = [tool for tool in tools.tools if tools.only in (None, tool.name)]
    lines = ["%llguidance {}"]
    begun = _spelled(form.before[len(form.marker) :], form, marker)
    called = f"{begun} {_calls(tools, form, marker)}"
    first = f"<[{marker}]>" if marker is not None else _quoted(form.marker)
    if tools.required or tools.only:
        lines.append(f"start: {first} {called}")
    elif not form.marker:
        # What begins as a call is one.
        lines += [f"start: TEXT | {called}", f"TEXT: /([^{_in_set(form.before[0])}](.|\\n)*)?/"]
    elif schema is not None:
        lines.append(f"start: {first} {called} | said\nsaid: %json {schema}")
    elif marker is not None:
        lines += [f"start: TEXT | TEXT? {first} {called}", f"TEXT: {_TEXT}"]
    else:
        lines += [f"start: TEXT | lead {called}", f"lead[lazy]: TEXT {first}", f"TEXT: {_TEXT}"]
    lines.append("call: " + " | ".join(f"tool_{at}" for at in range(len(callable_))))
    lines += [
        f"tool_{at}: {_quoted(tool.name + form.middle)} %json {tool.parameters}"
        for at, tool in enumerate(callable_)
    ]
    return "\n".join(lines)


def _calls(tools: Tools, form: ToolForm, marker: int | None) -> str:
    """From the first call's name to the end."""
    if not (tools.parallel and form.between):
        return f"call {_spelled(form.after, form, marker)}"
    # What calls end with in any case comes first, so that no more than a token tells what follows.
    same = _common(form.after, form.between)
    ended, next_, last = (
        _spelled(text, form, marker)
        for text in (same, form.between[len(same) :], form.after[len(same) :])
    )
    return f"call {ended} ({next_} call {ended})* {last}"


def _spelled(text: str, form: ToolForm, marker: int | None) -> str:
    """A fixed text, in which the marker may be a token."""
    if marker is None:
        return _quoted(text)
    return f" <[{marker}]> ".join(_quoted(part) for part in text.split(form.marker))


def _common(one: str, other: str) -> str:
    """What both begin with."""
    for length, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return one[:length]
    return min(one, other, key=len)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False) if text else ""


def _in_set(letter: str) -> str:
    return "\\" + letter if letter in r"\]^-/" else letter
