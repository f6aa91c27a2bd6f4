"""Wires the shared fixtures into every test.

HYPOTHESIS_PROFILE=thorough tries many times more examples than the default, `quick`.
"""

import os

import pytest
from hypothesis import settings

from forebay.local import server

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.shapes",
    "tests.fixtures.artifacts",
    "tests.fixtures.stack",
    "tests.fixtures.writing",
    "tests.fixtures.clients",
    "tests.fixtures.calling",
    "tests.fixtures.replicating",
    "tests.fixtures.engines",
    "tests.fixtures.verbs",
]

settings.register_profile("quick", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("thorough", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def pytest_configure() -> None:
    """Ports of its own for each process of tests: a port is chosen before it is listened on."""
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    size = len(server._PORTS) // count
    server._PORTS = server._PORTS[number * size :][:size]


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
