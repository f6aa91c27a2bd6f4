"""The generation loop on a graph that was really built: what a text comes to, and what it costs."""

import gc
import itertools
import random

import msgspec
import numpy as np
import psutil
import pytest

from forebay.contract.errors import BackendFailed
from forebay.contract.generation import Finish, Sampling
from forebay.contract.model import Precision
from forebay.inference.generation.continuous import ContinuousEngine
from forebay.inference.generation.memory import Place
from forebay.inference.generation.protocol import Wanted
from forebay.inference.generation.session import DecoderSession
from tests.fixtures.decoders import CONTEXT
from tests.fixtures.writing import GREEDY, Text, Tiny, build, run, wanted

FIRST_TOKEN, VOCABULARY = 3, 500
REQUESTS = 200


@pytest.fixture(params=[None, Place()], ids=["host", "device"])
def device(request: pytest.FixtureRequest) -> Place | None:
    """Whose memory has keys and values: the machine's, or a device's, which the CPU is as well."""
    place: Place | None = request.param
    return place


@pytest.fixture
def tiny_llama(tiny_llama: Tiny, device: Place | None) -> Tiny:
    """With keys and values there."""
    return msgspec.structs.replace(tiny_llama, device=device)


def prompt(draws: random.Random, length: int) -> list[int]:
    return [draws.randrange(FIRST_TOKEN, VOCABULARY) for _ in range(length)]


def alone(tiny: Tiny, session: DecoderSession, request: Wanted) -> Text:
    """What a request comes to with nobody beside it, and nobody before."""
    return run(tiny.engine(session), request)[request.id]


def same(one: Text, other: Text) -> bool:
    return (one.text, one.tokens, one.finish, one.logprobs) == (
        other.text,
        other.tokens,
        other.finish,
        other.logprobs,
    )


def requests(draws: random.Random) -> list[Wanted]:
    """Many, of all kinds; every other begins as some other does."""
    beginnings = [prompt(draws, 40) for _ in range(3)]
    made = []
    for id_ in range(REQUESTS):
        own = prompt(draws, draws.randint(1, 40))
        ids = draws.choice(beginnings)[: draws.randint(1, 40)] + own if id_ % 2 else own
        greedy = draws.random() < 0.5
        sampling = Sampling(
            max_tokens=draws.randint(1, 30),
            temperature=0 if greedy else draws.choice([0.7, 1.5]),
            top_p=draws.choice([1.0, 0.9]),
            top_k=draws.choice([0, 20]),
            repetition_penalty=draws.choice([1.0, 1.2]),
            frequency_penalty=draws.choice([0.0, 0.5]),
            seed=id_,
            stop=("e",) if draws.random() < 0.2 else (),
            logprobs=draws.choice([None, None, 2]),
        )
        made.append(wanted(id_, ids, sampling, urgent=draws.random() < 0.5))
    return made


