"""What travels, to the byte: workers and gateways of neighbouring releases depend on it."""

from collections.abc import Callable

import msgspec
import pytest

from forebay.contract.generation import Chunk
from forebay.contract.messages import (
    WIRE_VERSION,
    Computation,
    Reply,
    UnknownWireVersionError,
    decode_chunk,
    decode_computation,
    decode_outputs,
    decode_published,
    decode_replies,
    decode_reply,
    encode,
    encode_outputs,
)
from tests.contract import golden_files
from tests.contract.samples import CHUNKS, COMPUTATIONS, OUTPUTS, REPLIES

MESSAGES: dict[str, Computation | Reply] = {**COMPUTATIONS, **REPLIES}
BYTES = {
    **{name: encode(message) for name, message in MESSAGES.items()},
    **{name: encode(chunk) for name, chunk in CHUNKS.items()},
    **{name: encode_outputs(outputs) for name, outputs in OUTPUTS.items()},
}


def decode(data: bytes, like: Computation | Reply) -> Computation | Reply:
    return decode_computation(data) if isinstance(like, Computation) else decode_reply(data)


def changed(message: Computation | Reply, **fields: object) -> bytes:
    """The message as another release might have written it."""
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(encode(message)), **fields})


@pytest.mark.parametrize("name", BYTES)
def test_a_message_has_the_bytes_it_always_had(name: str, update_golden: bool) -> None:
    if update_golden:
        golden_files.write(name, BYTES[name])
    assert BYTES[name].hex(" ") == golden_files.read(name).hex(" ")


def test_no_golden_file_has_lost_its_message() -> None:
    assert golden_files.names() == set(BYTES)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_bytes_of_old_are_still_understood(name: str) -> None:
    assert decode(golden_files.read(name), MESSAGES[name]) == MESSAGES[name]


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_of_old_are_still_understood(name: str) -> None:
    assert decode_outputs(golden_files.read(name)) == OUTPUTS[name]


@pytest.mark.parametrize("name", CHUNKS)
def test_chunks_of_old_are_still_understood(name: str) -> None:
    assert decode_chunk(golden_files.read(name)) == CHUNKS[name]


@pytest.mark.parametrize("name", CHUNKS)
def test_what_a_later_release_adds_to_a_chunk_is_ignored(name: str) -> None:
    flat = msgspec.msgpack.decode(golden_files.read(name))
    whole = [*flat, *[None] * (len(Chunk.__struct_fields__) - len(flat)), {"new": 1}]
    assert decode_chunk(msgspec.msgpack.encode(whole)) == CHUNKS[name]


def test_replies_and_chunks_travel_in_one_array() -> None:
    several: tuple[Reply | Chunk, ...] = (*REPLIES.values(), *CHUNKS.values())
    for header in (bytes([0x90 + len(several)]), b"\xdd" + len(several).to_bytes(4, "big")):
        published = header + b"".join(map(encode, several))
        assert decode_published(published) == several
        assert decode_replies(published) == tuple(REPLIES.values())


@pytest.mark.parametrize("name", MESSAGES)
def test_a_field_of_a_later_release_is_ignored(name: str) -> None:
    message = MESSAGES[name]
    assert decode(changed(message, zz={"new": [1, 2, 3]}), message) == message


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_says_its_wire_version(name: str) -> None:
    assert msgspec.msgpack.decode(BYTES[name])["v"] == WIRE_VERSION == 1


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_of_another_wire_version_is_refused(name: str) -> None:
    message = MESSAGES[name]
    kind = "computation" if name in COMPUTATIONS else "reply"
    with pytest.raises(UnknownWireVersionError, match=f"^{kind} has wire version 2$"):
        decode(changed(message, v=2), message)


def test_replies_travel_as_an_array_of_messages() -> None:
    first, second = REPLIES["reply_with_values"], REPLIES["reply_expired"]
    joined = encode(first) + encode(second)
    assert decode_replies(b"\x92" + joined) == (first, second)
    assert decode_replies(b"\xdd\x00\x00\x00\x02" + joined) == (first, second)
    assert decode_replies(b"\x90") == ()


def test_an_array_with_a_reply_of_another_wire_version_is_refused() -> None:
    good, other = encode(REPLIES["reply_expired"]), changed(REPLIES["reply_expired"], v=2)
    with pytest.raises(UnknownWireVersionError, match="wire version 2"):
        decode_replies(b"\x92" + good + other)


@pytest.mark.parametrize("decoder", [decode_computation, decode_reply, decode_replies])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xff",
        b"{}",
        encode(COMPUTATIONS["computation_of_json"])[:-1],
        encode(REPLIES["reply_expired"])[:-1],
        changed(REPLIES["reply_expired"], s="lost"),
        changed(REPLIES["reply_expired"], p=7),
        changed(COMPUTATIONS["computation_of_json"], r=[]) + b"\x01",
        # Text that is no UTF-8, where an id and where an unknown field should be.
        b"\x81\xa1p\xa1\xff",
        b"\x91\x81\xa1p\xa1\xff",
        # A field of a later release, nested without end.
        b"\x81\xa2zz" + b"\x91" * 100_000,
        b"\x91\x81\xa2zz" + b"\x91" * 100_000,
    ],
)
def test_bytes_that_are_no_message_are_refused(
    decoder: Callable[[bytes], object], data: bytes
) -> None:
    with pytest.raises(msgspec.MsgspecError):
        decoder(data)
