"""What Replicate's API has and Forebay does not: refused, with where the same is done here.

Without these a client would read that a path is not there, and look for its mistake.
"""

from http import HTTPStatus
from typing import Final

from forebay.contract.errors import ErrorKind
from forebay.gateway.errors import RequestFault
from forebay.gateway.http import Answer, Call, Handler

CREATE_MODEL: Final = (
    "Models are not made over this API: add one to models.toml, have it built with `forebay models "
    "build NAME`, and start the gateway again."
)
DELETE_MODEL: Final = (
    "Models are not deleted over this API: take it out of models.toml, and start the gateway again."
)
DELETE_VERSION: Final = (
    "Versions are not deleted over this API: take it out of its model's versions in models.toml, "
    "or build the model again for its own."
)
DEPLOY: Final = (
    "Every model in models.toml is deployed, and there only: how many workers it has is said in "
    "its table [models.NAME.replicas], and which version gets how many requests with `forebay "
    "models traffic NAME`."
)
TRAIN: Final = (
    "Forebay serves models and does not train them: train where you like, name the result as the "
    "source of a model in models.toml, and build it."
)


class NotOffered(RequestFault):
    """Replicate has it, and Forebay does not."""

    kind = ErrorKind.NOT_FOUND
    status = HTTPStatus.NOT_IMPLEMENTED


def refusing(why: str) -> Handler:
    """A handler that says why not."""

    async def refuse(call: Call) -> Answer:
        raise NotOffered(why)

    return refuse