def test_200_requests_that_join_leave_and_are_canceled_come_to_what_they_do_alone(
    tiny_llama: Tiny,
) -> None:
    draws = random.Random(5)
    session = tiny_llama.session()
    # In the machine's memory, wherever the others are.
    quiet = msgspec.structs.replace(tiny_llama, device=None).session(slots=1)
    engine = tiny_llama.engine(session)
    to_come, texts, canceled = requests(draws), dict[int, Text](), set[int]()
    expected = {request.id: request for request in to_come}
    resident: list[int] = []
    while to_come or engine.busy:
        for _ in range(draws.choice([0, 0, 1, 3])):
            if to_come:
                engine.submit(to_come.pop())
        if draws.random() < 0.05:
            id_ = draws.randrange(REQUESTS)
            engine.cancel(id_)
            if id_ not in {request.id for request in to_come}:
                canceled.add(id_)
        for delta in engine.step():
            texts.setdefault(delta.id, Text()).add(delta)
        if len(texts) > REQUESTS // 4 * (len(resident) + 1):
            resident.append(_resident())
    resident.append(_resident())
    # The allocator may take more in one of them; what every quarter takes anew is lost.
    grown = [after - before for before, after in itertools.pairwise(resident)]
    assert len(grown) == 3
    assert min(grown) < 2_500_000, f"{grown} bytes more after each {REQUESTS // 4} requests"
    assert engine.free == engine.slots

    over = {id_: text for id_, text in texts.items() if text.finish is not None}
    assert set(expected) - canceled <= set(over), "whoever wasn't canceled has ended"
    assert len(over) > REQUESTS * 0.7
    assert sum(text.cached for text in over.values()) > 500, "prompts were shared"
    assert {text.finish for text in over.values()} == {Finish.STOP, Finish.LENGTH}
    for id_, text in over.items():
        assert same(text, alone(tiny_llama, quiet, expected[id_])), id_


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "precision"),
    [("llama", Precision.FP32), ("qwen3", Precision.FP16), ("mistral", Precision.INT4)],
)
def test_graphs_of_other_kinds_give_a_row_the_same_bits_in_any_company(
    family: str, precision: Precision, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tiny = build(family, tmp_path_factory.mktemp("other"), precision=precision)
    draws = random.Random(7)
    many = [wanted(id_, prompt(draws, draws.randint(1, 60))) for id_ in range(12)]
    together = run(tiny.engine(tiny.session()), *many)
    quiet = tiny.session(slots=1, part=CONTEXT)
    for request in many:
        assert same(together[request.id], alone(tiny, quiet, request))


def test_a_prompt_comes_to_the_same_wherever_it_is_cut(tiny_llama: Tiny) -> None:
    ids = prompt(random.Random(1), 67)
    texts = [
        alone(tiny_llama, tiny_llama.session(slots=1, part=part), wanted(1, ids))
        for part in (3, 4, 11, 33, 66, 67, 100)
    ]
    assert all(same(text, texts[0]) for text in texts)


def test_a_shared_prompt_is_computed_once_and_told_so(tiny_llama: Tiny) -> None:
    draws = random.Random(2)
    shared = prompt(draws, 50)
    session = tiny_llama.session()
    engine = tiny_llama.engine(session)
    first = run(engine, wanted(1, shared + prompt(draws, 5)))[1]
    again = [wanted(id_, shared + prompt(draws, 5)) for id_ in (2, 3)]
    texts = run(engine, *again)
    assert first.cached == 0
    assert {text.cached for text in texts.values()} == {50}
    for request in again:
        assert same(texts[request.id], alone(tiny_llama, tiny_llama.session(), request))


def test_whoever_nobody_waits_for_gives_up_its_slot_and_goes_on_where_it_was(
    tiny_llama: Tiny,
) -> None:
    draws = random.Random(3)
    session, quiet = tiny_llama.session(slots=2), tiny_llama.session(slots=1)
    engine = tiny_llama.engine(session)
    slow = [wanted(id_, prompt(draws, 20), urgent=False) for id_ in (1, 2, 3)]
    quick = [wanted(id_, prompt(draws, 20)) for id_ in (11, 12)]
    texts = {request.id: Text() for request in (*slow, *quick)}
    for request in slow:
        engine.submit(request)
    order = []
    for step in range(200):
        if step == 5:
            for request in quick:
                engine.submit(request)
        for delta in engine.step():
            texts[delta.id].add(delta)
            if delta.finish is not None:
                order.append(delta.id)
    assert set(order[:2]) == {11, 12}, "they had slots at once"
    assert set(order[2:4]) == {1, 2}, "those that were interrupted go on before those that wait"
    assert order[4:] == [3]
    for request in (*slow, *quick):
        assert same(texts[request.id], alone(tiny_llama, quiet, request))


@pytest.mark.parametrize("slots", [1, 3])
def test_whoever_nobody_waits_for_has_its_share_while_others_keep_coming(
    tiny_llama: Tiny, slots: int
) -> None:
    draws = random.Random(13)
    engine = tiny_llama.engine(tiny_llama.session(slots=slots), floor=0.1)
    slow = [
        wanted(id_, prompt(draws, 60), Sampling(max_tokens=40, seed=id_), urgent=False)
        for id_ in (1, 2)
    ]
    texts = {request.id: Text() for request in slow}
    for request in slow:
        engine.submit(request)
    quick, begun, ended, order = 100, 0, 0, list[int]()
    while not all(text.finish for text in texts.values()):
        while begun - ended < 2 * slots:  # there is always one that waits
            engine.submit(wanted(quick + begun, prompt(draws, 8)))
            begun += 1
        for delta in engine.step():
            if delta.id in texts:
                texts[delta.id].add(delta)
            if delta.finish is not None:
                order.append(delta.id)
                ended += delta.id >= quick
        assert begun < 2_000, "they starve"
    assert order[0] >= quick, "and go no sooner than it is their turn"
    for request in slow:
        assert same(texts[request.id], alone(tiny_llama, tiny_llama.session(slots=1), request))
    whole = ended * (8 + 12) / (ended * (8 + 12) + 2 * (60 + 40))
    assert whole > 0.8, "of all tokens most are of those who are waited for"


def test_without_a_share_nobody_goes_before_those_who_are_waited_for(tiny_llama: Tiny) -> None:
    draws = random.Random(14)
    engine = tiny_llama.engine(tiny_llama.session(slots=1), floor=0)
    engine.submit(wanted(1, prompt(draws, 5), urgent=False))
    for id_ in range(2, 30):
        engine.submit(wanted(id_, prompt(draws, 5)))
    ended = [delta.id for _ in range(600) for delta in engine.step() if delta.finish is not None]
    assert ended[-1] == 1
    assert len(ended) == 29


def test_a_long_prompt_is_read_while_short_ones_keep_coming(tiny_llama: Tiny) -> None:
    draws = random.Random(15)
    engine = tiny_llama.engine(tiny_llama.session(part=16))
    one = Sampling(max_tokens=1, temperature=0)
    engine.submit(wanted(1, prompt(draws, 120), one))
    for id_ in range(2, 60):
        engine.submit(wanted(id_, prompt(draws, 16), one))
        if any(delta.id == 1 for delta in engine.step()):
            return
    pytest.fail("it waits for as long as others come")


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(max_tokens=12, seed=3, ignore_end=True)])
@pytest.mark.parametrize("at", [1, 7, 12])
def test_a_text_goes_on_elsewhere_as_it_would_have_gone_on(
    tiny_llama: Tiny, sampling: Sampling, at: int
) -> None:
    session = tiny_llama.session()
    request = wanted(1, prompt(random.Random(4), 30), sampling)
    engine = tiny_llama.engine(session)
    engine.submit(request)
    told, whole = Text(), alone(tiny_llama, tiny_llama.session(slots=1), request)
    while len(told.tokens) < at:
        for delta in engine.step():
            told.add(delta)
    rest = alone(
        tiny_llama,
        tiny_llama.session(),
        msgspec.structs.replace(request, written=told.tokens),
    )
    assert told.text + rest.text == whole.text
    assert told.tokens + rest.tokens == whole.tokens
    assert rest.finish is whole.finish


