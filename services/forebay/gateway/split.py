"""Which version of a model a request goes to, by the shares that operators have set."""

from collections.abc import Callable
from typing import Final

from forebay.contract.model import ModelSpec
from forebay.gateway.names import Name
from forebay.lanes.shares import Shares

STICKY_HEADER: Final = b"x-forebay-sticky-key"
"""Header, and name in a gRPC call's metadata, of the key that keeps its version."""

VERSION_HEADER: Final = b"x-forebay-version"
"""Header of an answer that says which of a model's versions gave it."""

Sticky = Callable[[], str]
"""Tells what a client gives for its requests to stay with one version; empty if nothing."""


class Split(Shares):
    """Splits models' requests over their versions."""

    def served(self, spec: ModelSpec, sticky: Sticky | None, name: Name | None) -> ModelSpec:
        """The version that a request for a model goes to.

        The same key goes to the same version while shares stand: what the client gives for it, or
        else its Idempotency-Key. Requests with neither go to any, by their shares.

        Raises:
            Unavailable: the shares have never been read.
        """
        key = sticky() if sticky is not None else ""
        if not key and name is not None:
            key = name.key
        return self.chosen(spec, key)
