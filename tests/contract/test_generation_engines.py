"""What every engine that generates text promises, whatever executes it."""

import random

import msgspec
import pytest

from forebay.contract.errors import Interrupted, TooLong
from forebay.contract.generation import Finish, Sampling
from forebay.contract.rows import Options, TextRow
from forebay.inference.generation.protocol import Generator
from tests.fixtures.engines import CONTEXT_OF_ALL, Engines, asked, finish
from tests.fixtures.writing import Text

GREEDY = Sampling(temperature=0, max_tokens=12, ignore_end=True)
SEEDED = Sampling(max_tokens=12, seed=3, ignore_end=True)
WORDS = ("over", "the", "weir", "and", "down", "race", "to", "wheel", "of", "a", "mill", "by")


def prompt(draws: random.Random, words: int) -> str:
    return " ".join(draws.choice(WORDS) for _ in range(words))


def told(text: Text) -> tuple[object, ...]:
    return text.text, text.tokens, text.finish, text.logprobs


def test_it_is_a_generator_that_goes_on_from_its_samples(engines: Engines) -> None:
    with engines.open(slots=2) as model:
        assert isinstance(model, Generator)
        model.warm()
        assert not model.engine.busy
        assert model.engine.slots >= 2


def test_texts_that_join_and_leave_come_to_what_they_do_alone(engines: Engines) -> None:
    draws = random.Random(5)
    with engines.open(slots=3) as model:
        requests = []
        for id_ in range(14):
            sampling = Sampling(
                max_tokens=draws.randint(1, 14),
                temperature=draws.choice([0.0, 0.0, 0.9]),
                top_p=draws.choice([1.0, 0.9]),
                top_k=draws.choice([0, 20]),
                repetition_penalty=draws.choice([1.0, 1.2]),
                frequency_penalty=draws.choice([0.0, 0.5]),
                seed=id_,
                logprobs=draws.choice([None, 2]),
            )
            requests.append(
                asked(
                    model,
                    prompt(draws, draws.randint(1, 12)),
                    sampling,
                    id_=id_,
                    urgent=draws.random() < 0.5,
                )
            )
        to_come, texts = list(requests), dict[int, Text]()
        while to_come or model.engine.busy:
            for _ in range(draws.choice([0, 1, 3])):
                if to_come:
                    model.engine.submit(to_come.pop())
            if model.engine.busy:
                for delta in model.engine.step():
                    texts.setdefault(delta.id, Text()).add(delta)
        assert set(texts) == {request.id for request in requests}
        for request in requests:
            text = texts[request.id]
            assert text.finish is not None
            assert text.prompt_tokens == request.prompt.length
            assert len(text.tokens) <= (request.sampling.max_tokens or 0)
    if not engines.kind.exact:
        return
    with engines.open(slots=3) as quiet:
        for request in requests:
            assert told(finish(quiet.engine, [request])[request.id]) == told(texts[request.id])


def test_a_text_ends_after_so_many_tokens_or_where_the_slot_does(engines: Engines) -> None:
    with engines.open() as model:
        requests = [
            asked(model, "over the weir", GREEDY, id_=1),
            asked(model, "down the race", msgspec.structs.replace(GREEDY, max_tokens=1), id_=2),
            asked(model, "by a pool", msgspec.structs.replace(GREEDY, max_tokens=None), id_=3),
        ]
        texts = finish(model.engine, requests)
    assert {text.finish for text in texts.values()} == {Finish.LENGTH}
    assert [len(texts[id_].tokens) for id_ in (1, 2)] == [12, 1]
    assert texts[3].prompt_tokens + len(texts[3].tokens) == CONTEXT_OF_ALL


def test_a_prompt_without_room_is_refused_before_anything_runs(engines: Engines) -> None:
    with engines.open() as model:
        long = " ".join(WORDS * 40)
        (row,) = model.prepare([TextRow(long)], truncate=False, options=Options(sampling=GREEDY))
        assert isinstance(row, TooLong)
        assert not model.engine.busy