def test_a_canceled_text_is_heard_of_no_more_and_its_slot_is_free(tiny_llama: Tiny) -> None:
    engine = tiny_llama.engine(tiny_llama.session(slots=1))
    requests = [wanted(id_, prompt(random.Random(id_), 10)) for id_ in (1, 2, 3)]
    for request in requests:
        engine.submit(request)
    engine.step()
    assert engine.free == 0
    engine.cancel(1)
    assert engine.free == 1
    engine.cancel(2)
    engine.cancel(99)
    texts = run(engine)
    assert set(texts) == {3}
    assert same(texts[3], alone(tiny_llama, tiny_llama.session(), requests[2]))
    assert engine.free == 1


def test_keys_and_values_that_are_no_numbers_end_their_text_alone(tiny_llama: Tiny) -> None:
    draws = random.Random(8)
    session = tiny_llama.session()
    engine = tiny_llama.engine(session)
    many = [wanted(id_, prompt(draws, 20)) for id_ in (1, 2, 3)]
    texts = {request.id: Text() for request in many}
    for request in many:
        engine.submit(request)
    damaged = False
    while engine.busy:
        for delta in engine.step():
            texts[delta.id].add(delta)
        if not damaged and all(text.tokens for text in texts.values()):
            session.pool.put(1, np.full_like(session.pool.take(1, 5), np.nan))
            damaged = True
    failed = [id_ for id_, text in texts.items() if text.error is not None]
    assert len(failed) == 1
    assert isinstance(texts[failed[0]].error, BackendFailed)
    for request in many:
        if request.id not in failed:
            assert same(texts[request.id], alone(tiny_llama, tiny_llama.session(), request))
        again = run(engine, msgspec.structs.replace(request, id=request.id + 10))
        assert again[request.id + 10].finish is not None, "nothing of it is left in the slot"


