"""What a Forebay in production has on: API keys with limits, traces of one request in twenty."""

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.bench.processes import StartError

ON: Final = {"FOREBAY_AUTH": "keys"}
"""Environment of a gateway that asks for API keys."""

LIMITS: Final = ("--requests-per-minute", "60000000", "--concurrency", "100000")
"""Of the key that everybody here sends: such that all of it is checked, and nothing refused."""


@contextlib.contextmanager
def collector() -> Iterator[str]:
    """A collector of traces that keeps none; gives its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def traced(address: str, share: float = 0.05) -> dict[str, str]:
    """Environment of processes that record this share of requests, and send it there."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_TRACES_SAMPLER_ARG": f"{share:g}"}


def make_key(program: str, redis_url: str) -> str:
    """An API key with limits, of the Forebay that uses this Redis.

    Raises:
        StartError: it can't be made.
    """
    env = {name: v for name, v in os.environ.items() if not name.startswith("FOREBAY_")}
    made = subprocess.run(
        [program, "keys", "create", "--name", "benchmark", *LIMITS],
        env=env | {"FOREBAY_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise StartError(f"There is no API key to be had: {made.stderr.strip()}")
    return made.stdout.strip()
