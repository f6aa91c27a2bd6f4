"""One inference, however it was asked for: REST and gRPC both come here.

    declared tensors ─▶ checked ─▶ elements read ─▶ rows ─▶ Dispatch ─▶ outputs ─▶ tensors

Nothing is made of a tensor's elements before its name, datatype and shape are known to be ones that
the model takes, so that a request can't have more allocated than it has sent.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

import msgspec

from forebay.contract.errors import InvalidInput
from forebay.contract.model import ModelSpec
from forebay.contract.prediction import Timing
from forebay.contract.rows import Options, Task
from forebay.contract.versions import model_of
from forebay.gateway.dialects.oip.parameters import Parameters
from forebay.gateway.dialects.oip.statistics import Statistics
from forebay.gateway.dialects.oip.tasks import Signature, signature_of
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.generation import check_texts
from forebay.gateway.names import Name
from forebay.gateway.recall import Asker
from forebay.gateway.split import Sticky
from forebay.gateway.tensors import Declared, Tensor, check_declared
from forebay.gateway.waits import WhenGone

T = TypeVar("T")

Given = tuple[Declared, Callable[[Declared], Tensor]]
"""An input of a request: what it is said to be, and what reads its elements."""


class Answered(msgspec.Struct, frozen=True):
    """What came of an inference.

    Attributes:
        model: its name.
        version: short digest of the artifact that ran; empty if that is not known.
        outputs: those that were asked for, in that order, or all.
        timing: where the time went.
        rows: how many were run.
        of: which version that was, by its name, where the model has several.
    """

    model: str
    version: str
    outputs: Sequence[Tensor]
    timing: Timing | None
    rows: int
    of: str | None = None


class Inference:
    """Runs inferences, and counts them.

    Args:
        dispatch: runs them.
        statistics: what is counted.
    """

    def __init__(self, dispatch: Dispatch, statistics: Statistics) -> None:
        self._dispatch = dispatch
        self._statistics = statistics

    def model(self, name: str, version: str) -> ModelSpec:
        """The model that a request names.

        Args:
            name: as in the catalog.
            version: its name, its digest, or 12 characters of that; empty for whichever serves.

        Raises:
            NotFound: there is no such model, or another version serves.
            InvalidInput: it is too short to mean one version.
        """
        spec = self._dispatch.registry.model(name, param="model")
        return (
            self._dispatch.registry.version_of(spec, version, param="version") if version else spec
        )

    async def run(
        self,
        spec: ModelSpec,
        inputs: Sequence[Given],
        *,
        wanted: Sequence[str],
        parameters: Parameters,
        name: Name | None,
        when_gone: WhenGone | None,
        sticky: Sticky,
        asker: Asker,
    ) -> Answered:
        """Run one.

        Args:
            spec: the model.
            inputs: in any order.
            wanted: names of outputs; none asks for all.
            parameters: how.
            name: what the client calls the request, if it may come again.
            when_gone: asks to be told if the client goes away.
            sticky: tells what the client gives for its requests to stay with one version.
            asker: says what the client wants of the cache.

        Raises:
            ForebayError: by kind, why there is no answer.
        """
        since = time.monotonic()
        try:
            answered = await self._run(
                spec, inputs, wanted, parameters, name, when_gone, sticky, asker
            )
        except BaseException:
            self._statistics.failed(model_of(spec.name), seconds=time.monotonic() - since)
            raise
        self._statistics.succeeded(
            answered.model,
            rows=answered.rows,
            seconds=time.monotonic() - since,
            timing=answered.timing,
        )
        return answered

    async def _run(
        self,
        spec: ModelSpec,
        inputs: Sequence[Given],
        wanted: Sequence[str],
        parameters: Parameters,
        name: Name | None,
        when_gone: WhenGone | None,
        sticky: Sticky,
        asker: Asker,
    ) -> Answered:
        parameters.check(spec)
        signature = signature_of(spec, self._dispatch.registry.tensors(spec))
        _check_names(spec, "output", wanted, signature.names)
        self._check_inputs(spec, signature, [declared for declared, _ in inputs])
        tensors = {declared.name: read(declared) for declared, read in inputs}
        rows = signature.rows(tensors)
        options = signature.options
        if spec.task is Task.GENERATION:
            check_texts(len(rows), param="text")
            options = Options(sampling=parameters.sampling(within="parameters."))
        try:
            outcome = await self._dispatch.run(
                spec,
                rows,
                truncate=parameters.truncate,
                options=options,
                lane=parameters.lane,
                timeout_s=parameters.timeout_s,
                name=name,
                when_gone=when_gone,
                sticky=sticky,
                asker=asker,
            )
        except InvalidInput as error:
            if error.row is not None:
                error.param = error.param or f"row {error.row}"
            raise
        made = {tensor.name: tensor for tensor in signature.tensors(outcome.outputs)}
        outputs = [made[name] for name in wanted] if wanted else list(made.values())
        model = model_of(spec.name)
        return Answered(
            model, outcome.version or "", outputs, outcome.timing, len(rows), outcome.of
        )

    def _check_inputs(
        self, spec: ModelSpec, signature: Signature, declared: Sequence[Declared]
    ) -> None:
        """Hold all that is declared against what the model takes."""
        takes = {tensor.name: tensor for tensor in signature.inputs}
        most_rows = self._dispatch.max_inputs if signature.rows_first else None
        given = [tensor.name for tensor in declared]
        _check_names(spec, "input", given, takes)
        for tensor in declared:
            check_declared(tensor, takes[tensor.name], most_rows=most_rows)
        for name, wanted in takes.items():
            if not wanted.optional and name not in given:
                raise InvalidInput(
                    f"The input {name!r} is missing: {wanted.datatype} of the shape "
                    f"{list(wanted.shape)}.",
                    param=name,
                )


def _check_names(spec: ModelSpec, kind: str, given: Sequence[str], known: Collection[str]) -> None:
    """Make sure that names are known, and that none comes twice."""
    for name in given:
        if name not in known:
            raise InvalidInput(
                f"{spec.name!r} has no {kind} {name[:80]!r}. It has {_listed(known)}.", param=name
            )
    if len(set(given)) < len(given):
        twice = next(name for name in given if given.count(name) > 1)
        raise InvalidInput(f"The {kind} {twice!r} is there more than once.", param=twice)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