def test_a_short_prompt_does_not_wait_for_a_long_one(tiny_llama: Tiny) -> None:
    draws = random.Random(9)
    engine = tiny_llama.engine(tiny_llama.session(part=16))
    engine.submit(wanted(1, prompt(draws, 100)))
    engine.step()
    engine.submit(wanted(2, prompt(draws, 10)))
    first = next(delta.id for _ in range(20) for delta in engine.step())
    assert first == 2


def test_texts_grow_by_a_token_a_step_while_a_long_prompt_is_read(tiny_llama: Tiny) -> None:
    draws = random.Random(10)
    engine = tiny_llama.engine(tiny_llama.session(part=16))
    engine.submit(wanted(1, prompt(draws, 5), Sampling(max_tokens=40, seed=1, ignore_end=True)))
    engine.step()
    engine.submit(wanted(2, prompt(draws, 100)))
    told, steps = Text(), 0
    heard = False
    while not heard:
        steps += 1
        for delta in engine.step():
            heard = heard or delta.id == 2
            if delta.id == 1:
                told.add(delta)
    assert steps >= 100 // 16
    assert len(told.tokens) >= steps - 2, "but for what half a character holds back"


def test_a_text_ends_at_a_stop_string_that_lies_across_tokens(tiny_llama: Tiny) -> None:
    session = tiny_llama.session()
    request = wanted(1, prompt(random.Random(12), 20))
    whole = alone(tiny_llama, session, request)
    middle = len(whole.text) // 2
    stop = whole.text[middle - 2 : middle + 2]
    cut = alone(
        tiny_llama,
        session,
        msgspec.structs.replace(
            request, sampling=msgspec.structs.replace(GREEDY, stop=("never this", stop), logprobs=1)
        ),
    )
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish is Finish.STOP
    assert cut.tokens == whole.tokens[: len(cut.tokens)]
    spelled = b"".join(logprob.token for logprob in cut.logprobs).decode(errors="replace")
    assert spelled.startswith(cut.text), "logprobs are of the tokens of the text"


def test_a_text_of_which_all_was_written_elsewhere_ends_at_once(tiny_llama: Tiny) -> None:
    engine = tiny_llama.engine(tiny_llama.session())
    request = wanted(1, [5, 6, 7])
    whole = run(engine, request)[1]
    engine.submit(msgspec.structs.replace(request, written=whole.tokens))
    (delta,) = engine.step()
    assert (delta.finish, delta.text, delta.tokens) == (Finish.LENGTH, "", ())
    assert not engine.busy


def test_a_slot_is_filled_to_its_last_token(tiny_llama: Tiny) -> None:
    engine: ContinuousEngine = tiny_llama.engine(tiny_llama.session(capacity=32))
    whole = Sampling(temperature=0, ignore_end=True)
    texts = run(engine, *(wanted(id_, [5] * (30 - id_), whole) for id_ in range(4)))
    for id_, text in texts.items():
        assert len(text.tokens) == 32 - (30 - id_)
        assert text.finish is Finish.LENGTH
        assert text.prompt_tokens == 30 - id_
