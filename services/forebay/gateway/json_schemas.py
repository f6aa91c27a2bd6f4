"""JSON schemas that texts are held to: which keywords are followed, and how large one may be.

A keyword that would be passed over in silence is refused by its name and place. What needs the
grammar to be compiled, say a pattern that is none, the worker refuses.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.gateway.bodies import check_depth
from forebay.gateway.patterns import misread

MAX_BYTES: Final = 65_536
"""Of a schema as JSON."""

MAX_SCHEMAS: Final = 1_000
"""Schemas in a schema, itself included: properties, items, alternatives."""

LARGEST: Final = 2**53
"""The most that a bound may be, either side of zero: integers that JSON carries exactly everywhere
(RFC 8259, section 6). Grammars count in 64 bits and would hold to another bound beyond them."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FOLLOWED: Final = _words(
    """
    type enum const anyOf oneOf allOf $ref $defs definitions properties required
    additionalProperties patternProperties minProperties maxProperties items prefixItems minItems
    maxItems minLength maxLength pattern format minimum maximum exclusiveMinimum exclusiveMaximum
    multipleOf
    """
)
"""Keywords that say what is valid, and are followed."""

REMARKS: Final = _words(
    """
    title description default example examples deprecated readOnly writeOnly discriminator
    contentEncoding contentMediaType $comment $schema $id
    """
)
"""Keywords that say nothing of what is valid; so are those that begin with `x-`."""

_OURS: Final = "x-guidance"

_ONE: Final = ("additionalProperties", "items")
_SEVERAL: Final = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")
_NUMBERS: Final = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def checked(schema: Mapping[str, Any], *, param: str) -> str:
    """A schema as JSON, once it is known to be one that texts can be held to.

    Args:
        schema: as it came.
        param: the field that it came in.

    Raises:
        InvalidInput: it is too large, or a keyword isn't followed; `param` names the place.
    """
    check_depth(schema, param=param)
    told = msgspec.json.encode(schema).decode()
    if len(told) > MAX_BYTES:
        raise InvalidInput(
            f"{param} has {len(told):,} bytes as JSON; {MAX_BYTES:,} are the most.", param=param
        )
    waiting: list[tuple[str, Any]] = [(param, schema)]
    count = 0
    while waiting:
        where, one = waiting.pop()
        count += 1
        if count > MAX_SCHEMAS:
            raise InvalidInput(
                f"{param} has more than {MAX_SCHEMAS:,} schemas in it: ask for less at once.",
                param=param,
            )
        if not isinstance(one, bool):
            waiting += _inner(one, where)
    return told


def _inner(schema: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Schemas that a schema has in it, with their places."""
    if not isinstance(schema, dict):
        raise InvalidInput(f"{where} must be a JSON schema: an object, or a bool.", param=where)
    for key in schema:
        if key == _OURS or not (key in FOLLOWED or key in REMARKS or key.startswith("x-")):
            raise InvalidInput(
                f"{where}.{key[:80]}: texts can't be held to this keyword of JSON schema. Leave it "
                "out, and check what comes.",
                param=f"{where}.{key[:80]}",
            )
    for key in _NUMBERS:
        if key in schema:
            _check_number(schema[key], f"{where}.{key}")
    if "pattern" in schema:
        _check_pattern(schema["pattern"], f"{where}.pattern")
    for pattern in schema.get("patternProperties") or ():
        _check_pattern(pattern, f"{where}.patternProperties")
    yield from ((f"{where}.{key}", schema[key]) for key in _ONE if key in schema)
    for key in _SEVERAL:
        if key in schema:
            found = _of(list, schema[key], f"{where}.{key}", "a list of JSON schemas")
            yield from ((f"{where}.{key}[{at}]", one) for at, one in enumerate(found))
    for key in _NAMED:
        if key in schema:
            named = _of(dict, schema[key], f"{where}.{key}", "an object of JSON schemas")
            yield from ((f"{where}.{key}.{name[:80]}", one) for name, one in named.items())


def _check_number(value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{where} must be a number.", param=where)
    if abs(value) > LARGEST:
        raise InvalidInput(
            f"{where} is beyond 2^53 ({LARGEST:,}), the furthest from zero that texts can be held "
            "to. Leave it out, and check what comes.",
            param=where,
        )


def _check_pattern(pattern: Any, where: str) -> None:
    found = misread(pattern) if isinstance(pattern, str) else None
    if found is not None:
        raise InvalidInput(
            f"{where}: texts can't be held to {found[:80]}, which has the control characters and "
            'is without " or the backslash, or may be. Keep them out of it as well: in a class '
            "with ^, add \\x00-\\x1f.",
            param=where,
        )


def _of(kind: type[Any], value: Any, where: str, what: str) -> Any:
    if not isinstance(value, kind):
        raise InvalidInput(f"{where} must be {what}.", param=where)
    return value
