"""The Open Inference Protocol, version 2, of KServe and Triton, for the unmodified `tritonclient`.

    rest          the paths under /v2
    requests      the JSON of an inference, and its tensors
    framing       compressed bodies; binary data behind the JSON
    inference     one inference, whichever way it came
    tasks         which tensors each task takes and gives: the table to extend for a new one
    parameters    priority, timeout, truncate and others
    description   metadata, configurations, the repository's index
    statistics    what came of inferences
    faults        {"error": "…"}
    rpc/          the same over gRPC, on a port of its own

Sources: the Open Inference Protocol (github.com/kserve/open-inference-protocol), and Triton's
extensions for binary tensor data, model configuration, model repository, schedule policy and
statistics (github.com/triton-inference-server/server, docs/protocol).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from starlette.routing import Route

from forebay.contract.errors import ConfigurationError
from forebay.gateway.dialects.oip.description import Description
from forebay.gateway.dialects.oip.faults import render_fault
from forebay.gateway.dialects.oip.inference import Inference
from forebay.gateway.dialects.oip.rest import Rest
from forebay.gateway.dialects.oip.statistics import Statistics
from forebay.gateway.dispatch import Dispatch
from forebay.gateway.http import Endpoint, Exchange, Handler
from forebay.gateway.repository import Repository

if TYPE_CHECKING:
    from forebay.gateway.dialects.oip.rpc.server import RpcServer

__all__ = ["MOUNT", "OpenInference", "render_fault"]

MOUNT = "/v2"


class OpenInference:
    """The protocol, for each way it is spoken.

    Args:
        dispatch: runs predictions, and knows the models.
        repository: knows which of them workers have.
        ready: whether a request would be taken and answered now.
    """

    def __init__(
        self, dispatch: Dispatch, repository: Repository, ready: Callable[[], bool]
    ) -> None:
        self.statistics = Statistics()
        self.inference = Inference(dispatch, self.statistics)
        self.description = Description(dispatch, repository, ready)

    def rpc_server(
        self, exchange: Exchange, *, host: str, port: int, drain_s: float
    ) -> "RpcServer":
        """Where it is spoken over gRPC; not started yet.

        Args:
            exchange: what endpoints share.
            host: address to listen on.
            port: likewise.
            drain_s: how long requests may still take once it drains, seconds.

        Raises:
            ConfigurationError: grpc is not installed.
        """
        # Not at the top: a gateway without gRPC doesn't need it, nor has to have it.
        try:
            from forebay.gateway.dialects.oip.rpc.server import RpcServer
            from forebay.gateway.dialects.oip.rpc.service import Service
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"grpc_port is set, and {error.name} is not installed: pip install "
                "'forebay[grpc]', or set FOREBAY_GRPC_PORT to 0."
            ) from error
        service = Service(self.inference, self.description, self.statistics, exchange.ids)
        return RpcServer(
            service, host=host, port=port, max_body_bytes=exchange.max_body_bytes, drain_s=drain_s
        )

    def routes(self, exchange: Exchange) -> list[Route]:
        """Where it is spoken over HTTP."""
        rest = Rest(
            self.inference,
            self.description,
            self.statistics,
            max_body_bytes=exchange.max_body_bytes,
        )

        def at(path: str, handle: Handler, method: str = "GET") -> Route:
            endpoint = Endpoint(exchange, handle, methods=(method,), render=render_fault)
            return Route(f"{MOUNT}{path}", endpoint)

        found = [
            at("", rest.server),
            at("/", rest.server),
            at("/health/live", rest.live),
            at("/health/ready", rest.ready),
            # Before the paths of models: none can be called so and have metadata of that path.
            at("/models/stats", rest.all_stats),
            at("/repository/index", rest.index, "POST"),
            at("/repository/models/{model}/load", rest.load, "POST"),
            at("/repository/models/{model}/unload", rest.unload, "POST"),
            # Found by one look-up; the routes below are for versions, and models that are not here.
            *(
                at(f"/models/{spec.name}/infer", rest.infer_of(spec.name), "POST")
                for spec in self.description.specs()
            ),
        ]
        for path in ("/models/{model}", "/models/{model}/versions/{version}"):
            found += [
                at(path, rest.model),
                at(f"{path}/ready", rest.model_ready),
                at(f"{path}/infer", rest.infer, "POST"),
                at(f"{path}/config", rest.config),
                at(f"{path}/stats", rest.stats),
            ]
        return found
