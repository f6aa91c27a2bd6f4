"""The codec: what goes in comes out, and no bytes whatever get past its two errors."""

import contextlib
from collections.abc import Callable

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.generation import (
    Alternative,
    Chunk,
    Finish,
    Message,
    Sampling,
    TokenLogprob,
)
from forebay.contract.messages import (
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
from forebay.contract.prediction import Status, Timing
from forebay.contract.rows import (
    Aggregation,
    ChatRow,
    Classes,
    Embedding,
    Entailment,
    Function,
    Generated,
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
    | st.builds(
        ChatRow, st.lists(st.builds(Message, text, text, st.none() | text), max_size=3).map(tuple)
    )
)
numbers = st.floats(allow_nan=False)
some_text = st.lists(text, max_size=3).map(tuple)
samplings = st.builds(
    Sampling,
    max_tokens=st.none() | st.integers(1, 2**31),
    temperature=numbers,
    top_p=numbers,
    top_k=st.integers(0, 2**16),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=some_text,
    logit_bias=st.lists(st.tuples(st.integers(0, 2**20), numbers), max_size=3).map(tuple),
    logprobs=st.none() | st.integers(0, 20),
)
options = st.builds(
    Options,
    top_k=st.integers(0, 2**16),
    function=st.none() | st.sampled_from(Function),
    aggregation=st.sampled_from(Aggregation),
    sampling=st.none() | samplings,
)
spans = st.builds(Span, text, numbers, text, times, times, st.none() | times)
tokens = st.integers(0, 2**20)
finishes = st.sampled_from(Finish)
likely = st.builds(Alternative, st.binary(max_size=6), numbers)
logprobs = st.lists(
    st.builds(
        TokenLogprob, st.binary(max_size=6), numbers, st.lists(likely, max_size=2).map(tuple)
    ),
    max_size=3,
).map(tuple)
chunks = st.builds(
    Chunk,
    prediction=text,
    row=st.integers(0, 255),
    sequence=times,
    text=text,
    tokens=st.lists(tokens, max_size=4).map(tuple),
    logprobs=logprobs,
    finish=st.none() | finishes,
)
outputs = (
    st.builds(Embedding, st.binary(max_size=40), times)
    | st.builds(Value, st.binary(max_size=40))
    | st.builds(Classes, st.lists(text, max_size=3).map(tuple), st.binary(max_size=12), times)
    | st.builds(Entailment, numbers, numbers, times)
    | st.builds(Spans, st.lists(spans, max_size=3).map(tuple), times)
    | st.builds(Generated, text, finishes, tokens, tokens, tokens, logprobs)
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
    stream=st.booleans(),
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
messages = (computations | replies | chunks).map(encode) | several_outputs.map(encode_outputs)
DECODERS: tuple[Callable[[bytes], object], ...] = (
    decode_computation,
    decode_reply,
    decode_replies,
    decode_chunk,
    decode_published,
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


@given(chunks)
def test_a_chunk_comes_out_as_it_went_in(chunk: Chunk) -> None:
    assert decode_chunk(encode(chunk)) == chunk


@given(several_outputs)
def test_outputs_come_out_as_they_went_in(several: tuple[Output, ...]) -> None:
    assert decode_outputs(encode_outputs(several)) == several


@given(st.lists(replies | chunks, max_size=20))
def test_what_is_joined_by_a_script_comes_out_one_by_one(several: list[Reply | Chunk]) -> None:
    header = b"\xdd" + len(several).to_bytes(4, "big")
    published = header + b"".join(map(encode, several))
    assert decode_published(published) == tuple(several)
    assert decode_replies(published) == tuple(one for one in several if isinstance(one, Reply))


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