def test_a_text_ends_where_a_stop_string_begins(engines: Engines) -> None:
    with engines.open() as model:
        whole = finish(model.engine, [asked(model, "over the weir and down", GREEDY)])[1].text
        stop = whole[len(whole) // 2 - 1 : len(whole) // 2 + 2]
        sampling = msgspec.structs.replace(GREEDY, stop=("never this", stop))
        text = finish(model.engine, [asked(model, "over the weir and down", sampling)])[1]
    assert text.text == whole[: whole.index(stop)]
    assert text.finish is Finish.STOP
    assert not model.engine.busy


@pytest.mark.parametrize("count", [0, 3])
def test_each_token_is_told_with_how_likely_it_and_others_were(
    count: int, engines: Engines
) -> None:
    with engines.open() as model:
        sampling = msgspec.structs.replace(GREEDY, logprobs=count, max_tokens=5)
        text = finish(model.engine, [asked(model, "over the weir and down the race", sampling)])[1]
    assert 0 < len(text.logprobs) <= len(text.tokens)
    assert b"".join(one.token for one in text.logprobs).startswith(
        text.text.encode().rstrip("\ufffd".encode())[:1]
    )
    for one in text.logprobs:
        assert one.logprob <= 1e-6
        likely = [other.logprob for other in one.top]
        assert likely == sorted(likely, reverse=True)
        assert len(likely) == (min(count, 1) if not engines.kind.samples else count)
        if count:
            assert one.top[0].token == one.token, "greedily"


def test_a_seed_gives_the_same_text_every_time_and_each_row_its_own(engines: Engines) -> None:
    with engines.open() as model:
        requests = [
            asked(model, "over the weir", SEEDED, id_=1),
            asked(model, "over the weir", SEEDED, id_=2),
            asked(model, "over the weir", SEEDED, id_=3, row=1),
            asked(model, "over the weir", msgspec.structs.replace(SEEDED, seed=4), id_=4),
        ]
        texts = [finish(model.engine, [request])[request.id].tokens for request in requests]
    assert texts[0] == texts[1]
    if engines.kind.samples:
        assert len(set(texts)) == 3


def test_whoever_is_canceled_is_heard_of_no_more_wherever_it_is(engines: Engines) -> None:
    with engines.open(slots=2) as model:
        engine = model.engine
        for id_ in range(1, 6):
            engine.submit(asked(model, "over the weir and down the race", GREEDY, id_=id_))
        heard = {delta.id for _ in range(3) for delta in engine.step()}
        assert heard
        for id_ in (1, 3, 5, 99):
            engine.cancel(id_)
        texts = finish(engine)
        assert set(texts) == {2, 4}
        assert all(text.finish is Finish.LENGTH for text in texts.values())
        assert not engine.busy
        again = asked(model, "by a pool", GREEDY, id_=1)
        assert finish(engine, [again])[1].finish is Finish.LENGTH, "its place is free"


def test_whoever_somebody_waits_for_does_not_wait_for_those_that_nobody_does(
    engines: Engines,
) -> None:
    with engines.open(slots=1) as model:
        engine = model.engine
        slow = msgspec.structs.replace(GREEDY, max_tokens=60)
        engine.submit(asked(model, "over the weir", slow, id_=1, urgent=False))
        while not engine.step():
            pass
        engine.submit(asked(model, "down the race", GREEDY, id_=2))
        order = []
        while engine.busy:
            order += [delta.id for delta in engine.step() if delta.finish is not None]
    assert order == [2, 1]


@pytest.mark.parametrize("at", [1, 5, 12])
def test_a_text_goes_on_elsewhere_after_what_was_told(at: int, engines: Engines) -> None:
    with engines.open() as model:
        request = asked(model, "over the weir and down the race", GREEDY)
        whole = finish(model.engine, [request])[1]
        begun = msgspec.structs.replace(request, id=2, written=whole.tokens[:at])
        rest = finish(model.engine, [begun])[2]
    assert rest.finish is whole.finish
    assert whole.tokens[:at] + rest.tokens == whole.tokens
    assert whole.text.endswith(rest.text)


def test_a_sampled_text_goes_on_elsewhere_as_it_would_have_or_ends_honestly(
    engines: Engines,
) -> None:
    with engines.open() as model:
        request = asked(model, "over the weir and down the race", SEEDED)
        whole = finish(model.engine, [request])[1]
        begun = msgspec.structs.replace(request, id=2, written=whole.tokens[:5])
        rest = finish(model.engine, [begun])[2]
    if engines.kind.exact:
        assert whole.tokens[:5] + rest.tokens == whole.tokens
    else:
        assert isinstance(rest.error, Interrupted)
        assert not rest.tokens


def test_an_engine_that_has_nothing_to_do_says_so_and_takes_more(engines: Engines) -> None:
    with engines.open() as model:
        assert not model.engine.busy
        assert not list(model.engine.step())
        for _ in range(2):
            assert finish(model.engine, [asked(model, "by a pool", GREEDY)])[1].tokens
            assert not model.engine.busy
