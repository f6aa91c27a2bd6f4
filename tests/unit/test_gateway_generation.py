"""Requests for text: what they come to, and what is wrong with those that come to nothing."""

from typing import Any

import msgspec
import pytest

from forebay.contract.errors import InvalidInput
from forebay.contract.generation import (
    Alternative,
    Chunk,
    Finish,
    Message,
    Sampling,
    TokenLogprob,
)
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import ChatRow, Generated, Task, TextRow
from forebay.gateway.bodies import decode
from forebay.gateway.chats import ChatMessage, chat_of
from forebay.gateway.dialects.oip import parameters
from forebay.gateway.dialects.openai import chats, completions
from forebay.gateway.dialects.openai.chats import ChatRequest, ChatShape, chat_asked
from forebay.gateway.dialects.openai.completions import CompletionRequest, CompletionShape
from forebay.gateway.dialects.openai.texts import Named
from forebay.gateway.dialects.openai.usage import usage_of
from forebay.gateway.dialects.replicate.inputs import rows_of
from forebay.gateway.dialects.replicate.outputs import is_single, output_of
from forebay.gateway.generation import SamplingFields

ECHO = ModelSpec(Task.GENERATION, BackendName.ECHO, name="parrot")
NAMED = Named("id-1", 1_700_000_000, "parrot")
USER = {"role": "user", "content": "Hi"}

_fields = msgspec.json.Decoder(SamplingFields)
_messages = msgspec.json.Decoder(tuple[ChatMessage, ...])
_chat = msgspec.json.Decoder(ChatRequest)
_completion = msgspec.json.Decoder(CompletionRequest)


def sampling(**given: Any) -> Sampling:
    return decode(_fields, msgspec.json.encode(given)).sampling()


def chat(*messages: Any) -> ChatRow:
    return chat_of(decode(_messages, msgspec.json.encode(messages), within="messages"))


def chat_request(**given: Any) -> ChatRequest:
    body = {"model": "parrot", "messages": [USER], **given}
    request = decode(_chat, msgspec.json.encode(body))
    request.check(chats.REFUSED)
    return request


def completion_request(**given: Any) -> CompletionRequest:
    body = {"model": "parrot", "prompt": "Hi", **given}
    request = decode(_completion, msgspec.json.encode(body))
    request.check(completions.REFUSED)
    return request


def test_what_is_not_said_is_the_default() -> None:
    assert sampling() == Sampling()
    nulls = dict.fromkeys(SamplingFields.__struct_fields__) | {"ignore_eos": False}
    assert sampling(**nulls) == Sampling()


