"""Texts that are held to a form, in the generation loop on a graph that was really built."""

import json
from typing import Any

import msgspec
import pytest

from forebay.contract.errors import InvalidInput
from forebay.contract.formats import Format, FormatKind
from forebay.contract.generation import Finish, Message, Sampling
from forebay.contract.rows import ChatRow, Options, Row, TextRow
from forebay.contract.tools import Tool, Tools
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.model import OnnxGenerator
from forebay.inference.generation.protocol import Wanted
from tests.fixtures.calling import TEMPLATES, Caller
from tests.fixtures.writing import Text, run

PERSON = Format(
    FormatKind.SCHEMA,
    json.dumps(
        {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 12},
                "age": {"type": "integer", "minimum": 0, "maximum": 150},
                "kind": {"enum": ["crew", "guest"]},
            },
            "required": ["name", "age", "kind"],
            "additionalProperties": False,
        }
    ),
)
TIDE = Tool(
    "tide",
    '{"type":"object","properties":{"at":{"enum":["Whitby","Blyth"]}},"required":["at"],'
    '"additionalProperties":false}',
    "Height of the water.",
)
NOW = Tool("now", '{"type":"object","properties":{},"additionalProperties":false}')
GREEDY = Sampling(temperature=0, max_tokens=200, format=PERSON)


@pytest.fixture(scope="module")
def generator(caller: Caller) -> OnnxGenerator:
    return caller.generator()


def prepared(generator: OnnxGenerator, row: Row, sampling: Sampling) -> PreparedRow:
    (made,) = generator.prepare([row], truncate=False, options=Options(sampling=sampling))
    assert isinstance(made, PreparedRow), made
    return made


def written(
    generator: OnnxGenerator, sampling: Sampling, row: Row | None = None, **others: Any
) -> Text:
    row = row or TextRow("A person on board:")
    wanted = Wanted(1, prepared(generator, row, sampling), sampling, **others)
    return run(generator.engine, wanted)[1]


def chat(*tools: Tool, **asked: Any) -> ChatRow:
    return ChatRow((Message("user", "How high is it?"),), Tools(tools, **asked))


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"temperature": 1.0, "seed": 7},
        {"temperature": 2.0, "seed": 8, "top_k": 5},
        {"temperature": 1.5, "seed": 9, "top_p": 0.5, "min_p": 0.1},
        {"repetition_penalty": 1.5, "presence_penalty": 1.0, "frequency_penalty": 1.0},
        {"logit_bias": tuple((token, -100.0) for token in range(3, 300))},
        {"logit_bias": tuple((token, 100.0) for token in range(3, 100))},
        {"logprobs": 3},
    ],
    ids=str,
)
def test_a_text_fits_its_schema_however_it_is_sampled(
    generator: OnnxGenerator, changed: dict[str, Any]
) -> None:
    sampling = msgspec.structs.replace(GREEDY, **changed)
    text = written(generator, sampling)
    assert text.finish is Finish.STOP
    person = json.loads(text.text)
    assert set(person) == {"name", "age", "kind"}
    assert person["age"] in range(151)
    assert person["kind"] in ("crew", "guest")
    again = written(generator, sampling)
    assert (again.text, again.tokens) == (text.text, text.tokens)
    if sampling.logprobs:
        for told in text.logprobs:
            assert told.logprob <= 0
            assert 1 <= len(told.top) <= 3
            assert told.token in [one.token for one in told.top], "greedy takes the likeliest"


def test_a_text_without_room_says_so_and_others_are_what_they_are_alone(
    generator: OnnxGenerator,
) -> None:
    short = msgspec.structs.replace(GREEDY, max_tokens=5)
    free = Sampling(temperature=0, max_tokens=30, ignore_end=True)
    seeded = msgspec.structs.replace(GREEDY, temperature=1.2, seed=3)
    asked = [GREEDY, short, free, seeded]
    alone = [written(generator, sampling) for sampling in asked]
    row = TextRow("A person on board:")
    together = run(
        generator.engine,
        *(
            Wanted(at, prepared(generator, row, sampling), sampling)
            for at, sampling in enumerate(asked)
        ),
    )
    for at, text in enumerate(alone):
        assert (together[at].text, together[at].tokens) == (text.text, text.tokens)
    assert alone[1].finish is Finish.LENGTH
    assert alone[0].text.startswith(alone[1].text)


@pytest.mark.parametrize("cut", [1, 9, 24])
def test_another_worker_goes_on_with_a_text_as_it_would_have_gone_on(
    generator: OnnxGenerator, cut: int
) -> None:
    sampling = msgspec.structs.replace(GREEDY, temperature=1.0, seed=5)
    whole = written(generator, sampling)
    rest = written(generator, sampling, written=whole.tokens[:cut])
    assert rest.tokens == whole.tokens[cut:]
    assert whole.text.endswith(rest.text)
    call = chat(TIDE, required=True, parallel=False)
    said = msgspec.structs.replace(sampling, format=None)
    called = written(generator, said, call)
    again = written(generator, said, call, written=called.tokens[:cut])
    assert called.finish is again.finish is Finish.TOOL_CALLS
    assert "".join(piece.arguments for piece in called.calls).endswith(
        "".join(piece.arguments for piece in again.calls)
    )


