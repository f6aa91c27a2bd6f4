"""When a webhook is sent again: the schedule and the circuit, whatever happens."""

from hypothesis import given
from hypothesis import strategies as st

from forebay.background.webhooks.circuit import LONGEST_PAUSE_S, MOST_FAILURES, Circuit
from forebay.contract.notices import (
    JITTER,
    LONGEST_S,
    Event,
    Notice,
    delivery_id,
    pause_s,
    unpacked,
)

schedules = st.lists(st.floats(0, 1e6), max_size=12)
chances = st.floats(0, 1, exclude_max=True)


@given(schedules, chances, st.none() | st.floats(0, 1e9))
def test_each_pause_is_its_own_in_the_schedule_give_or_take_and_never_sooner_than_asked(
    schedule: list[float], chance: float, asked: float | None
) -> None:
    for failures, planned in enumerate(schedule, 1):
        pause = pause_s(schedule, failures, chance=chance, retry_after_s=asked)
        assert pause is not None
        wished = min(asked or 0.0, LONGEST_S)
        assert pause >= wished
        assert pause <= max(planned * (1 + JITTER) + 1e-6, wished)
        assert pause >= planned * (1 - JITTER) - 1e-6
    assert pause_s(schedule, len(schedule) + 1, chance=chance, retry_after_s=asked) is None


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 400))), st.floats(0.01, 1e4))
def test_a_circuit_opens_after_failures_in_a_row_and_is_never_closed_for_long(
    calls: list[tuple[bool, float]], first_s: float
) -> None:
    circuit, now, running = Circuit(first_s), 0.0, 0
    for answered, passed in calls:
        now += passed
        wait = circuit.closed_in_s(now)
        assert (wait > 0) <= (running >= MOST_FAILURES)
        assert wait <= LONGEST_PAUSE_S
        now += wait
        assert circuit.closed_in_s(now) <= 1e-6
        circuit.begin()
        if answered:
            circuit.succeeded()
            running = 0
        else:
            circuit.failed(now)
            running += 1
        circuit.given_up()
        if running == MOST_FAILURES:
            assert circuit.closed_in_s(now) > 0


@given(
    st.lists(st.sampled_from(list(Event)), unique=True), st.text(max_size=50), st.text(max_size=9)
)
def test_a_notice_says_its_events_before_anything_else(
    events: list[Event], url: str, own: str
) -> None:
    notice = Notice(tuple(events), url=url, id=own)
    packed = notice.packed()
    assert unpacked(packed) == notice
    assert packed.partition(b" ")[0].decode() == "".join(event.value[0] for event in events)
    assert notice.shown("p") == (own or "p")


@given(*[st.text(max_size=20)] * 4, *[st.text(max_size=20)] * 4)
def test_deliveries_of_different_events_have_different_ids(
    a: str, b: str, c: str, d: str, e: str, f: str, g: str, h: str
) -> None:
    one = delivery_id(a, b, sequence=c, url=d)
    assert one == delivery_id(a, b, sequence=c, url=d)
    if "\0" not in a + b + c + d + e + f + g + h:
        assert (one == delivery_id(e, f, sequence=g, url=h)) == ((a, b, c, d) == (e, f, g, h))
    assert len(one.split("_")) == 2
