"""The open loop, against a real server that is as slow as a test wants it."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest

from tests.bench.open_loop import bursts, measure, poisson

HOLD_S = 0.2


class Answering(BaseHTTPRequestHandler):
    """Answers `{"ok": …}` with the body; `/one` to one at a time, `/error` with an error."""

    protocol_version = "HTTP/1.1"
    one_at_a_time = threading.Lock()

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/one":
            with self.one_at_a_time:
                time.sleep(HOLD_S)
        if self.path == "/never":
            time.sleep(5 * HOLD_S)
            self.close_connection = True
            return
        answer = b'{"ok": ' + body + b"}"
        self.send_response(500 if self.path == "/error" else 200)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(answer), answer))
            return
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Address of a server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_poisson_process_has_its_rate_and_uneven_gaps() -> None:
    due = poisson(100, 100, seed="here")
    gaps = sorted(b - a for a, b in pairwise(due))

    assert 9_000 < len(due) < 11_000
    assert due == sorted(due)
    assert due[-1] < 100
    # Half of exponential gaps are shorter than ln 2 of their mean, and some are long.
    assert gaps[len(gaps) // 2] == pytest.approx(0.00693, rel=0.1)
    assert gaps[-1] > 0.05
    assert due == poisson(100, 100, seed="here") != poisson(100, 100, seed="there")


def test_bursts_come_all_at_once() -> None:
    assert bursts(2, 0.5, 1.5) == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("path", ["/", "/chunked"])
def test_what_is_due_after_the_lead_in_is_counted(url: str, path: str) -> None:
    due = [0.0, 0.01, 0.02, 0.03, 0.04]
    found = measure(
        url + path, bodies=[b"1", b"2"], marker='"ok"', headers={}, due_s=due, lead_s=0.015
    )

    assert (found.answered, found.failed, found.sent) == (3, 0, 5)
    assert found.p50_ms is not None


def test_latency_counts_from_when_a_request_was_due(url: str) -> None:
    # Three at once to a server that takes one at a time: the last waits for both before it, also
    # where it had to wait its turn to be sent at all.
    for connections in (1, 3):
        found = measure(
            url + "/one", bodies=[b"1"], marker='"ok"', headers={}, due_s=[0.0] * 3, lead_s=0,
            connections=connections,
        )  # fmt: skip

        assert found.answered == 3
        assert found.p99_ms is not None
        assert found.p99_ms >= 3 * HOLD_S * 1e3


@pytest.mark.parametrize(("path", "marker"), [("/error", '"ok"'), ("/", "another"), ("/never", "")])
def test_errors_wrong_answers_and_late_ones_have_failed(url: str, path: str, marker: str) -> None:
    found = measure(
        url + path, bodies=[b"1"], marker=marker, headers={}, due_s=[0.0, 0.0], lead_s=0,
        timeout_s=HOLD_S,
    )  # fmt: skip

    assert (found.answered, found.failed) == (0, 2)
    assert found.p50_ms is None


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(OSError, match="Connect call failed"):
        measure("http://127.0.0.1:1/", bodies=[b"1"], marker="", headers={}, due_s=[0.0], lead_s=0)
