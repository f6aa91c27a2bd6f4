"""The listening socket, and what a gateway can't be built without."""

import socket
import sys

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.gateway.app import create_app
from forebay.gateway.dialects import oip
from forebay.gateway.serving import listen
from forebay.runtime.catalog import Catalog
from forebay.runtime.settings import Settings


def test_a_free_port_is_listened_on() -> None:
    with listen("127.0.0.1", 0) as sock:
        socket.create_connection(sock.getsockname(), timeout=5).close()


def test_a_busy_port_is_one_clear_sentence() -> None:
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=f"Port {port} on 127.0.0.1 is taken"
        ) as caught:
            listen("127.0.0.1", port)
        assert "\n" not in caught.value.message


def test_an_address_of_another_machine_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"Can't listen on 192\.0\.2\.1"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "a" * 70, "\udcff"])
def test_a_host_that_does_not_resolve_is_refused_by_name(host: str) -> None:
    with pytest.raises(ConfigurationError, match="can't be resolved") as caught:
        listen(host, 0)
    assert repr(host) in caught.value.message


def test_grpc_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{oip.__name__}.rpc")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grpc", None)
    settings = Settings(redis_url="redis://127.0.0.1", grpc_port=1)
    with pytest.raises(ConfigurationError, match=r"pip install 'forebay\[grpc\]'"):
        create_app(settings, Catalog({}))


def test_a_gateway_without_a_redis_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="FOREBAY_REDIS_URL"):
        create_app(Settings(), Catalog({}))
