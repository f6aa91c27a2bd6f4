"""Small pictures of large ones: a file in, a file out."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta
from PIL import Image


class Picture(msgspec.Struct, frozen=True):
    """What a row is; the path is that of a copy, which is gone after the call."""

    picture: Path
    width: Annotated[int, Meta(ge=1, le=1_000, description="Most pixels of a side")] = 128


class Thumbnails:
    """Makes them, one after the other."""

    def predict(self, rows: list[Picture]) -> list[Path]:
        """A PNG for each picture; clients get its URL."""
        made: list[Path] = []
        for row in rows:
            with Image.open(row.picture) as image:
                image.thumbnail((row.width, row.width))
                path = row.picture.with_name(f"{row.picture.stem}-small.png")
                image.save(path)
            made.append(path)
        return made
