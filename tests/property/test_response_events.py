"""Events of a response follow from its chunks: on from any of them they are what they were."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.generation import Chunk, Finish, TokenLogprob
from forebay.contract.prediction import Prediction, Status
from forebay.contract.rows import Generated
from forebay.gateway.dialects.openai.responses.telling import Telling, chunk_before
from forebay.gateway.dialects.openai.responses.terms import LOGPROBS, Terms

BEGUN = Prediction("parrot-0-00", "parrot", Status.STARTING, 1_000, 2_000)

pieces = st.lists(st.sampled_from(["a", " b", "é", "", "🙂"]), max_size=12)
ends = st.sampled_from([*Finish][:2])
"""Of texts: calls of tools are no texts."""


def chunks_of(texts: Sequence[str], finish: Finish | None) -> list[Chunk]:
    """Chunks with these texts; the last one ends the text, if there is an end."""
    last = len(texts)
    return [
        Chunk(
            BEGUN.id,
            0,
            at,
            text,
            (at,),
            (TokenLogprob(text.encode(), -0.5),),
            finish if at == last else None,
        )
        for at, text in enumerate(texts, start=1)
    ]


def ended(chunks: Sequence[Chunk], finish: Finish | None) -> Prediction:
    """The prediction after these chunks."""
    if finish is None:
        error = ErrorInfo(ErrorKind.BACKEND_FAILED, "It broke.")
        return msgspec.structs.replace(BEGUN, status=Status.FAILED, error=error)
    logprobs = tuple(token for chunk in chunks for token in chunk.logprobs)
    output = Generated("".join(one.text for one in chunks), finish, 3, 4, 0, logprobs)
    return msgspec.structs.replace(
        BEGUN, status=Status.SUCCEEDED, outputs=(output,), completed_at_ms=5_000
    )


def told(chunks: Sequence[Chunk], end: Prediction, terms: Terms, after: int) -> list[Any]:
    """What a reader hears after an event."""
    telling = Telling(BEGUN, terms, after=after)
    parts = [telling.begin()]
    parts += [telling.chunk(one) for one in chunks if one.sequence > chunk_before(after, terms)]
    parts.append(telling.end(end))
    events = b"".join(parts).decode().split("\n\n")[:-1]
    return [msgspec.json.decode(one.partition("data: ")[2]) for one in events]


@given(
    texts=pieces,
    finish=st.none() | ends,
    background=st.booleans(),
    logprobs=st.booleans(),
    beyond=st.integers(1, 20),
)
def test_on_from_any_event_the_others_come_and_from_beyond_the_last_none(
    texts: list[str], finish: Finish | None, background: bool, logprobs: bool, beyond: int
) -> None:
    terms = Terms(model="parrot", background=background, include=(LOGPROBS,) if logprobs else None)
    chunks = chunks_of(texts, finish)
    # A text that was not made as a stream, or is empty, has no chunks.
    end = ended(chunks, finish)
    whole = told(chunks, end, terms, -1)
    assert [event["sequence_number"] for event in whole] == list(range(len(whole)))
    deltas = [event for event in whole if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == "".join(texts)
    if finish is not None:
        last = whole[-1]["response"]
        assert last["status"] == {"stop": "completed", "length": "incomplete"}[finish]
        (message,) = last["output"]
        assert message["content"][0]["text"] == "".join(texts)
        tokens = [token for event in deltas for token in event["logprobs"]]
        assert len(message["content"][0]["logprobs"]) == (len(texts) if logprobs else 0)
        assert all(token in message["content"][0]["logprobs"] for token in tokens)
    else:
        assert whole[-1]["type"] == "response.failed"
    for number in range(len(whole)):
        assert told(chunks, end, terms, number) == whole[number + 1 :]
    assert told(chunks, end, terms, len(whole) - 1 + beyond) == []