def test_a_text_that_gave_its_slot_away_goes_on_as_it_would_have(caller: Caller) -> None:
    generator = caller.generator(slots=1)
    alone = written(generator, GREEDY)
    engine = generator.engine
    row = prepared(generator, TextRow("A person on board:"), GREEDY)
    engine.submit(Wanted(1, row, GREEDY, urgent=False))
    texts = {1: Text(), 2: Text()}
    for _ in range(8):
        for delta in engine.step():
            texts[delta.id].add(delta)
    assert texts[1].finish is None, "it is in the midst"
    engine.submit(Wanted(2, row, GREEDY))
    while engine.busy:
        for delta in engine.step():
            texts[delta.id].add(delta)
    assert texts[1].text == texts[2].text == alone.text


def test_a_stop_string_ends_a_text_before_its_form_is_complete(generator: OnnxGenerator) -> None:
    text = written(generator, msgspec.structs.replace(GREEDY, stop=('"age"',)))
    assert text.finish is Finish.STOP
    assert text.text.startswith('{"name": "')
    assert text.text.endswith(", ")


@pytest.mark.parametrize("template", TEMPLATES)
def test_calls_are_made_in_the_form_of_the_models_template(caller: Caller, template: str) -> None:
    generator = caller.generator(template)
    sampling = Sampling(temperature=1.0, seed=2, max_tokens=120)
    text = written(generator, sampling, chat(TIDE, NOW, required=True, parallel=False))
    assert text.finish is Finish.TOOL_CALLS
    assert text.text == ""
    (call,) = text.made
    assert call.name in ("tide", "now")
    assert set(json.loads(call.arguments)) == ({"at"} if call.name == "tide" else set())
    only = written(generator, sampling, chat(TIDE, NOW, only="tide", parallel=False))
    assert [made.name for made in only.made] == ["tide"]


@pytest.mark.parametrize("template", ["hermes", "mistral"])
def test_several_calls_may_be_made_at_once(caller: Caller, template: str) -> None:
    generator = caller.generator(template)
    row = chat(NOW, required=True)
    for seed in range(20):
        text = written(generator, Sampling(seed=seed, max_tokens=400), row)
        if len(text.made) > 1:
            break
    assert len(text.made) > 1
    # The last may be cut off where there are too many.
    assert {(call.name, call.arguments) for call in text.made[:-1]} == {("now", "{}")}


def test_a_model_that_may_call_tools_says_something_or_calls_one(caller: Caller) -> None:
    generator = caller.generator("mistral")
    marker: Any = caller.tiny.tokenizer.token_to_id("[TOOL_CALLS]")
    said = Sampling(temperature=0, max_tokens=20, logit_bias=((marker, -100.0),))
    text = written(generator, said, chat(TIDE))
    assert text.text
    assert not text.calls
    calls = Sampling(temperature=0, max_tokens=100, logit_bias=((marker, 100.0),))
    text = written(generator, calls, chat(TIDE, parallel=False))
    assert (text.text, [call.name for call in text.made]) == ("", ["tide"])
    assert text.finish is Finish.TOOL_CALLS


def test_a_call_without_room_is_told_as_far_as_it_came(generator: OnnxGenerator) -> None:
    row = chat(TIDE, required=True, parallel=False)
    whole = written(generator, Sampling(temperature=0, max_tokens=200), row)
    for most in range(1, len(whole.tokens)):
        text = written(generator, Sampling(temperature=0, max_tokens=most), row)
        assert text.finish is Finish.LENGTH
        assert len(text.made) <= 1
        for call in text.made:
            assert call.name == whole.made[0].name
            assert whole.made[0].arguments.startswith(call.arguments)


def test_a_form_that_becomes_too_much_work_ends_its_text_alone(generator: OnnxGenerator) -> None:
    # What begins the text is simple, so that it is found out in the midst.
    told = {
        "type": "array",
        "prefixItems": [{"const": 1}, {"type": "string", "pattern": "^(a?){999}a{999}b$"}],
        "minItems": 2,
    }
    hard = msgspec.structs.replace(GREEDY, format=Format(FormatKind.SCHEMA, json.dumps(told)))
    row = TextRow("A person on board:")
    alone = written(generator, GREEDY)
    texts = run(
        generator.engine,
        Wanted(1, prepared(generator, row, hard), hard),
        Wanted(2, prepared(generator, row, GREEDY), GREEDY),
    )
    assert isinstance(texts[1].error, InvalidInput)
    assert "simpler" in texts[1].error.message
    assert texts[2].text == alone.text
    assert generator.engine.free == generator.engine.slots


def test_a_template_without_a_form_for_tools_refuses_them_and_their_messages(
    caller: Caller,
) -> None:
    plain = msgspec.structs.replace(caller, forms={"hermes": None}).generator()

    def refused(row: Row) -> InvalidInput:
        (refusal,) = plain.prepare([row], truncate=False)
        assert isinstance(refusal, InvalidInput)
        return refusal

    assert refused(chat(TIDE)).param == "tools"
    assert refused(ChatRow((Message("tool", "4 m", answers="a"),))).param == "messages"
    wrong = refused(chat(Tool("f", '{"type":"object","not":{}}')))
    assert wrong.param == "tools"
