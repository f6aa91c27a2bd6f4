"""Wires the shared fixtures into every test."""

import warnings
from pathlib import Path

import pytest

_FIXTURES = ("servers", "artifacts")

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in _FIXTURES
    if (Path(__file__).parent / "fixtures" / f"{name}.py").is_file()
]


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    # pytest-asyncio wants to be told which loop a fixture runs on. Unset, it is that of the
    # fixture's own scope, which is what the fixtures here expect.
    warnings.filterwarnings("ignore", message=".*asyncio_default_fixture_loop_scope.* is unset")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden files anew from what the code produces, instead of comparing",
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are written instead of compared."""
    return bool(request.config.getoption("--update-golden"))
