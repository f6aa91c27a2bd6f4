"""The graph of a catalog's pipelines: which model has which others as its steps. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from forebay.contract.errors import ConfigurationError
from forebay.contract.model import ModelSpec
from forebay.contract.versions import BETWEEN, served_name

MAX_DEPTH: Final = 4
"""Pipelines inside one another, the outermost counted: each level costs a lane's round trip, and a
row of each waits in a worker meanwhile."""


def check_steps(
    models: Mapping[str, ModelSpec], versions: Mapping[str, ModelSpec] = MappingProxyType({})
) -> None:
    """Make sure that every step is a model, and that no pipeline comes back to itself.

    Without a cycle, workers of one pipeline only ever wait for those further down, so that however
    few there are they can't wait for one another. A step that names a model of several versions may
    go to any of them.

    Args:
        models: specs by name.
        versions: those of versions beside a model's own table, by `MODEL@VERSION`.

    Raises:
        ConfigurationError: a step is no model, or pipelines call one another in a circle or too
            deeply. The message begins with `models.NAME.steps: `, and `param` is the name.
    """
    graph = {
        name: list(dict.fromkeys(one for step in spec.steps for one in _meant(models, name, step)))
        for name, spec in {**models, **versions}.items()
    }
    for name in graph:
        _walk(graph, (name,))


def _meant(models: Mapping[str, ModelSpec], name: str, step: str) -> list[str]:
    """What a step may be served by, under the names that lanes have."""
    model, at, version = step.partition(BETWEEN)
    spec = models.get(model)
    if spec is None:
        raise _wrong(name, f"{step!r} is no model here; there are {', '.join(sorted(models))}")
    if at and version not in spec.shares:
        raise _wrong(
            name, f"{model!r} has no version {version!r}; there are {', '.join(spec.shares)}"
        )
    wanted = [version] if at else spec.shares
    return [model if one == spec.version else served_name(model, one) for one in wanted]


def _walk(graph: Mapping[str, Sequence[str]], path: tuple[str, ...]) -> None:
    """Follow the steps of the last model of a path that leads through pipelines."""
    for step in graph[path[-1]]:
        if step in path:
            circle = " → ".join((*path[path.index(step) :], step))
            raise _wrong(path[-1], f"{circle} goes in a circle, and would never end")
        if graph[step]:
            if len(path) == MAX_DEPTH:
                raise _wrong(
                    path[0],
                    f"{' → '.join((*path, step))} are more than {MAX_DEPTH} pipelines inside one "
                    "another",
                )
            _walk(graph, (*path, step))


def _wrong(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"models.{name}.steps: {what}.", param=name)
