"""`GET /v1/models` and `GET /v1/models/{id}`."""

import time

import msgspec

from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Answer, Call, to_json


class Model(msgspec.Struct, frozen=True):
    """A model as this API lists it.

    Attributes:
        created: Unix time at which this gateway read its catalog, seconds.
    """

    id: str
    created: int
    object: str = "model"
    owned_by: str = "forebay"


class ModelList(msgspec.Struct, frozen=True):
    """All models."""

    data: list[Model]
    object: str = "list"


class Models:
    """Answers what models there are.

    Args:
        dispatch: knows them.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._created = int(time.time())

    async def list(self, call: Call) -> Answer:
        """All of them, by name."""
        names = sorted(self._dispatch.models)
        return Answer(to_json(ModelList([Model(name, self._created) for name in names])))

    async def get(self, call: Call) -> Answer:
        """One of them."""
        spec = self._dispatch.model(call.path_param("id"), param="model")
        return Answer(to_json(Model(spec.name, self._created)))