def test_each_parameter_reaches_the_worker() -> None:
    assert sampling(
        max_tokens=5,
        temperature=0,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        presence_penalty=-0.5,
        frequency_penalty=0.5,
        logit_bias={"7": 5, "3": -100},
        seed=-3,
        stop=["a", "b"],
        ignore_eos=True,
    ) == Sampling(
        max_tokens=5,
        temperature=0,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        repetition_penalty=1.1,
        presence_penalty=-0.5,
        frequency_penalty=0.5,
        logit_bias=((3, -100), (7, 5)),
        seed=-3,
        stop=("a", "b"),
        ignore_end=True,
    )
    assert sampling(stop="a").stop == ("a",)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -5}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 1.01}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": 101}}, "logit_bias"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"temprature": 1}, "temprature"),
    ],
)
def test_a_parameter_that_is_wrong_is_named(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        sampling(**given)
    assert caught.value.param == param


def test_a_chat_is_its_messages_with_the_names_that_templates_know() -> None:
    row = chat(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": t} for t in ("One.", "Two.")]},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "Three?", "name": "ann"},
    )
    assert row == ChatRow(
        (
            Message("system", "Be brief."),
            Message("user", "One.\nTwo."),
            Message("assistant", ""),
            Message("user", "Three?", "ann"),
        )
    )


@pytest.mark.parametrize(
    ("message", "param", "says"),
    [
        ({"role": "robot", "content": "x"}, "messages[1].role", "'system', 'developer'"),
        ({"role": "user"}, "messages[1].content", "must be a text"),
        ({"role": "user", "content": []}, "messages[1].content", "must be a text"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]},
            "messages[1].content[0].type",
            "reads text only",
        ),
        (
            {"role": "user", "content": [{"type": "text"}]},
            "messages[1].content[0].text",
            "Missing parameter",
        ),
        ({"role": "user", "content": 3}, "messages[1].content", "expected"),
        ({"content": "x"}, "messages[1].role", "Missing parameter"),
        ({"role": "user", "content": "x", "colour": 1}, "messages[1].colour", "Unknown"),
        ({"role": "assistant", "audio": {"id": "1"}, "content": ""}, "messages[1].audio", "can't"),
    ],
)
def test_a_message_that_no_text_says_is_named(message: Any, param: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as caught:
        chat(USER, message)
    assert caught.value.param is not None
    assert caught.value.param.replace("[...]", "[1]", 1) == param


def test_a_chat_has_messages_and_an_end() -> None:
    with pytest.raises(InvalidInput, match="must not be empty"):
        chat()
    with pytest.raises(InvalidInput, match="1,000,000 are the most"):
        chat({"role": "user", "content": "x" * 1_000_001})
    with pytest.raises(InvalidInput, match="10,000 are the most"):
        chat(*[USER] * 10_001)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "colour": 1}]),
        ("tool_choice", "maybe"),
        ("functions", [{"name": "f"}]),
        ("function_call", {"name": "f"}),
        ("response_format", {"type": 3}),
        ("response_format", {"type": "json_schema", "json_schema": {"name": "a b"}}),
        ("modalities", ["text", "audio"]),
        ("audio", {"voice": "alloy", "format": "wav"}),
        ("prediction", "x"),
        ("prediction", {"content": "x"}),
        ("prediction", {"type": "text", "content": "x"}),
        ("prediction", {"type": "content"}),
        ("prediction", {"type": "content", "content": 3}),
        ("prediction", {"type": "content", "content": "x", "colour": 1}),
        ("web_search_options", {}),
        ("reasoning_effort", "high"),
        ("verbosity", "low"),
        ("store", True),
        ("service_tier", "flex"),
        ("stream_options", {"include_usage": True}),
        ("n", 0),
        ("n", 129),
        ("top_logprobs", 21),
        ("metadata", {"k": 1}),
        ("best_of", 2),
    ],
)
def test_what_a_chat_cannot_have_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        chat_request(**{field: value})
    assert (caught.value.param or "").startswith(field)
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("content", "message", "param"),
    [
        ([], "prediction.content must be a text", "prediction.content"),
        (
            [{"type": "image_url", "image_url": {}}],
            "reads text only",
            "prediction.content[0].type",
        ),
        ([{"type": "text"}], "Missing parameter", "prediction.content[0].text"),
        ("x" * 1_000_001, "1,000,001 characters; 1,000,000", "prediction.content"),
    ],
)
def test_a_prediction_that_is_no_text_is_refused_by_its_name(
    content: Any, message: str, param: str
) -> None:
    request = chat_request(prediction={"type": "content", "content": content})
    with pytest.raises(InvalidInput, match=message) as caught:
        chat_asked(request, ECHO)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ""),
        ({"prediction": None}, ""),
        ({"prediction": {"type": "content", "content": ""}}, ""),
        ({"prediction": {"type": "content", "content": "x\n"}}, "x\n"),
        (
            {"prediction": {"type": "content", "content": [{"type": "text", "text": "x"}] * 2}},
            "x\nx",
        ),
    ],
)
def test_what_is_expected_goes_with_the_chat(given: Any, expected: str) -> None:
    asked = chat_asked(chat_request(**given, n=2, logprobs=True), ECHO)
    assert [row.expected for row in asked.rows if isinstance(row, ChatRow)] == [expected] * 2


