"""Faults as gRPC has them: a status code, a sentence, and what HTTP has as headers behind them."""

from typing import Final

import grpc

from forebay.gateway.errors import Fault

CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.CANCELLED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""Code for each HTTP status."""

Metadata = tuple[tuple[str, str], ...]


def code_of(fault: Fault) -> grpc.StatusCode:
    """The status code for a fault."""
    return CODES.get(fault.status, grpc.StatusCode.INTERNAL)


def metadata_of(headers: tuple[tuple[bytes, bytes], ...], request_id: str) -> Metadata:
    """Headers of an answer as trailing metadata, with the request's id."""
    told = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in headers)
    return ("x-request-id", request_id), *told
