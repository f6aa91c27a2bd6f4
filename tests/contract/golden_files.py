"""Golden files: bytes as hex, 32 to a line, under a comment that says what they hold."""

from pathlib import Path

import msgspec

FOLDER = Path(__file__).parent / "golden"


def read(name: str) -> bytes:
    """The bytes that a golden file pins."""
    lines = (FOLDER / f"{name}.hex").read_text("utf-8").splitlines()
    return bytes.fromhex("".join(line for line in lines if not line.startswith("#")))


def write(name: str, data: bytes) -> None:
    """Pin these bytes."""
    FOLDER.mkdir(exist_ok=True)
    lines = [f"# {line}" for line in _told(msgspec.msgpack.decode(data))]
    lines += (data[i : i + 32].hex(" ") for i in range(0, len(data), 32))
    (FOLDER / f"{name}.hex").write_text("\n".join(lines) + "\n", "utf-8")


def names() -> set[str]:
    """Every golden file there is."""
    return {path.stem for path in FOLDER.glob("*.hex")}


def _told(value: object) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}: {item!r}" for key, item in value.items()]
    assert isinstance(value, list)
    return [repr(item) for item in value]
