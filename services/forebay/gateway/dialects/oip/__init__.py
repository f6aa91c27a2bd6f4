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
from forebay.gateway.http import Exchange
from forebay.gateway.paths import ByMethod, routes_of
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
        self, exchange: Exchange, *, host: str, port: int, reuse_port: bool, drain_s: float
    ) -> "RpcServer":
        """Where it is spoken over gRPC; not started yet.

        Args:
            exchange: what endpoints share.
            host: address to listen on.
            port: likewise.
            reuse_port: whether other gateways may listen there as well.
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
        service = Service(
            self.inference, self.description, self.statistics, exchange.ids, exchange.door
        )
        return RpcServer(
            service,
            host=host,
            port=port,
            reuse_port=reuse_port,
            max_body_bytes=exchange.max_body_bytes,
            drain_s=drain_s,
        )

    def routes(self, exchange: Exchange) -> list[Route]:
        """Where it is spoken over HTTP."""
        rest = Rest(
            self.inference,
            self.description,
            self.statistics,
            max_body_bytes=exchange.max_body_bytes,
        )

        paths: dict[str, ByMethod] = {
            "": {"GET": rest.server},
            "/": {"GET": rest.server},
            "/health/live": {"GET": rest.live},
            "/health/ready": {"GET": rest.ready},
            # Before the paths of models: none can be called so and have metadata of that path.
            "/models/stats": {"GET": rest.all_stats},
            "/repository/index": {"POST": rest.index},
            "/repository/models/{model}/load": {"POST": rest.load},
            "/repository/models/{model}/unload": {"POST": rest.unload},
        }
        # Found by one look-up; the paths below are for versions, and models that are not here.
        for spec in self.description.specs():
            paths[f"/models/{spec.name}/infer"] = {"POST": rest.infer_of(spec.name)}
        for path in ("/models/{model}", "/models/{model}/versions/{version}"):
            paths |= {
                path: {"GET": rest.model},
                f"{path}/ready": {"GET": rest.model_ready},
                f"{path}/infer": {"POST": rest.infer},
                f"{path}/config": {"GET": rest.config},
                f"{path}/stats": {"GET": rest.stats},
            }
        mounted = {f"{MOUNT}{path}": by_method for path, by_method in paths.items()}
        public = {f"{MOUNT}/health/{word}" for word in ("live", "ready")}
        return routes_of(exchange, mounted, render=render_fault, dialect="oip", public=public)
