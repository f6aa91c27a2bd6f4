"""Wires the shared fixtures into every test.

HYPOTHESIS_PROFILE=thorough tries many times more examples than the default, `quick`.
"""

import os

import pytest
from hypothesis import settings

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.shapes",
    "tests.fixtures.artifacts",
    "tests.fixtures.stack",
    "tests.fixtures.writing",
    "tests.fixtures.clients",
    "tests.fixtures.calling",
]

settings.register_profile("quick", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("thorough", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


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
