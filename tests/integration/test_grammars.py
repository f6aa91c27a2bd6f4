"""Grammars on a tokenizer, without a model: what they let through, and what they refuse."""

import json
import random
import re
from typing import Any

import numpy as np
import pytest

from forebay.contract.errors import InvalidInput
from forebay.contract.formats import Format, FormatKind
from forebay.contract.generation import Message, Sampling
from forebay.contract.rows import ChatRow, TextRow
from forebay.contract.tools import Tool, ToolForm, Tools
from forebay.inference.backends.base import PreparedRow
from forebay.inference.generation.grammar import grammars
from forebay.inference.generation.grammar.grammars import Grammars, Held
from forebay.inference.generation.prompts import Prompts
from forebay.inference.generation.vocabulary import Vocabulary
from forebay.inference.tasks.chat import ChatTemplate
from tests.fixtures.decoders import tokenizer_of_bytes

END = 2
TOKENIZER = tokenizer_of_bytes()
SIZE = TOKENIZER.get_vocab_size() + 5
"""Logits; the last ones stand for no token."""

VOCABULARY = Vocabulary(TOKENIZER)
FORM = ToolForm(
    "<tool_call>",
    '<tool_call>\n{"name": "',
    '", "arguments": ',
    "}\n</tool_call>",
    '}\n</tool_call>\n<tool_call>\n{"name": "',
)
TIDE = Tool("tide", '{"type":"object","properties":{"at":{"enum":[1,2]}},"required":["at"]}')


def of(form: ToolForm | None = FORM, **others: Any) -> Grammars:
    return Grammars(
        TOKENIZER, VOCABULARY, **{"size": SIZE, "end_ids": (END, 0), "form": form, **others}
    )


def schema(told: Any) -> Format:
    return Format(FormatKind.SCHEMA, json.dumps(told))


def allowed(held: Held, text: str) -> set[int]:
    """Tokens that may follow on a text; the text itself must be allowed."""
    guide = held.begin()
    logits = np.zeros(SIZE, np.float32)
    for token in TOKENIZER.encode(text, add_special_tokens=False).ids:
        guide.apply(logits)
        assert np.isfinite(logits[token]), f"{TOKENIZER.id_to_token(token)!r} in {text!r}"
        guide.add(token)
        logits[:] = 0
    guide.apply(logits)
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def follows(held: Held, text: str, more: str) -> bool:
    """Whether a text may go on with another's first token."""
    return TOKENIZER.encode(more, add_special_tokens=False).ids[0] in allowed(held, text)


def wandered(held: Held, seed: int, *, most: int = 400) -> str | None:
    """A text of allowed tokens, drawn evenly; None where it finds no end."""
    draws, guide, tokens = random.Random(seed), held.begin(), list[int]()
    for _ in range(most):
        logits = np.zeros(SIZE, np.float32)
        guide.apply(logits)
        assert guide.fault is None
        token = draws.choice(np.flatnonzero(np.isfinite(logits)).tolist())
        if token in (END, 0):
            return b"".join(map(VOCABULARY.bytes_of, tokens)).decode()
        guide.add(token)
        tokens.append(token)
    return None