def test_what_asks_for_nothing_is_no_reason_to_refuse() -> None:
    chat_request(
        tools=[],
        tool_choice="none",
        response_format={"type": "text"},
        modalities=["text"],
        store=False,
        service_tier="auto",
        user="u",
        metadata={"k": "v"},
        stream=False,
        prompt_cache_key="k",
    )
    completion_request(echo=False, suffix="", best_of=1)


@pytest.mark.parametrize(("field", "value"), [("echo", True), ("suffix", "x"), ("messages", [])])
def test_what_a_completion_cannot_have_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        completion_request(**{field: value})
    assert caught.value.param == field


TOKENS = (
    TokenLogprob(b"Gr", -0.5, (Alternative(b"Gr", -0.5), Alternative(b"\xc3", -1.5))),
    TokenLogprob(b"\xc3", -0.25, (Alternative(b"\xc3", -0.25),)),
    TokenLogprob(b"\xbc\xc3\x9fe", -0.125, (Alternative(b"\xbc\xc3\x9fe", -0.125),)),
)


def body(data: bytes) -> Any:
    return msgspec.json.decode(data)


def test_a_chat_in_chunks_says_the_role_of_each_choice_before_anything_else() -> None:
    shape = ChatShape(chat_request(stream=True, n=2))
    begun = [body(data)["choices"][0] for data in shape.begin(NAMED)]
    assert [choice["delta"] for choice in begun] == [{"content": "", "role": "assistant"}] * 2
    assert [choice["index"] for choice in begun] == [0, 1]
    told = [
        body(shape.chunk(NAMED, chunk))["choices"][0]
        for chunk in (Chunk("p", 1, 1, "B"), Chunk("p", 0, 2, "", finish=Finish.STOP))
    ]
    assert [choice["delta"] for choice in told] == [{"content": "B"}, {}]
    assert [choice["index"] for choice in told] == [1, 0]
    assert [choice["finish_reason"] for choice in told] == [None, "stop"]


def test_usage_is_in_chunks_only_where_it_was_asked_for() -> None:
    chunk = Chunk("p", 0, 1, "x")
    assert "usage" not in body(ChatShape(chat_request(stream=True)).chunk(NAMED, chunk))
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert body(ChatShape(chat_request(**asked)).chunk(NAMED, chunk))["usage"] is None
    shape = CompletionShape(completion_request(**asked))
    assert body(shape.chunk(NAMED, chunk))["usage"] is None
    told = body(
        shape.usage(
            NAMED,
            [Generated("x", Finish.STOP, 3, 2, 1, drafted_tokens=5, accepted_tokens=4)],
        )
    )
    assert told["choices"] == []
    assert told["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": {
            "accepted_prediction_tokens": 4,
            "rejected_prediction_tokens": 1,
        },
    }


def test_of_a_prediction_the_usage_tells_what_the_texts_have_of_it() -> None:
    outputs = [
        Generated("a", Finish.STOP, 3, 9, drafted_tokens=7, expected_tokens=10, met_tokens=8),
        Generated("b", Finish.STOP, 3, 9, expected_tokens=10, met_tokens=1),
    ]
    details = usage_of(outputs, choices=2).completion_tokens_details
    assert (details.accepted_prediction_tokens, details.rejected_prediction_tokens) == (9, 11)


def test_a_prompt_is_counted_once_for_all_of_its_texts() -> None:
    outputs = [
        Generated("a", Finish.STOP, 10, 1, 4),
        Generated("b", Finish.STOP, 10, 2, 10),
        Generated("c", Finish.STOP, 20, 4, 0),
        Generated("d", Finish.LENGTH, 20, 8, 20),
    ]
    usage = usage_of(outputs, choices=2)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (30, 15, 45)
    assert usage.prompt_tokens_details.cached_tokens == 4


def test_logprobs_of_a_chat_have_the_bytes_of_tokens_that_are_no_characters() -> None:
    shape = ChatShape(chat_request(logprobs=True, top_logprobs=2))
    output = Generated("Grüße", Finish.STOP, 1, 3, logprobs=TOKENS)
    (choice,) = body(shape.whole(NAMED, [output]))["choices"]
    first, second, _ = choice["logprobs"]["content"]
    assert (first["token"], first["bytes"], first["logprob"]) == ("Gr", [71, 114], -0.5)
    assert [top["logprob"] for top in first["top_logprobs"]] == [-0.5, -1.5]
    assert (second["token"], second["bytes"]) == ("\ufffd", [0xC3])


