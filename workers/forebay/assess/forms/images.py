"""An image and its label, or any number of labels.

{"file": "lines/1.png", "label": "0"}            relative to the data file's folder
{"file": "lines/1.png", "labels": ["a", "b"]}    a multi-label model; none is []
{"image": "data:image/png;base64,…", "label": "0"}     as /v1/predictions takes it
"""

import base64
from pathlib import Path
from typing import Any

import msgspec

from forebay.assess.forms.base import Example
from forebay.assess.forms.labels import Labels, OneLabel, SeveralLabels
from forebay.assess.lines import decode
from forebay.contract.errors import InvalidInput


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    file: str | None = None
    image: str | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None


_decoder = msgspec.json.Decoder(_Line)


class _OfImages(Labels):
    """What both forms share: how a line is read.

    Args:
        folder: the data file's.
    """

    def __init__(self, *, folder: Path) -> None:
        super().__init__(zero_shot=False, truncate=False)
        self._folder = folder

    def read(self, data: bytes, line: int) -> Example:
        """Read a line; see the module."""
        given = decode(_decoder, data)
        return Example(line, _input(given, self._folder), self.truth(given.label, given.labels))


class ImageLabel(_OfImages, OneLabel):
    """One label an image; counted as of texts."""


class ImageLabels(_OfImages, SeveralLabels):
    """Any number of labels an image; counted as of texts."""


def _input(given: _Line, folder: Path) -> dict[str, Any]:
    """What `/v1/predictions` takes: all labels are asked for."""
    if (given.file is None) == (given.image is None):
        raise InvalidInput("it needs `file`, a path, or `image`, a data: URL or base64.")
    image = given.image
    if given.file is not None:
        try:
            image = base64.b64encode((folder / given.file).read_bytes()).decode()
        except OSError as error:
            raise InvalidInput(f"{folder / given.file} can't be read: {error.strerror}.") from error
    return {"image": image, "top_k": None}