BOUNDED: dict[str, tuple[Any, Any]] = {
    "integers": (
        {"type": "integer", "minimum": -3, "maximum": 12, "multipleOf": 3},
        lambda made: made in range(-3, 13, 3),
    ),
    "numbers": (
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        lambda made: 0 < made < 1,
    ),
    "strings": (
        {"type": "string", "minLength": 2, "maxLength": 5},
        lambda made: isinstance(made, str) and 2 <= len(made) <= 5,
    ),
    "patterns": (
        {"type": "string", "pattern": "^[a-c]{2}-[0-9]$"},
        lambda made: re.fullmatch("[a-c]{2}-[0-9]", made),
    ),
    "formats": (
        {"type": "string", "format": "date"},
        lambda made: re.fullmatch(r"\d{4}-\d\d-\d\d", made),
    ),
    "lists": (
        {"type": "array", "items": {"enum": [1, "two", None]}, "minItems": 1, "maxItems": 3},
        lambda made: 1 <= len(made) <= 3 and all(one in (1, "two", None) for one in made),
    ),
    "tuples": (
        {"type": "array", "prefixItems": [{"const": 1}, {"type": "boolean"}], "items": False},
        lambda made: len(made) <= 2 and made[:1] in ([], [1]),
    ),
    "objects": (
        {
            "type": "object",
            "properties": {"a": {"type": "boolean"}, "b": {"const": {"c": []}}},
            "required": ["b"],
            "additionalProperties": False,
        },
        lambda made: made["b"] == {"c": []} and set(made) <= {"a", "b"},
    ),
    "counted objects": (
        {
            "type": "object",
            "patternProperties": {"^[a-z]$": {"type": "null"}},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 2,
        },
        lambda made: 1 <= len(made) <= 2,
    ),
    "named by a pattern": (
        {
            "type": "object",
            "patternProperties": {"^[xy]$": {"const": 0}},
            "additionalProperties": False,
            "minProperties": 1,
        },
        lambda made: made and set(made) <= {"x", "y"} and set(made.values()) == {0},
    ),
    "several": (
        {"anyOf": [{"const": 1}, {"oneOf": [{"const": "a"}, {"type": "boolean"}]}]},
        lambda made: made in (1, "a", True, False),
    ),
    "all of": (
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"const": 1}}, "required": ["a"]},
                {"properties": {"b": {"const": 2}}, "required": ["b"]},
                {"maxProperties": 2},
            ],
        },
        lambda made: made == {"a": 1, "b": 2},
    ),
    "references": (
        {
            "$defs": {
                "node": {
                    "type": "object",
                    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"const": 0}]}},
                    "required": ["next"],
                    "additionalProperties": False,
                }
            },
            "$ref": "#/$defs/node",
        },
        lambda made: made["next"] == 0 or set(made["next"]) == {"next"},
    ),
}


@pytest.mark.parametrize("name", BOUNDED)
def test_whatever_is_drawn_fits_its_schema_and_ends(name: str) -> None:
    told, fits = BOUNDED[name]
    held = of().held(schema(told), None)
    assert held is not None
    made = [wandered(held, seed) for seed in range(12)]
    ended = [text for text in made if text is not None]
    assert len(ended) > 3
    for text in ended:
        assert fits(json.loads(text)), text


def test_json_is_written_on_one_line() -> None:
    held = of().held(Format(FormatKind.OBJECT), None)
    assert held is not None
    assert follows(held, '{"a": [1, 2', ", ")
    assert not follows(held, "{", "\n")
    assert not follows(held, '{"a":', "\n")
    assert allowed(held, "") < set(range(3, SIZE - 5)), "it begins with a token, and none special"
    assert allowed(held, '{"a": 1}') == {END, 0}, "nothing follows but what ends a text"


def test_a_regular_expression_is_all_of_a_text() -> None:
    held = of().held(Format(FormatKind.REGEX, "(ab|c){1,3}"), None)
    assert held is not None
    for seed in range(10):
        text = wandered(held, seed)
        assert text is not None
        assert re.fullmatch("(ab|c){1,3}", text)


def test_a_text_that_may_call_tools_is_free_until_it_does() -> None:
    held = of().held(None, Tools((TIDE,)))
    assert held is not None
    assert held.form == FORM
    plain = {token for token in range(3, SIZE - 5) if VOCABULARY.bytes_of(token).isascii()}
    assert {END, *plain} <= allowed(held, "Hm, <tool"), "it may still become another word"
    call = '<tool_call>\n{"name": "tide", "arguments": {"at": 2}}\n</tool_call>'
    assert allowed(held, f"Well.\n{call}") > {END, 0}
    assert follows(held, call, "\n<")
    assert not follows(held, call, "a")
    assert not follows(held, '<tool_call>\n{"name": "tide", "arguments": {"at": ', "3")
    one = of().held(None, Tools((TIDE,), parallel=False))
    assert one is not None
    assert allowed(one, call) == {END, 0}


def test_a_text_that_must_call_tools_calls_one_of_them() -> None:
    wind = Tool("wind", '{"type":"object","additionalProperties":false}')
    both = of().held(None, Tools((TIDE, wind), required=True))
    only = of().held(None, Tools((TIDE, wind), only="wind"))
    assert both is not None
    assert only is not None
    begun = '<tool_call>\n{"name": "'
    assert not follows(both, "", "a")
    assert follows(both, begun, "tide")
    assert follows(both, begun, "wind")
    assert not follows(only, begun, "tide")


def test_beside_tools_a_text_may_be_held_to_a_schema() -> None:
    held = of().held(schema({"const": [1]}), Tools((TIDE,)))
    assert held is not None
    assert allowed(held, "[1]") == {END, 0}
    assert follows(held, "<tool_call>", "\n")
    assert not follows(held, "", "a")


