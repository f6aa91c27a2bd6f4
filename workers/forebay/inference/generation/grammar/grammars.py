"""Grammars of what requests ask for: compiled once, remembered, and refused where they can't be."""

import json
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any, Final

import msgspec
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from tokenizers import Tokenizer

from forebay.contract.errors import InvalidInput
from forebay.contract.formats import Format, FormatKind
from forebay.contract.tools import ToolForm, Tools
from forebay.inference.generation.grammar import lark
from forebay.inference.generation.grammar.guide import Guide, said
from forebay.inference.generation.grammar.tokens import tokens_of
from forebay.inference.generation.vocabulary import Vocabulary

REMEMBERED: Final = 32
"""Grammars that are kept; each may hold some megabytes of what its texts went through."""

LIMITS: Final = LLParserLimits(
    max_items_in_row=1_000,
    initial_lexer_fuel=100_000,
    step_lexer_fuel=20_000,
    step_max_items=20_000,
    max_lexer_states=20_000,
    max_grammar_size=100_000,
    verbose_errors=False,
)
"""A hundredth to a third of llguidance's own limits. What nobody writes by hand and takes longer
than a tenth of a second, in a step or while it is compiled, is beyond them."""

# JSON on one line, spaced as Python's `json.dumps` does it: models have seen most of it that way,
# and none can go on with spaces and line breaks for as long as it has room.
_SPACING: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
# What llguidance says where its words are of its own insides or options, and what we say.
_TOLD: Final = {
    "NoExtensionBias": "a $ref in it leads back to itself with nothing in between. Give the schema "
    "that it names keywords of its own",
    "coerce_one_of": "more than one alternative of a oneOf may be valid at once. Write anyOf, or "
    "alternatives that exclude one another",
}
_ANY_OBJECT: Final = '{"type": "object"}'


class Held(msgspec.Struct, frozen=True):
    """What a text is held to.

    Attributes:
        begin: makes the guide of a text that begins.
        form: how calls are read out of it; None where it can't have any.
        shown: special tokens that are text nevertheless: by them calls are recognised.
    """

    begin: Callable[[], Guide]
    form: ToolForm | None = None
    shown: frozenset[int] = frozenset()


class Grammars:
    """Compiles grammars for one model. Used by one thread at a time.

    Args:
        tokenizer: the artifact's.
        vocabulary: what its tokens stand for.
        size: number of logits.
        end_ids: tokens that end a text.
        form: how the model writes calls; None where its template has no form for them.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        *,
        size: int,
        end_ids: Collection[int],
        form: ToolForm | None,
    ) -> None:
        self.form = form
        self._tokenizer = tokenizer
        self._vocabulary = vocabulary
        self._size = size
        self._end_ids = end_ids
        self._known: OrderedDict[str, LLMatcher] = OrderedDict()
        # Made for the first text that needs it: a worker starts without.
        self._tokens: LLTokenizer | None = None
        token = None if form is None or not form.marker else tokenizer.token_to_id(form.marker)
        self._marker = token if token in vocabulary.special else None

    def held(self, format_: Format | None, tools: Tools | None) -> Held | None:
        """What a text with this format and these tools is held to; None if it is to nothing.

        Raises:
            InvalidInput: a schema is none, asks for what can't be done or is too much work, or the
                model can't do both; `param` says which field of a request.
        """
        if tools is None:
            return None if format_ is None else Held(self._compiled(*_alone(format_)))
        form = self.form
        if form is None:
            raise InvalidInput(
                "This model's chat template has no form for tools: leave them out, or ask a model "
                "that was made for them.",
                param="tools",
            )
        for at, tool in enumerate(tools.tools):
            _check(tool.parameters, f"tools[{at}].function.parameters")
        schema = None
        if format_ is not None and not (tools.required or tools.only):
            schema = self._beside(format_, form)
        spaced = tuple(
            msgspec.structs.replace(tool, parameters=_spaced(tool.parameters))
            for tool in tools.tools
        )
        grammar = lark.written(
            msgspec.structs.replace(tools, tools=spaced), form, marker=self._marker, schema=schema
        )
        shown = frozenset[int]() if self._marker is None else frozenset((self._marker,))
        begin = self._compiled(LLMatcher.grammar_from_lark(grammar), "tools")
        return Held(begin, form, shown)

    def _beside(self, format_: Format, form: ToolForm) -> str:
        """The schema of what is said where tools may be called instead."""
        if not form.marker or format_.kind is FormatKind.REGEX:
            raise InvalidInput(
                "This model can't be held to this response_format and have tools to choose from: "
                "its calls could be taken for what it says. Send one of them.",
                param="response_format",
            )
        schema = format_.text or _ANY_OBJECT
        _check(schema, "response_format")
        return _spaced(schema)

    def _compiled(self, grammar: str, param: str) -> Callable[[], Guide]:
        matcher = self._known.get(grammar)
        if matcher is None:
            matcher = self._compile(grammar, param)
            self._known[grammar] = matcher
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(grammar)
        found = matcher
        return lambda: Guide(found.deep_copy(), param)

    def _compile(self, grammar: str, param: str) -> LLMatcher:
        if not self._end_ids:
            raise InvalidInput(
                "This model has no token that ends a text: it can't be held to a form.",
                param=param,
            )
        if self._tokens is None:
            self._tokens = tokens_of(
                self._tokenizer, self._vocabulary, size=self._size, end_ids=self._end_ids
            )
        matcher = LLMatcher(self._tokens, grammar, log_level=0, limits=LIMITS)
        if not matcher.is_error():
            # The first mask builds what all that follow go by: here nobody's step waits for it.
            matcher.compute_bitmask()
        if matcher.is_error():
            raise _refused(matcher.get_error(), param)
        return matcher


def _alone(format_: Format) -> tuple[str, str]:
    """The grammar of a text without tools, and the field that it comes from."""
    if format_.kind is FormatKind.REGEX:
        return LLMatcher.grammar_from_regex(format_.text), "response_format"
    return _grammar(format_.text or _ANY_OBJECT, "response_format"), "response_format"


def _spaced(schema: str) -> str:
    """A schema that says how the JSON is spaced."""
    told: dict[str, Any] = json.loads(schema)
    return json.dumps({**told, "x-guidance": _SPACING}, ensure_ascii=False)


def _check(schema: str, param: str) -> None:
    """Refuse a schema that can't be followed, by its own field."""
    error = LLMatcher.validate_grammar(_grammar(schema, param), limits=LIMITS)
    if error and not error.startswith("WARNING"):
        raise _refused(error, param)


def _grammar(schema: str, param: str) -> str:
    try:
        return LLMatcher.grammar_from_json_schema(_spaced(schema))
    except (ValueError, RecursionError) as error:
        raise _refused(str(error), param) from error


def _refused(error: str, param: str) -> InvalidInput:
    why = next((ours for theirs, ours in _TOLD.items() if theirs in error), said(error))
    return InvalidInput(f"{param} asks for what texts can't be held to: {why}.", param=param)
