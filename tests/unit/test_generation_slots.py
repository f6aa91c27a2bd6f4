"""Which slot a prompt gets, and what it finds there."""

import numpy as np

from forebay.inference.generation.slots import LEFT, Slots


def ids(*tokens: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.array(tokens, np.int64)


LONG = ids(*range(10, 40))


def test_empty_slots_are_given_first_then_the_one_not_used_for_longest() -> None:
    slots = Slots(3, 64)
    for number in range(3):
        assert slots.take(ids(number, number)) == number
        slots.hold(number, ids(number, number))
    assert slots.free == 0
    for slot in (1, 0, 2):
        slots.leave(slot)
    slots.hold(0, ids(7))
    assert slots.take(ids(50, 51)) == 1
    assert slots.held(1) == 0


def test_a_prompt_that_goes_on_gets_the_slot_of_what_it_goes_on_from() -> None:
    slots = Slots(3, 64)
    slots.hold(slots.take(LONG), LONG)
    slots.leave(0)
    assert slots.take(np.append(LONG, [1, 2, 3])) == 0
    assert slots.held(0) == len(LONG)


def test_a_prompt_that_only_begins_alike_leaves_the_other_where_it_is() -> None:
    slots = Slots(2, 64)
    slots.hold(slots.take(LONG), LONG)
    slots.leave(0)
    prompt = np.append(LONG[:10], [1, 2, 3])
    assert slots.take(prompt) == 1
    assert slots.held(1) == 0
    assert slots.source(prompt) == (0, 10)


def test_some_tokens_of_a_prompt_are_always_left_to_compute() -> None:
    slots = Slots(1, 64)
    slots.hold(slots.take(LONG), LONG)
    slots.leave(0)
    assert slots.source(LONG) == (0, len(LONG) - LEFT)
    assert slots.take(LONG) == 0
    assert slots.held(0) == len(LONG) - LEFT
    assert slots.source(ids(10)) == (0, 0)


def test_what_is_forgotten_is_found_by_nobody() -> None:
    slots = Slots(1, 64)
    slots.hold(slots.take(LONG), LONG)
    slots.leave(0, forget=True)
    assert slots.source(LONG)[1] == 0


def test_slots_that_are_exchanged_keep_what_they_have() -> None:
    slots = Slots(2, 64)
    slots.hold(slots.take(LONG), LONG)
    slots.swap(0, 1)
    assert slots.is_free(0)
    assert not slots.is_free(1)
    assert slots.source(np.append(LONG, [1, 2])) == (1, len(LONG))
