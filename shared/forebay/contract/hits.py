"""What the response cache has answered of a prediction whose other rows run."""

from collections.abc import Sequence

import msgspec

from forebay.contract.errors import ErrorInfo
from forebay.contract.rows import Output


class Hits(msgspec.Struct, frozen=True, array_like=True):
    """Rows that were answered already; a prediction's record keeps them until the others are.

    Attributes:
        rows: of the prediction, in all.
        at: indexes of those that were answered, in order.
        outputs: of these.
    """

    rows: int
    at: tuple[int, ...]
    outputs: tuple[Output, ...]

    @property
    def missed(self) -> list[int]:
        """Indexes of the rows that run, in order."""
        answered = set(self.at)
        return [index for index in range(self.rows) if index not in answered]

    def merged(self, outputs: Sequence[Output]) -> tuple[Output, ...]:
        """Outputs of all rows, in order.

        Args:
            outputs: of those that ran.
        """
        whole: dict[int, Output] = dict(zip(self.at, self.outputs, strict=True))
        whole.update(zip(self.missed, outputs, strict=True))
        return tuple(whole[index] for index in range(self.rows))

    def placed(self, error: ErrorInfo) -> ErrorInfo:
        """An error of a row that ran, by the row's index among all."""
        missed = self.missed
        if error.row is None or error.row >= len(missed):
            return error
        row = missed[error.row]
        message = error.message
        if message.startswith(ran := f"Row {error.row}:"):
            message = f"Row {row}:" + message[len(ran) :]
        return msgspec.structs.replace(error, row=row, message=message)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Hits)


def encode_hits(hits: Hits) -> bytes:
    """Hits as msgpack."""
    return _encoder.encode(hits)


def decode_hits(data: bytes) -> Hits:
    """Inverse of `encode_hits`.

    Raises:
        msgspec.MsgspecError: these bytes are no hits.
    """
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
