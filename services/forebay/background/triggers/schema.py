"""The JSON schema of `triggers.toml`, for editors."""

import msgspec

from forebay.background.triggers.table import ResultTable, Trigger, TriggersFile
from forebay.runtime.schema import DIALECT, summary, tell


def triggers_schema_text() -> str:
    """What a `triggers.toml` may hold, as it is published in `docs/triggers.schema.json`."""
    _, parts = msgspec.json.schema_components([TriggersFile], ref_template="#/$defs/{name}")
    for struct in (Trigger, ResultTable):
        tell(parts[struct.__name__], struct)
    for part in parts.values():
        part["description"] = summary(part["description"])
    whole = parts.pop(TriggersFile.__name__)
    schema = {"$schema": DIALECT, **whole, "title": "triggers.toml", "$defs": parts}
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"
