"""Names of processes, and who can tell that one has ended."""

import re

import pytest

from forebay.runtime.process import is_gone, process_name
from tests.fixtures.processes import other_process
from tests.fixtures.waiting import eventually


def test_a_name_stays_the_same_and_its_process_is_there() -> None:
    assert process_name() == process_name()
    assert not is_gone(process_name())


async def test_a_killed_process_is_gone_even_before_its_parent_has_waited_for_it() -> None:
    with other_process() as (name, kill):
        assert name != process_name()
        assert not is_gone(name)
        kill()
        await eventually(lambda: is_gone(name))
    assert is_gone(name)


def test_another_process_with_the_same_pid_is_not_mistaken_for_it() -> None:
    host, pid, start, kernel = process_name().rsplit("-", 3)
    assert is_gone(f"{host}-{pid}-{int(start, 16) - 1:x}-{kernel}")


@pytest.mark.parametrize("name", ["worker", "", "a-b-c-d", "host-1-1-0123456789ab"])
def test_nothing_is_said_of_processes_of_other_machines(name: str) -> None:
    assert not is_gone(name)


def test_a_pid_that_cannot_be_is_gone_or_unknown_but_no_error() -> None:
    name = re.sub(r"-\d+-(?=[0-9a-f]+-[0-9a-f]{12}$)", f"-{10**30}-", process_name())
    assert not is_gone(name)
