"""The models that requests name: their specs and versions, and what serves them.

What a gateway knows of models without asking anybody: its catalog, the artifacts at hand, and the
shares of versions that operators have set.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from forebay.contract.errors import InvalidInput, NotFound
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Prediction
from forebay.contract.rows import Task
from forebay.contract.tensors import TensorSignature
from forebay.contract.versions import model_of
from forebay.gateway.names import Name
from forebay.gateway.split import Split, Sticky
from forebay.gateway.versions import Serving, Versions, find
from forebay.runtime.catalog import Catalog


def version_of(prediction: Prediction, catalog: Catalog, versions: Versions) -> str:
    """What a prediction was, or will be, run by; see `Registry.version`."""
    if prediction.version is not None:
        return prediction.version
    spec = catalog.served.get(prediction.model)
    serving = None if spec is None else versions.serving(spec)
    return model_of(prediction.model) if serving is None else serving.version


MOST_NAMED: Final = 10
"""Models named in an error."""


class Registry:
    """Finds models and versions.

    Args:
        catalog: the models there are.
        versions: which artifacts serve them.
        split: gives requests to versions, where a model has several.
    """

    def __init__(self, catalog: Catalog, versions: Versions, split: Split) -> None:
        self._catalog = catalog
        self._versions = versions
        self._split = split

    @property
    def models(self) -> Mapping[str, ModelSpec]:
        """The models there are, by name."""
        return self._catalog.models

    def model(self, name: str, *, param: str) -> ModelSpec:
        """A model's spec, or that of one version of it.

        Args:
            name: in the catalog; or a version, as `versions.find` has it.
            param: the request field that names it.

        Raises:
            NotFound: there is none of that name.
        """
        spec = self.models.get(name)
        if spec is not None:
            return spec
        if ":" in name:
            return self.meant(name, param=param)
        try:
            return self._catalog.find(name)
        except NotFound as error:
            raise NotFound(error.message, param=param) from None

    def version_of(self, spec: ModelSpec, version: str, *, param: str) -> ModelSpec:
        """A version of a model, by its name or its digest.

        Raises:
            NotFound: there is no such version.
            InvalidInput: it is too short to mean one digest.
        """
        if spec.versions and version in spec.shares:
            return self._catalog.version(spec, version)
        return self.meant(f"{spec.name}:{version}", param=param)

    def model_for(self, task: Task, name: str, *, param: str) -> ModelSpec:
        """A model's spec, if it does a task.

        Args:
            task: what is asked of it.
            name: in the catalog.
            param: the request field that names it.

        Raises:
            NotFound: there is none of that name.
            InvalidInput: its task is another; the message names models that can.
        """
        spec = self.model(name, param=param)
        if spec.task is task:
            return spec
        able = sorted(other.name for other in self.models.values() if other.task is task)
        named = ", ".join(map(repr, able[:MOST_NAMED])) + ", …" * (len(able) > MOST_NAMED)
        raise InvalidInput(
            f"{name!r} can't do this: its task is {spec.task.value!r}, and this takes a model of "
            f"task {task.value!r}"
            + (f": {named}." if able else ", of which models.toml has none."),
            param=param,
        )

    def meant(self, version: str, *, param: str) -> ModelSpec:
        """The model that `name`, `name:version` or `version` means; see `versions.find`."""
        return find(self._catalog, self._versions, version, param=param)

    def version(self, prediction: Prediction) -> str:
        """What a prediction was, or will be, run by.

        That is the version which has answered it; until one has, the one that serves its model;
        and the model's name where this gateway can't tell.
        """
        return version_of(prediction, self._catalog, self._versions)

    def which(self, prediction: Prediction) -> str | None:
        """The name of the version that a prediction was given to, where its model has several."""
        return self.named(prediction.model)

    def of(self, model: ModelSpec, served: str) -> str | None:
        """The name of the version that is served under a name; None if the model has but one."""
        spec = self._catalog.served.get(served) if model.versions else None
        return None if spec is None else spec.version

    def dimensions(self, spec: ModelSpec) -> int | None:
        """Length of the model's embeddings; None where this gateway can't tell."""
        serving = self._versions.serving(spec)
        return None if serving is None else serving.dimensions

    def serving(self, spec: ModelSpec) -> Serving | None:
        """What serves a model's own table, or a version; None where this gateway can't tell."""
        return self._versions.serving(spec)

    def shares(self, spec: ModelSpec) -> Mapping[str, float]:
        """Shares of a model's versions, per cent.

        Raises:
            Unavailable: they are not known, as Redis was out of reach all the time.
        """
        return self._split.shares(spec) if spec.versions else spec.shares

    def versions_of(self, spec: ModelSpec) -> Sequence[ModelSpec]:
        """The specs of a model's versions, its own table's first."""
        several = spec.versions and spec.shares
        return [self._catalog.version(spec, name) for name in several] or [spec]

    def tensors(self, spec: ModelSpec) -> TensorSignature | None:
        """Tensors of a model of plain tensors; None of others, or where this gateway can't tell."""
        serving = self._versions.serving(spec) if spec.task is Task.TENSORS else None
        return None if serving is None else serving.tensors

    def serving_version(self, spec: ModelSpec) -> str | None:
        """The version that serves the model; None where this gateway can't tell."""
        serving = self._versions.serving(spec)
        return None if serving is None else serving.version

    def serving_versions(self, spec: ModelSpec) -> tuple[str, ...]:
        """The versions that serve a model, its own table's first, as far as they are known here."""
        serving = [self._versions.serving(one) for one in self.versions_of(spec)]
        return tuple(dict.fromkeys(one.version for one in serving if one is not None))

    def chosen(self, model: ModelSpec, sticky: Sticky | None, name: Name | None) -> ModelSpec:
        """The version that a request goes to; see `Split.served`.

        Raises:
            Unavailable: a model has several, and their shares have never been read.
        """
        return self._split.served(model, sticky, name) if model.versions else model

    def served(self, name: str) -> ModelSpec | None:
        """The spec of what is served under a name; None if the catalog has it no longer."""
        return self._catalog.served.get(name)

    def named(self, served: str) -> str | None:
        """As `of`, by what is served alone."""
        model = self.models.get(model_of(served))
        return None if model is None else self.of(model, served)
