"""What a text is held to: a form that it must have, whatever the model would rather write."""

from enum import StrEnum

import msgspec


class FormatKind(StrEnum):
    """What a format is told by."""

    OBJECT = "json_object"
    SCHEMA = "json_schema"
    REGEX = "regex"


class Format(msgspec.Struct, frozen=True, omit_defaults=True):
    """The form of a text.

    Attributes:
        kind: how it is told.
        text: a JSON schema as JSON, or a regular expression; empty for any JSON object.
    """

    kind: FormatKind = msgspec.field(name="k")
    text: str = msgspec.field(name="x", default="")
