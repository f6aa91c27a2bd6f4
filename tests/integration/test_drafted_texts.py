"""Texts whose tokens are drafted come to what they come to without, whatever is drafted."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from forebay.build.decoders.pipeline import SAMPLES
from forebay.build.draft import manifest_of
from forebay.contract.errors import BackendFailed, ConfigurationError
from forebay.contract.generation import GenerationTable, Sampling, Speculation
from forebay.contract.model import BackendName, ModelSpec
from forebay.contract.rows import Task
from forebay.inference.backends.graph import MODEL_FILE
from forebay.inference.generation.checking import Speculating
from forebay.inference.generation.draft_model import ModelDrafts
from forebay.inference.generation.drafting import ROWS, Drafting, Room
from forebay.inference.generation.drafts import Drafter, Ids, Lookup, Text
from forebay.inference.generation.prompts import Prompt
from forebay.inference.generation.protocol import Wanted
from forebay.inference.generation.session import DecoderSession
from forebay.inference.generation.trial import trial
from forebay.inference.generation.worth import Costs
from forebay.storage.artifacts import Artifact
from forebay.storage.checks import Checked, Checks
from tests.fixtures.decoders import CONTEXT
from tests.fixtures.writing import Text as Written
from tests.fixtures.writing import Tiny, run, wanted

EAGER = Costs(run=1.0, row=0.0, token=0.0)
"""Runs that cost the same whatever their rows: everything is worth a check."""

BESIDE = Costs(run=0.0, row=1.0, token=0.0, draft=-1.0)
"""Drafted tokens cost nothing at all: they are worth a check beside other texts as well."""

LONG = Sampling(temperature=0, max_tokens=60, ignore_end=True)


class Prophet:
    """Drafts what is known to follow, but for a token here and there."""

    def __init__(self, texts: Mapping[tuple[int, ...], Sequence[int]], wrong: float) -> None:
        self._texts = texts
        self._wrong = wrong
        self._draws = random.Random(3)

    def draft(self, slot: int, text: Text, most: int) -> Sequence[int]:
        tokens = tuple(text.tokens.tolist())
        for prompt, written in self._texts.items():
            if tokens[: len(prompt)] == prompt:
                done = len(tokens) - len(prompt)
                ahead = list(written[done : done + most])
                return [t + (self._draws.random() < self._wrong) for t in ahead]
        return ()


class Nothing:
    """Drafts nothing."""

    def draft(self, slot: int, text: Text, most: int) -> Sequence[int]:
        return ()


def requests(draws: random.Random) -> list[Wanted]:
    """Of all kinds of sampling, of prompts that repeat themselves."""
    kinds = (
        LONG,
        Sampling(temperature=0, max_tokens=60, logprobs=3),
        Sampling(temperature=0, max_tokens=60, repetition_penalty=1.3, frequency_penalty=0.2),
        Sampling(temperature=1.2, max_tokens=60, seed=4, top_p=0.9, ignore_end=True),
        Sampling(temperature=0.7, max_tokens=60, seed=9, top_k=5, presence_penalty=0.5),
        Sampling(temperature=0, max_tokens=60, stop=("e",)),
        Sampling(temperature=0, max_tokens=1),
        Sampling(temperature=0, max_tokens=2, ignore_end=True),
    )
    made = []
    for id_, sampling in enumerate(kinds * 2):
        words = [draws.randrange(3, 500) for _ in range(12)]
        made.append(wanted(id_, (words * 4)[: draws.randint(14, 48)], sampling))
    return made


def written(
    tiny: Tiny, drafter: Drafter, asked: Sequence[Wanted], slots: int
) -> dict[int, Written]:
    session = tiny.session(slots=slots, rows=ROWS)
    engine = tiny.engine(session)
    engine.speculate(Speculating(drafter, EAGER, session, rows=ROWS))
    texts = run(engine, *asked)
    assert engine.free == slots
    return texts


@pytest.fixture(scope="module")
def asked() -> list[Wanted]:
    return requests(random.Random(5))


@pytest.fixture(scope="module")
def plain(tiny_llama: Tiny, asked: list[Wanted]) -> dict[int, Written]:
    """What each comes to alone, a token a step."""
    session = tiny_llama.session(slots=1)
    return {one.id: run(tiny_llama.engine(session), one)[one.id] for one in asked}


def known(asked: list[Wanted], plain: Mapping[int, Written]) -> dict[tuple[int, ...], list[int]]:
    return {tuple(one.prompt.data.tolist()): list(plain[one.id].tokens) for one in asked}


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("wrong", [0.0, 0.3, 1.0])
def test_texts_are_the_same_whatever_is_drafted(
    tiny_llama: Tiny, asked: list[Wanted], plain: dict[int, Written], wrong: float, slots: int
) -> None:
    texts = written(tiny_llama, Prophet(known(asked, plain), wrong), asked, slots)
    for one in asked:
        assert texts[one.id].what == plain[one.id].what, one
    drafted = sum(text.drafted for text in texts.values())
    accepted = sum(text.accepted for text in texts.values())
    assert drafted > (100 if slots == 1 else 30)
    assert (accepted == drafted) == (wrong == 0)
    assert (accepted == 0) == (wrong == 1)


def test_texts_are_the_same_with_what_is_looked_up(tiny_llama: Tiny) -> None:
    # Texts of a few tokens are full of what was there before.
    few = tuple((token, 30.0) for token in (50, 51, 52))
    kinds = (Sampling(temperature=0, logit_bias=few), Sampling(seed=1, logit_bias=few))
    asked = [
        wanted(id_, range(3 + id_, 20), msgspec.structs.replace(kind, max_tokens=80))
        for id_, kind in enumerate(kinds)
    ]
    session = tiny_llama.session(slots=1)
    plain = {one.id: run(tiny_llama.engine(session), one)[one.id] for one in asked}
    texts = written(tiny_llama, Lookup(), asked, 1)
    for one in asked:
        assert texts[one.id].what == plain[one.id].what
        assert texts[one.id].accepted > 10
        assert texts[one.id].drafted > texts[one.id].accepted


@pytest.mark.parametrize("slots", [1, 2])
def test_texts_are_the_same_with_what_another_model_drafts(
    tiny_llama: Tiny, asked: list[Wanted], plain: dict[int, Written], slots: int
) -> None:
    # Of parts that are smaller than prompts, so that it takes several steps to catch up.
    drafter = ModelDrafts(tiny_llama.session(slots=slots, part=8), tiny_llama.decoder.vocabulary)
    texts = written(tiny_llama, drafter, asked, slots)
    for one in asked:
        assert texts[one.id].what == plain[one.id].what, one
        if one.sampling == LONG and slots == 1:
            # It is the same model: what it drafts is right.
            assert texts[one.id].accepted == texts[one.id].drafted > 30


def test_a_model_that_drafts_goes_on_after_it_failed_and_where_it_has_no_room_drafts_nothing(
    tiny_llama: Tiny,
) -> None:
    session = tiny_llama.session(slots=1, part=8, capacity=32)
    drafter = ModelDrafts(session, tiny_llama.decoder.vocabulary)
    text = Text(np.arange(3, 23), 20)
    assert [len(drafter.draft(0, text, 4)) for _ in range(3)] == [0, 0, 4]
    once = drafter.draft(0, text, 4)
    assert once == drafter.draft(0, text, 4)
    for token in once[:2]:
        text.add(token)
    assert drafter.draft(0, text, 2) == once[2:], "what was right is not computed again"
    for token in range(8):
        text.add(100 + token)
    assert len(drafter.draft(0, text, 4)) in {0, 2}
    text.add(1)
    text.add(1)
    assert drafter.draft(0, text, 4) == (), "there is no room for more"
    other = Text(np.arange(3, 9), 20)
    assert len(drafter.draft(0, other, 4)) == 4
    drafter.close()
    assert drafter.draft(0, other, 4) == ()


@pytest.mark.parametrize("slots", [1, 3])
@pytest.mark.parametrize("spoilt", [(), (0,), (9, 10, 30), range(60)])
def test_texts_are_the_same_whatever_is_expected_of_them(
    tiny_llama: Tiny,
    asked: list[Wanted],
    plain: dict[int, Written],
    spoilt: Sequence[int],
    slots: int,
) -> None:
    expecting: list[tuple[Wanted, Ids]] = []
    for one in asked:
        tokens = np.array(plain[one.id].tokens)
        wrong = [place for place in spoilt if place < len(tokens)]
        tokens[wrong] = 1  # of a special token, which is in no text
        prompt = Prompt(one.prompt.length, one.prompt.data, expected=tokens)
        expecting.append((msgspec.structs.replace(one, prompt=prompt), tokens))
    texts = written(tiny_llama, Nothing(), [one for one, _ in expecting], slots)
    for one, expected in expecting:
        text = texts[one.id]
        assert text.what == plain[one.id].what, one
        assert text.expected == len(expected)
        assert text.met == np.count_nonzero(expected != 1)
        if slots == 1 and one.sampling == LONG:
            assert (text.accepted > 40) == (len(spoilt) < 60)
            assert (text.drafted > text.accepted) == (len(spoilt) == 3)


def test_a_text_that_another_worker_began_goes_on_as_was_expected(tiny_llama: Tiny) -> None:
    one = wanted(1, range(3, 20), LONG)
    (text,) = run(tiny_llama.engine(tiny_llama.session()), one).values()
    prompt = Prompt(17, one.prompt.data, expected=np.array(text.tokens))
    begun = msgspec.structs.replace(one, prompt=prompt, written=text.tokens[:40])
    told = written(tiny_llama, Nothing(), [begun], 1)[1]
    assert told.tokens == text.tokens[40:]
    assert (told.expected, told.met) == (60, 60)
    assert told.drafted > 10
    ended = msgspec.structs.replace(begun, written=text.tokens)
    assert written(tiny_llama, Nothing(), [ended], 1)[1].met == 60


def test_what_is_drafted_and_right_takes_fewer_steps(tiny_llama: Tiny) -> None:
    one = wanted(1, range(3, 20), LONG)
    (text,) = run(tiny_llama.engine(tiny_llama.session()), one).values()
    session = tiny_llama.session(rows=ROWS)
    engine = tiny_llama.engine(session)
    prophet = Prophet({tuple(range(3, 20)): text.tokens}, 0.0)
    engine.speculate(Speculating(prophet, EAGER, session, rows=ROWS))
    engine.submit(one)
    steps = 0
    while engine.busy:
        engine.step()
        steps += 1
    # The prompt in two parts and a token with it, then as many as there are rows.
    assert steps == 2 + -(-(60 - 1) // ROWS)


def test_a_text_that_another_worker_began_catches_up_by_checks_and_goes_on_the_same(
    tiny_llama: Tiny,
) -> None:
    one = wanted(1, range(3, 20), LONG)
    (text,) = run(tiny_llama.engine(tiny_llama.session()), one).values()
    session = tiny_llama.session(rows=ROWS)
    engine = tiny_llama.engine(session)
    engine.speculate(Speculating(Lookup(), EAGER, session, rows=ROWS))
    engine.submit(wanted(1, range(3, 20), LONG, written=text.tokens[:40]))
    told: tuple[int, ...] = ()
    steps = 0
    while engine.busy:
        for delta in engine.step():
            told += delta.tokens
        steps += not told
    assert told == text.tokens[40:]
    assert steps <= 2 + 40 // ROWS


def test_a_model_that_is_no_quicker_than_the_text_s_own_is_not_asked(
    tiny_llama: Tiny, asked: list[Wanted], plain: dict[int, Written]
) -> None:
    # All that it would draft is right, and each token takes it as long as a step.
    slow = Costs(run=1.0, row=0.0, token=0.0, draft=1.0)
    quick = msgspec.structs.replace(slow, draft=0.1)
    drafted = []
    for costs in (slow, quick):
        drafter = ModelDrafts(tiny_llama.session(slots=1), tiny_llama.decoder.vocabulary)
        session = tiny_llama.session(slots=1, rows=ROWS)
        engine = tiny_llama.engine(session)
        speculating = Speculating(drafter, costs, session, rows=ROWS)
        engine.speculate(speculating)
        assert run(engine, asked[0])[asked[0].id].what == plain[asked[0].id].what
        drafted.append(speculating.guesses)
    assert drafted[0].drafted == 0
    assert drafted[1].accepted == drafted[1].drafted > 30


@pytest.mark.parametrize("by", ["lookup", "model"])
def test_guesses_that_are_never_right_are_given_up(tiny_llama: Tiny, by: str) -> None:
    class Wrong:
        """Guesses a special token, which no text has here, as a model or as what is looked up."""

        calls = 0

        def draft(self, slot: int, text: Text, most: int) -> Sequence[int]:
            self.calls += 1
            return (1,) * most

    costs = Costs(run=3.0, row=1.0, token=0.0, draft=0.5 if by == "model" else 0.0)
    session = tiny_llama.session(slots=1, rows=ROWS)
    engine = tiny_llama.engine(session)
    wrong = Wrong()
    speculating = Speculating(wrong, costs, session, rows=ROWS)
    engine.speculate(speculating)
    run(engine, wanted(1, range(3, 20), msgspec.structs.replace(LONG, max_tokens=100)))
    assert speculating.guesses.accepted == 0
    assert 0 < wrong.calls < 20, "nor is anything guessed where it would not be checked"


def test_what_another_model_takes_to_draft_is_measured(tiny_llama: Tiny) -> None:
    manifest = manifest_of(
        ModelSpec(Task.GENERATION, BackendName.ONNX, "folder", name="other"),
        tiny_llama.folder,
        source_sha256="0" * 64,
        samples=SAMPLES,
        decoder=tiny_llama.decoder,
    )
    table = GenerationTable(slots=2, speculation=Speculation.DRAFT, draft="other")
    other = Artifact(tiny_llama.folder, manifest, current=True)
    room = Room(table.slots, CONTEXT, threads=1)
    made = Drafting("tiny", tiny_llama.decoder, tiny_llama.folder, table, room, other)
    speculating = made.begin(session_of(tiny_llama, made))
    assert speculating is not None
    assert speculating.costs.of_draft(1, 100) > 0
    assert speculating.costs.of_draft(2, 100) == 2 * speculating.costs.of_draft(1, 100)
    made.close()


def test_among_many_texts_nothing_is_drafted(
    tiny_llama: Tiny, asked: list[Wanted], plain: dict[int, Written]
) -> None:
    many = [one for one in asked if one.sampling.max_tokens == 60 and one.sampling.ignore_end]
    costly = Costs(run=1.0, row=1.0, token=0.0)
    session = tiny_llama.session(slots=len(many), rows=ROWS)
    engine = tiny_llama.engine(session)
    prophet = Prophet(known(asked, plain), 0.0)
    engine.speculate(Speculating(prophet, costly, session, rows=ROWS))
    texts = run(engine, *many)
    assert len(many) == 4
    assert sum(text.drafted for text in texts.values()) == 0


def test_checks_come_to_the_bits_of_steps_where_attention_stores_before_it_looks(
    tiny_llama: Tiny,
) -> None:
    session = tiny_llama.session(rows=ROWS)
    costs = trial(session)
    assert costs is not None
    assert costs.of(8, 100) >= costs.of(1, 100) > 0
    assert not session.pool.take(0, 100).any(), "nothing is left of the trial"


def test_numbers_that_are_none_end_the_text_that_is_checked_alone(tiny_llama: Tiny) -> None:
    prompts = {1: list(range(3, 20)), 2: list(range(40, 60))}
    session = tiny_llama.session(slots=2)
    alone = {
        id_: run(tiny_llama.engine(session), wanted(id_, prompt, LONG))[id_]
        for id_, prompt in prompts.items()
    }
    session = tiny_llama.session(slots=2, rows=ROWS)
    engine = tiny_llama.engine(session)
    right = {tuple(prompt): alone[id_].tokens for id_, prompt in prompts.items()}
    engine.speculate(Speculating(Prophet(right, 0.0), BESIDE, session, rows=ROWS))
    texts = {id_: Written() for id_ in prompts}
    for id_, prompt in prompts.items():
        engine.submit(wanted(id_, prompt, LONG))
    damaged = False
    while engine.busy:
        for delta in engine.step():
            texts[delta.id].add(delta)
        if not damaged and all(text.tokens for text in texts.values()):
            session.pool.put(1, np.full_like(session.pool.take(1, 5), np.nan))
            damaged = True
    (failed,) = (id_ for id_, text in texts.items() if text.error is not None)
    (sound,) = prompts.keys() - {failed}
    assert isinstance(texts[failed].error, BackendFailed)
    assert texts[sound].what == alone[sound].what
    assert texts[sound].accepted > 40
    assert engine.free == 2
    again = run(engine, wanted(3, prompts[failed], LONG))[3]
    assert again.what == alone[failed].what, "nothing of it is left in the slot"


def drafting(tiny: Tiny) -> Drafting:
    table = GenerationTable(slots=2)
    room = Room(table.slots, CONTEXT, threads=1)
    return Drafting("tiny", tiny.decoder, tiny.folder, table, room)


def session_of(tiny: Tiny, drafting: Drafting) -> DecoderSession:
    return DecoderSession(
        tiny.folder / MODEL_FILE, tiny.decoder, drafting.pool, chunk=16, threads=1
    )


def test_a_model_drafts_once_it_was_tried(tiny_llama: Tiny) -> None:
    made = drafting(tiny_llama)
    assert made.pool.rows == ROWS
    assert made.begin(session_of(tiny_llama, made)) is not None


def test_what_a_trial_came_to_is_not_tried_again_for_a_day(
    tiny_llama: Tiny, tmp_path: Path
) -> None:
    checks = Checks(tmp_path)

    def run_cost(version: str = "0123456789ab") -> float:
        made = drafting(tiny_llama)
        speculating = made.begin(session_of(tiny_llama, made), version=version, checks=checks)
        assert speculating is not None
        return speculating.costs.run

    path = tmp_path / "checks" / "tiny.json"
    first = run_cost()
    note = msgspec.json.decode(path.read_bytes(), type=Checked)
    assert note.run == first
    # No run takes so long: whoever says so has read it.
    marked = msgspec.structs.replace(note, run=9.0)
    checks.write(marked)
    assert run_cost() == 9.0
    for other in (
        msgspec.structs.replace(marked, at_s=marked.at_s - 100_000),
        msgspec.structs.replace(marked, where="another processor"),
        msgspec.structs.replace(marked, format=0),
    ):
        checks.write(other)
        assert run_cost() < 9.0
    checks.write(marked)
    assert run_cost(version="ba9876543210") < 9.0
    path.write_text("{")
    assert run_cost() < 9.0


def test_on_a_device_nothing_is_drafted_and_one_that_is_not_there_is_told(
    tiny_llama: Tiny, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    half = msgspec.structs.replace(tiny_llama.decoder, cache_type="FP16")
    room = Room(2, CONTEXT, threads=1, providers=(("CUDAExecutionProvider", {}),))
    with pytest.raises(ConfigurationError, match=r"no CUDAExecutionProvider.*onnxruntime-gpu"):
        Drafting("tiny", half, tiny_llama.folder, GenerationTable(slots=2), room)
    assert "tiny: nothing is drafted on cuda" in caplog.text


def test_where_memory_cannot_be_mapped_twice_nothing_is_drafted(
    tiny_llama: Tiny, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delattr("os.memfd_create")
    made = drafting(tiny_llama)
    assert "only Linux" in caplog.text
    session = session_of(tiny_llama, made)
    assert made.begin(session) is None
    one = wanted(1, range(3, 20))
    plain = run(tiny_llama.engine(tiny_llama.session()), one)[1]
    assert run(tiny_llama.engine(session), one)[1].what == plain.what
