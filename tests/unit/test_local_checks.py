"""What is asked before anything starts."""

import socket
import sys

import pytest

from forebay.contract.errors import ConfigurationError, ForebayError, Unavailable
from forebay.gateway.serving import listen
from forebay.local.checks import BusyError, check_exposure, check_port, check_redis, hold_port
from forebay.local.server import free_port
from forebay.runtime.settings import Auth, Settings


def test_a_free_port_is_fine_and_a_busy_one_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(BusyError, match=f"Port {port} on 127.0.0.1 is in use"):
            check_port("127.0.0.1", port)
        with pytest.raises(BusyError, match=r"--grpc-port \(FOREBAY_GRPC_PORT\)"):
            check_port("127.0.0.1", port, setting="grpc_port")
    check_port("127.0.0.1", port)


@pytest.mark.skipif(sys.platform != "linux", reason="connections are shared out on Linux only")
def test_a_port_that_is_held_is_in_use_though_nobody_listens_and_ours_may_share_it() -> None:
    port = free_port()
    with hold_port("127.0.0.1", port):
        with pytest.raises(BusyError, match=f"Port {port} on 127.0.0.1 is in use"):
            check_port("127.0.0.1", port)
        with pytest.raises(BusyError):
            hold_port("127.0.0.1", port)
        ours = [listen("127.0.0.1", port, reuse_port=True) for _ in range(2)]
        for sock in ours:
            sock.close()
    check_port("127.0.0.1", port)


def test_an_empty_host_is_every_address_of_this_machine() -> None:
    check_port("", free_port())


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "no-such-host.invalid", "a..b", "a" * 70, "\udcff", "[::1"]
)
def test_an_address_that_is_not_ours_is_refused_in_one_line(host: str) -> None:
    with pytest.raises(ConfigurationError, match="can't listen on") as caught:
        check_port(host, 1)
    assert "\n" not in caught.value.message


async def test_an_absent_redis_is_named_without_its_password() -> None:
    with pytest.raises(Unavailable, match="can't be reached") as caught:
        await check_redis(f"redis://me:secret@127.0.0.1:{free_port()}/0", timeout_s=1)
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


async def test_a_redis_url_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ForebayError, match="can't be understood"):
        await check_redis("http://host", timeout_s=1)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "10.0.0.1", "gateway.example"])
def test_what_others_reach_asks_for_keys_or_was_told_not_to(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--auth keys.*--allow-anonymous"):
        check_exposure(Settings(host=host))
    check_exposure(Settings(host=host, auth=Auth.KEYS))
    check_exposure(Settings(host=host, allow_anonymous=True))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.5", "::1", "localhost"])
def test_what_this_machine_alone_reaches_needs_no_keys(host: str) -> None:
    check_exposure(Settings(host=host))
