"""The codec: what goes in comes out, and no bytes whatever get past its two errors."""

import contextlib
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.messages import (
    Computation,
    Reply,
    UnknownWireVersionError,
    decode_computation,
    decode_outputs,
    decode_replies,
    decode_reply,
    encode,
    encode_outputs,
)
from forebay.contract.prediction import Status, Timing
from forebay.contract.rows import (
    Aggregation,
    Classes,
    Embedding,
    Entailment,
    Function,
    Options,
    Output,
    PairRow,
    Span,
    Spans,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)

times = st.integers(0, 2**53)
text = st.text(max_size=40)
rows = (
    st.builds(TextRow, text)
    | st.builds(TokensRow, st.lists(st.integers(0, 2**32), max_size=9).map(tuple))
    | st.builds(ValueRow, st.binary(max_size=40))
    | st.builds(PairRow, text, text)
)
numbers = st.floats(allow_nan=False)
options = st.builds(
    Options,
    top_k=st.integers(0, 2**16),
    function=st.none() | st.sampled_from(Function),
    aggregation=st.sampled_from(Aggregation),
)
spans = st.builds(Span, text, numbers, text, times, times, st.none() | times)
outputs = (
    st.builds(Embedding, st.binary(max_size=40), times)
    | st.builds(Value, st.binary(max_size=40))
    | st.builds(Classes, st.lists(text, max_size=3).map(tuple), st.binary(max_size=12), times)
    | st.builds(Entailment, numbers, numbers, times)
    | st.builds(Spans, st.lists(spans, max_size=3).map(tuple), times)
)
several_outputs = st.lists(outputs, max_size=4).map(tuple)
computations = st.builds(
    Computation,
    rows=st.lists(rows, max_size=4).map(tuple),
    enqueued_at_ms=times,
    deadline_at_ms=times,
    first_row=times,
    truncate=st.booleans(),
    traceparent=st.none() | text,
    options=options,
)
milliseconds = st.floats(allow_nan=False)
replies = st.builds(
    Reply,
    prediction=text,
    status=st.sampled_from(Status),
    completed_at_ms=times,
    part=st.integers(0, 2**16),
    outputs=several_outputs,
    error=st.none()
    | st.builds(
        ErrorInfo,
        kind=st.sampled_from(ErrorKind),
        message=text,
        row=st.none() | times,
        param=st.none() | text,
    ),
    version=st.none() | text,
    started_at_ms=st.none() | times,
    timing=st.none()
    | st.builds(Timing, queue_ms=milliseconds, batch_ms=milliseconds, compute_ms=milliseconds),
    spilled=st.none() | text,
)
messages = (computations | replies).map(encode) | several_outputs.map(encode_outputs)
DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_computation,
    decode_reply,
    decode_replies,
    decode_outputs,
)


def tried(data: bytes) -> None:
    """Feed bytes to every decoder; only the documented errors may come out."""
    for decode in DECODERS:
        with contextlib.suppress(msgspec.MsgspecError, UnknownWireVersionError):
            decode(data)


@given(computations)
def test_a_computation_comes_out_as_it_went_in(message: Computation) -> None:
    assert decode_computation(encode(message)) == message


@given(replies)
def test_a_reply_comes_out_as_it_went_in(message: Reply) -> None:
    assert decode_reply(encode(message)) == message


@given(several_outputs)
def test_outputs_come_out_as_they_went_in(several: tuple[Output, ...]) -> None:
    assert decode_outputs(encode_outputs(several)) == several


@given(st.lists(replies, max_size=20))
def test_replies_joined_by_a_script_come_out_one_by_one(several: list[Reply]) -> None:
    header = b"\xdd" + len(several).to_bytes(4, "big")
    assert decode_replies(header + b"".join(map(encode, several))) == tuple(several)


@given(computations | replies)
def test_every_message_says_its_wire_version_whatever_else_it_omits(
    message: Computation | Reply,
) -> None:
    assert msgspec.msgpack.decode(encode(message))["v"] == 1


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_refused_in_good_order(data: bytes) -> None:
    tried(data)


@given(messages, st.data())
def test_a_damaged_message_is_refused_in_good_order(message: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(message)))
    until = data.draw(st.integers(at, len(message)))
    tried(message[:at] + data.draw(st.binary(max_size=8)) + message[until:])
    tried(message[:at])


@given(
    st.recursive(
        st.none() | st.integers(-(2**31), 2**31) | st.binary() | text,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(text | st.sampled_from("redfps"), inner, max_size=6)
        ),
        max_leaves=12,
    )
)
def test_any_well_formed_value_is_refused_in_good_order(value: object) -> None:
    tried(msgspec.msgpack.encode(value))
