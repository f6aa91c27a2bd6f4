"""The graph of a catalog's pipelines: which model has which others as its steps. Pure."""

from collections.abc import Mapping
from typing import Final

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import ModelSpec

MAX_DEPTH: Final = 4
"""Pipelines inside one another, the outermost counted: each level costs a lane's round trip, and a
row of each waits in a worker meanwhile."""


def check_steps(models: Mapping[str, ModelSpec]) -> None:
    """Make sure that every step is a model, and that no pipeline comes back to itself.

    Without a cycle, workers of one pipeline only ever wait for those further down, so that however
    few there are they can't wait for one another.

    Args:
        models: specs by name.

    Raises:
        ConfigurationError: a step is no model, or pipelines call one another in a circle or too
            deeply. The message begins with `models.NAME.steps: `, and `param` is the name.
    """
    for name, spec in models.items():
        for step in spec.steps:
            if step not in models:
                raise _wrong(
                    name, f"{step!r} is no model here; there are {', '.join(sorted(models))}"
                )
    for name in models:
        _walk(models, (name,))


def _walk(models: Mapping[str, ModelSpec], path: tuple[str, ...]) -> None:
    """Follow the steps of the last model of a path that leads through pipelines."""
    for step in models[path[-1]].steps:
        if step in path:
            circle = " → ".join((*path[path.index(step) :], step))
            raise _wrong(path[-1], f"{circle} goes in a circle, and would never end")
        if models[step].steps:
            if len(path) == MAX_DEPTH:
                raise _wrong(
                    path[0],
                    f"{' → '.join((*path, step))} are more than {MAX_DEPTH} pipelines inside one "
                    "another",
                )
            _walk(models, (*path, step))


def _wrong(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"models.{name}.steps: {what}.", param=name)
