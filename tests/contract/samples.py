"""One message of every shape, each pinned by a golden file of its name."""

from forebay.contract.caching import CacheKeys
from forebay.contract.errors import ErrorInfo, ErrorKind
from forebay.contract.formats import Format, FormatKind
from forebay.contract.generation import (
    Alternative,
    Chunk,
    Finish,
    Message,
    Sampling,
    TokenLogprob,
)
from forebay.contract.messages import Computation, Reply
from forebay.contract.prediction import Status, Timing
from forebay.contract.rows import (
    Aggregation,
    ChatRow,
    Classes,
    Embedding,
    Entailment,
    Function,
    Generated,
    ImageRow,
    NamedTensor,
    Options,
    Output,
    PairRow,
    Span,
    Spans,
    Tensors,
    TensorsRow,
    TextRow,
    TokensRow,
    Value,
    ValueRow,
)
from forebay.contract.tools import CallPiece, Tool, ToolCall, Tools

ID = "echo-0-0123456789abcdef0123"
AT_MS = 1_750_000_000_000

COMPUTATIONS = {
    "computation_of_texts": Computation(
        rows=(TextRow("Grüße, 世界"), TextRow("")),
        enqueued_at_ms=AT_MS,
        deadline_at_ms=AT_MS + 30_000,
        first_row=256,
        truncate=True,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ),
    "computation_of_tokens": Computation(
        rows=(TokensRow((101, 7_592, 65_536, 102)),),
        enqueued_at_ms=AT_MS,
        deadline_at_ms=AT_MS + 86_400_000,
    ),
    "computation_of_json": Computation(
        rows=(ValueRow(b'{"a": [1, null]}'),), enqueued_at_ms=AT_MS, deadline_at_ms=AT_MS + 1
    ),
    "computation_of_pairs": Computation(
        rows=(PairRow("Wer?", "Niemand."), PairRow("", "")),
        enqueued_at_ms=AT_MS,
        deadline_at_ms=AT_MS + 1,
        options=Options(top_k=0, function=Function.SIGMOID, aggregation=Aggregation.SIMPLE),
    ),
}

COMPUTATIONS["computation_of_images_and_tensors"] = Computation(
    rows=(
        ImageRow(b"\x89PNG"),
        TensorsRow(
            (
                NamedTensor("x", "FP16", (1, 2), bytes.fromhex("003c00c0")),
                NamedTensor("text", "BYTES", (1,), b"\x01\0\0\0a"),
            )
        ),
    ),
    enqueued_at_ms=AT_MS,
    deadline_at_ms=AT_MS + 1,
)

COMPUTATIONS["computation_of_chats"] = Computation(
    rows=(
        ChatRow((Message("system", "Be brief."), Message("user", "Wer?", "Ada"))),
        ChatRow((Message("user", "Why?"),)),
    ),
    enqueued_at_ms=AT_MS,
    deadline_at_ms=AT_MS + 30_000,
    options=Options(
        sampling=Sampling(
            max_tokens=20,
            temperature=0.5,
            top_p=0.75,
            top_k=40,
            min_p=0.25,
            repetition_penalty=1.5,
            presence_penalty=0.5,
            frequency_penalty=-0.5,
            logit_bias=((50_256, -100.0),),
            seed=7,
            stop=("\n\n",),
            logprobs=1,
            ignore_end=True,
        )
    ),
    stream=True,
)

COMPUTATIONS["computation_of_a_chat_with_tools"] = Computation(
    rows=(
        ChatRow(
            (
                Message("user", "How high?"),
                Message("assistant", "", calls=(ToolCall("tide", '{"at":3}', "a1b2c3d4e"),)),
                Message("tool", "4 m", answers="a1b2c3d4e"),
            ),
            Tools(
                (Tool("tide", '{"type":"object"}', "Water."), Tool("wind", '{"type":"object"}')),
                required=True,
                only="wind",
                parallel=False,
            ),
        ),
    ),
    enqueued_at_ms=AT_MS,
    deadline_at_ms=AT_MS + 30_000,
    options=Options(sampling=Sampling(format=Format(FormatKind.SCHEMA, '{"type":"object"}'))),
)

COMPUTATIONS["computation_of_an_edit"] = Computation(
    rows=(ChatRow((Message("user", "Correct it: teh sea"),), expected="the sea"),),
    enqueued_at_ms=AT_MS,
    deadline_at_ms=AT_MS + 30_000,
    options=Options(sampling=Sampling(temperature=0)),
)

