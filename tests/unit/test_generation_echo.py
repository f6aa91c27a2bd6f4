"""The generator that gives prompts again, and what its engine promises as any other's does."""

import itertools
from pathlib import Path

import pytest

from forebay.contract.errors import ConfigurationError, InvalidInput, TooLong
from forebay.contract.generation import (
    Alternative,
    Finish,
    GenerationTable,
    Message,
    Sampling,
    Speculation,
    TokenLogprob,
)
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.model_rules import checked
from forebay.contract.rows import ChatRow, Options, Row, Task, TextRow, TokensRow
from forebay.inference.backends import load as backends
from forebay.inference.backends.base import PreparedRow
from forebay.inference.footprint import measure
from forebay.inference.generation.echo import EchoGenerator
from forebay.inference.generation.load import load
from forebay.inference.generation.protocol import Delta, Generator, Wanted
from forebay.storage.artifacts import ArtifactStore

SPEC = ModelSpec(Task.GENERATION, BackendName.ECHO, name="parrot")


def prepared(model: Generator, row: Row, sampling: Sampling) -> PreparedRow | InvalidInput:
    (one,) = model.prepare([row], truncate=False, options=Options(sampling=sampling))
    return one


def wanted(
    model: Generator,
    prompt: str,
    sampling: Sampling | None = None,
    *,
    id_: int = 1,
    urgent: bool = True,
    written: tuple[int, ...] = (),
) -> Wanted:
    sampling = sampling or Sampling()
    ready = prepared(model, TextRow(prompt), sampling)
    assert isinstance(ready, PreparedRow)
    return Wanted(id_, ready, sampling, urgent=urgent, written=written)


def said(prompt: str, sampling: Sampling | None = None, **given: object) -> tuple[str, Delta]:
    model = EchoGenerator(GenerationTable())
    model.engine.submit(wanted(model, prompt, sampling, **given))  # type: ignore[arg-type]
    deltas: list[Delta] = []
    while model.engine.busy:
        deltas += model.engine.step()
    return "".join(delta.text for delta in deltas), deltas[-1]


@pytest.mark.parametrize("prompt", ["one", "one two", "  two  blanks \n", "ä ö\tü", " "])
def test_a_prompt_is_given_again_as_it_is(prompt: str) -> None:
    text, last = said(prompt)
    assert (text, last.finish) == (prompt, Finish.STOP)


def test_a_text_ends_where_it_is_told_to() -> None:
    assert said("a b c d", Sampling(max_tokens=2))[0] == "a b"
    assert said("a b c d", Sampling(max_tokens=2))[1].finish is Finish.LENGTH
    assert said("a b c d", Sampling(max_tokens=2, stop=("c",)))[1].finish is Finish.LENGTH
    text, last = said("a bcd e", Sampling(stop=("zz", "cd e", "d")))
    assert (text, last.finish) == ("a b", Finish.STOP)
    assert said("a b", Sampling(stop=("a",)))[0] == ""
    text, last = said("a b", Sampling(max_tokens=5, ignore_end=True))
    assert (text, last.finish) == ("a ba ba", Finish.LENGTH)


def test_a_text_goes_on_after_what_was_written_elsewhere() -> None:
    text, last = said("a b c d", written=(0, 1))
    assert (text, last.finish) == (" c d", Finish.STOP)
    text, last = said("a b c d", written=(0, 1, 2, 3))
    assert (text, last.finish) == ("", Finish.STOP)


def test_tokens_are_told_with_how_likely_they_were() -> None:
    alone = TokenLogprob(b"one", 0.0)
    assert said("one", Sampling(logprobs=0))[1].logprobs == (alone,)
    with_one = TokenLogprob(b"one", 0.0, (Alternative(b"one", 0.0),))
    assert said("one", Sampling(logprobs=2))[1].logprobs == (with_one,)
    assert said("one")[1].logprobs == ()


def test_what_leaves_no_room_or_is_no_text_is_refused() -> None:
    model = EchoGenerator(GenerationTable(context=4))
    assert isinstance(prepared(model, TextRow("a b c"), Sampling()), PreparedRow)
    for prompt, sampling in (("a b c d", Sampling()), ("a b c", Sampling(max_tokens=2))):
        refused = prepared(model, TextRow(prompt), sampling)
        assert isinstance(refused, TooLong)
        assert "the model takes 4 together" in refused.message
    chat = ChatRow((Message("system", "x"), Message("user", "a b")))
    ready = prepared(model, chat, Sampling())
    assert isinstance(ready, PreparedRow)
    assert ready.length == 2
    for row in (ChatRow(()), TokensRow((1,))):
        assert isinstance(prepared(model, row, Sampling()), InvalidInput)


def test_texts_share_the_slots_and_who_waits_goes_first() -> None:
    model = EchoGenerator(GenerationTable(slots=2))
    engine = model.engine
    for id_ in (1, 2, 3):
        engine.submit(wanted(model, "a b c", id_=id_, urgent=False))
    assert [delta.id for delta in engine.step()] == [1, 2]
    engine.submit(wanted(model, "x y", id_=9))
    steps = []
    while engine.busy:
        steps.append([(delta.id, delta.text) for delta in engine.step()])
    assert steps[0] == [(2, " b"), (9, "x")]
    texts: dict[int, str] = {}
    for id_, text in itertools.chain.from_iterable(steps):
        texts[id_] = texts.get(id_, "") + text
    assert texts == {1: " b c", 2: " b c", 3: "a b c", 9: "x y"}
    # The one that lost its slot has it back before the one that never had one.
    ends = [id_ for step in steps for id_, text in step if text in (" c", " y")]
    assert ends.index(1) < ends.index(3)


def test_a_canceled_text_is_heard_of_no_more_wherever_it_is() -> None:
    model = EchoGenerator(GenerationTable(slots=1))
    engine = model.engine
    for id_ in (1, 2, 3):
        engine.submit(wanted(model, "a b", id_=id_))
    engine.step()
    for id_ in (1, 3, 7):
        engine.cancel(id_)
    assert [delta.id for delta in engine.step() + engine.step()] == [2, 2]
    assert not engine.busy


def test_it_is_loaded_as_a_generator_and_measured_without_any_library(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    assert isinstance(load(SPEC, store), Generator)
    with pytest.raises(ConfigurationError, match="generates text"):
        backends.load(SPEC, store)
    assert measure(SPEC, tmp_path).imported == ()


@pytest.mark.parametrize(
    ("field", "table"),
    [
        ("slots", GenerationTable(slots=0)),
        ("context", GenerationTable(context=-1)),
        ("timeout_s", GenerationTable(timeout_s=0)),
        ("tokens_per_s", GenerationTable(tokens_per_s=-1)),
        ("draft", GenerationTable(draft="other")),
        ("draft", GenerationTable(speculation=Speculation.DRAFT)),
        ("draft", GenerationTable(speculation=Speculation.DRAFT, draft="parrot")),
    ],
)
def test_a_table_out_of_range_names_its_field(field: str, table: GenerationTable) -> None:
    spec = ModelSpec(Task.GENERATION, BackendName.ECHO, name="parrot", generation=table)
    with pytest.raises(ConfigurationError, match=rf"generation\.{field}: must be"):
        checked(spec, "parrot")
    if table.slots:
        with pytest.raises(ConfigurationError, match=r"generation: must be left out"):
            checked(ModelSpec(Task.ECHO, BackendName.ECHO, generation=table), "echo")