def refused(format_: Format | None, tools: Tools | None = None, **others: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        of(**others).held(format_, tools)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"not": {}}, '"not"'),
        ({"type": "string", "pattern": "("}, "unclosed group"),
        ({"type": "string", "pattern": "^(?=a)b$"}, "look-around"),
        ({"type": "string", "format": "zebra"}, "zebra"),
        ({"type": "number", "minimum": 3, "maximum": 2}, "minimum"),
        ({"type": "strin"}, "strin"),
        ({"$ref": "#/$defs/none"}, "/$defs/none"),
        ({"$ref": "https://example.org/schema.json"}, "example.org"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "Write anyOf"),
        ({"$ref": "#"}, "leads back to itself"),
    ],
)
def test_a_schema_that_can_not_be_followed_says_why(told: Any, says: str) -> None:
    refusal = refused(schema(told))
    assert says in refusal.message
    assert refusal.param == "response_format"
    of_tool = refused(None, Tools((TIDE, Tool("f", json.dumps({"type": "object", **told})))))
    assert of_tool.param == "tools[1].function.parameters"


EXPENSIVE: dict[str, Any] = {
    "long patterns": {"type": "string", "pattern": "^(((a{100}){100}){100}){100}$"},
    "patterns of patterns": {"type": "string", "pattern": "^(([a-z]{1,999}){1,999}){1,999}$"},
    "guesses": {"type": "string", "pattern": "^(a?){1000}a{1000}$"},
    "many ways": {
        "allOf": [
            {"anyOf": [{"properties": {f"p{i}{j}": {"const": j}}} for j in range(8)]}
            for i in range(8)
        ]
    },
    "many properties": {"type": "object", "properties": {f"p{i}": {} for i in range(900)}},
    "long lists": {"type": "array", "items": {"type": "integer"}, "minItems": 10**6},
}


@pytest.mark.parametrize("name", EXPENSIVE)
def test_a_schema_that_is_made_to_be_expensive_is_refused_or_costs_its_text_alone(
    name: str,
) -> None:
    try:
        held = of().held(schema(EXPENSIVE[name]), None)
    except InvalidInput:
        return
    assert held is not None
    guide = held.begin()
    logits = np.zeros(SIZE, np.float32)
    for _ in range(40):
        guide.apply(logits)
        if guide.fault is not None:
            assert isinstance(guide.fault, InvalidInput)
            assert np.isnan(logits).all()
            guide.add(0)
            guide.apply(logits)
            assert isinstance(guide.fault, InvalidInput), "once it is at fault it stays so"
            return
        guide.add(int(np.flatnonzero(np.isfinite(logits))[-1]))
        logits[:] = 0


def test_what_was_compiled_is_remembered_and_only_so_much_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grammars, "REMEMBERED", 2)
    made = of()
    compiled: list[str] = []
    compile_ = made._compile

    def counted(grammar: str, param: str) -> Any:
        compiled.append(grammar)
        return compile_(grammar, param)

    monkeypatch.setattr(made, "_compile", counted)
    for value in (1, 1, 2, 1, 3, 1, 2):
        assert made.held(schema({"const": value}), None) is not None
    assert len(compiled) == 4


def test_a_model_without_tools_or_an_end_says_so() -> None:
    assert refused(None, Tools((TIDE,)), form=None).param == "tools"
    assert "ends a text" in refused(Format(FormatKind.OBJECT), end_ids=()).message
    plain = ToolForm("", '{"name": "', '", "parameters": ', "}")
    both = refused(Format(FormatKind.OBJECT), Tools((TIDE,)), form=plain)
    assert both.param == "response_format"
    assert of(plain).held(Format(FormatKind.OBJECT), Tools((TIDE,), required=True)) is not None


def test_what_holds_texts_to_nothing_refuses_forms_and_tools() -> None:
    prompts = Prompts(TOKENIZER, ChatTemplate("x"), None, vocabulary=SIZE, context=99)
    chat = ChatRow((Message("user", "a"),), Tools((TIDE,)))
    for row, sampling, param in (
        (TextRow("a"), Sampling(format=Format(FormatKind.OBJECT)), "response_format"),
        (chat, Sampling(), "tools"),
    ):
        refusal = prompts.prepare(row, 0, sampling)
        assert isinstance(refusal, InvalidInput)
        assert refusal.param == param
    assert isinstance(prompts.prepare(TextRow("a"), 0, Sampling()), PreparedRow)