def test_logprobs_of_a_completion_say_where_tokens_begin_over_all_chunks() -> None:
    shape = CompletionShape(completion_request(logprobs=1))
    whole = Generated("Grüße", Finish.STOP, 1, 3, logprobs=TOKENS)
    told = body(shape.whole(NAMED, [whole]))["choices"][0]["logprobs"]
    assert told["tokens"] == ["Gr", "bytes:\\xc3", "bytes:\\xbc\\xc3\\x9f\\x65"]
    assert told["text_offset"] == [0, 2, 2]
    assert told["token_logprobs"] == [-0.5, -0.25, -0.125]
    assert told["top_logprobs"][0] == {"Gr": -0.5, "bytes:\\xc3": -1.5}

    shape = CompletionShape(completion_request(logprobs=0))
    offsets: list[int] = []
    for number, token in enumerate((*TOKENS, TokenLogprob(b"!", -1.0)), 1):
        chunk = Chunk("p", 0, number, "", logprobs=(token,))
        told = body(shape.chunk(NAMED, chunk))["choices"][0]["logprobs"]
        assert told["top_logprobs"] is None
        offsets += told["text_offset"]
    assert offsets == [0, 2, 2, 5]


def asked(**given: Any) -> Any:
    return rows_of(ECHO, msgspec.Raw(msgspec.json.encode(given)), most=8)


def test_a_prediction_takes_a_prompt_or_prompts_or_a_chat() -> None:
    one = asked(prompt="Hi", temperature=0)
    assert (one.rows, one.single) == ((TextRow("Hi"),), True)
    assert one.options.sampling == Sampling(temperature=0)
    several = asked(prompt=["a", "b"])
    assert (several.rows, several.single) == ((TextRow("a"), TextRow("b")), False)
    assert asked(messages=[USER]).rows == (ChatRow((Message("user", "Hi"),)),)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "input.prompt"),
        ({"prompt": "x", "messages": [USER]}, "input.prompt"),
        ({"prompt": ""}, "input.prompt"),
        ({"prompt": []}, "input.prompt"),
        ({"messages": []}, "input.messages"),
        ({"messages": [{"role": "robot", "content": ""}]}, "input.messages[0].role"),
        ({"prompt": "x", "temperature": 3}, "input.temperature"),
        ({"prompt": "x", "stop": ["a"] * 5}, "input.stop"),
        ({"text": "x"}, "input.text"),
    ],
)
def test_a_prediction_that_comes_to_no_text_is_refused(given: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        asked(**given)
    assert caught.value.param == param


def test_the_output_of_a_prediction_is_its_text() -> None:
    texts = [Generated("a", Finish.STOP, 1, 1), Generated("b", Finish.STOP, 1, 1)]
    given: dict[str, Any] = {"prompt": ["x", "y"]}
    single = is_single(Task.GENERATION, given)
    assert output_of(texts, given, single=single) == ["a", "b"]
    given = {"prompt": "x"}
    single = is_single(Task.GENERATION, given)
    assert output_of(texts[:1], given, single=single) == "a"


def test_tensors_are_sampled_as_their_parameters_say() -> None:
    found = parameters.read({"max_tokens": 5, "temperature": 0.0, "stop": "."})
    found.check(ECHO)
    assert found.sampling() == Sampling(max_tokens=5, temperature=0.0, stop=(".",))
    embedder = ModelSpec(Task.EMBEDDING, BackendName.ONNX, source="x", name="minilm")
    with pytest.raises(InvalidInput, match="generate text") as caught:
        found.check(embedder)
    assert caught.value.param == "parameters.max_tokens"
    with pytest.raises(InvalidInput) as caught:
        parameters.read({"temperature": 9.0})
    assert caught.value.param == "parameters.temperature"