CHUNKS = {
    "chunk_of_calls": Chunk(
        ID,
        0,
        5,
        "",
        (17,),
        finish=Finish.TOOL_CALLS,
        calls=(CallPiece(0, "tide"), CallPiece(0, "", '{"at":')),
    ),
    "chunk_of_text": Chunk(ID, 1, 3, " Grüße", (17, 65_536)),
    "chunk_that_is_the_last": Chunk(
        ID,
        0,
        4,
        "",
        (2,),
        (TokenLogprob(b"\xe4", -0.5, (Alternative(b"\xe4", -0.5),)),),
        Finish.STOP,
    ),
}

COMPUTATIONS["computation_to_be_cached"] = Computation(
    rows=(TextRow("a"), TextRow("b")),
    enqueued_at_ms=AT_MS,
    deadline_at_ms=AT_MS + 1,
    cache=CacheKeys("1a2b3c4d5e6f", (b"\x01" * 20, b"\x02" * 20)),
)

REPLIES = {
    "reply_with_generated_text": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS,
        outputs=(
            Generated("Niemand.", Finish.STOP, prompt_tokens=12, tokens=3),
            Generated(
                "Dar",
                Finish.LENGTH,
                prompt_tokens=12,
                tokens=1,
                cached_tokens=8,
                logprobs=(TokenLogprob(b"Dar", -0.25),),
            ),
            Generated(
                "",
                Finish.TOOL_CALLS,
                prompt_tokens=12,
                tokens=30,
                calls=(ToolCall("tide", '{"at":3}'),),
            ),
        ),
    ),
    "reply_with_an_edit": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS,
        outputs=(
            Generated(
                "the sea",
                Finish.STOP,
                prompt_tokens=12,
                tokens=3,
                drafted_tokens=4,
                accepted_tokens=2,
                expected_tokens=3,
                met_tokens=2,
            ),
        ),
    ),
    "reply_with_embeddings": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS + 40,
        part=1,
        outputs=(Embedding(bytes.fromhex("0000803f000000bf"), 5), Embedding(b"", 2)),
        version="1a2b3c4d5e6f",
        started_at_ms=AT_MS + 20,
        timing=Timing(queue_ms=12.5, batch_ms=0.25, compute_ms=19.0),
    ),
    "reply_with_values": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS,
        outputs=(Value(b"1"), Value(b'"two"')),
    ),
    "reply_with_classes": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS,
        outputs=(
            Classes(("good", "bad"), bytes.fromhex("0000403f0000803e"), 7),
            Entailment(1.5, -0.5, 9),
        ),
    ),
    "reply_with_spans": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS,
        outputs=(
            Spans(
                (
                    Span("B-PER", 0.5, "Ada", 0, 3, 1),
                    Span("PER", 0.75, "Ada Lovelace", 0, 12),
                ),
                5,
            ),
            Spans((), 2),
        ),
    ),
    "reply_with_tensors": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS,
        outputs=(Tensors((NamedTensor("y", "FP32", (), bytes.fromhex("0000803f")),)),),
    ),
    "reply_with_spilled_outputs": Reply(
        prediction=ID,
        status=Status.SUCCEEDED,
        completed_at_ms=AT_MS,
        spilled=f"forebay:{{echo:0}}:out:{ID}:0:1",
    ),
    "reply_failed_by_a_row": Reply(
        prediction=ID,
        status=Status.FAILED,
        completed_at_ms=AT_MS,
        error=ErrorInfo(ErrorKind.TOO_LONG, "Row 7 has 300 tokens.", row=7, param="input"),
        version="1a2b3c4d5e6f",
        started_at_ms=AT_MS - 1,
    ),
    "reply_expired": Reply(
        prediction=ID,
        status=Status.EXPIRED,
        completed_at_ms=AT_MS,
        error=ErrorInfo(ErrorKind.DEADLINE_EXCEEDED, "Too late."),
    ),
    "reply_canceled": Reply(
        prediction=ID,
        status=Status.CANCELED,
        completed_at_ms=AT_MS,
        error=ErrorInfo(ErrorKind.CANCELED, "Canceled."),
    ),
}

OUTPUTS: dict[str, tuple[Output, ...]] = {
    "outputs_beside_a_record": (Embedding(b"\0\0\x80?", 3), Value(b"null"))
}
