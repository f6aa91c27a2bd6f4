"""Questions asked before anything starts, whose answers are one clear line."""

import contextlib
import errno
import socket
from typing import TYPE_CHECKING

from forebay.contract.errors import ConfigurationError, ForebayError, Unavailable
from forebay.egress.rules import is_loopback
from forebay.runtime.ports import check_shared, share
from forebay.runtime.settings import Auth, Settings

if TYPE_CHECKING:
    from forebay.runtime.redis import Commands


class BusyError(ForebayError):
    """The port or the home folder is somebody else's already."""


def check_port(host: str, port: int, *, setting: str = "port") -> None:
    """Make sure that the gateway will be able to listen.

    Args:
        host: address to listen on.
        port: likewise.
        setting: the one that says which port.

    Raises:
        BusyError: somebody listens there.
        ConfigurationError: the address is not one of this machine, or not ours to use.
    """
    _bound(host, port, setting=setting).close()


def hold_port(host: str, port: int, *, setting: str = "port") -> socket.socket:
    """A socket that keeps a port for several processes of ours, and listens to nobody.

    Whoever comes later and doesn't share, another `forebay up` for one, finds it in use, even while
    none of ours listens.

    Args:
        host: address to listen on.
        port: likewise.
        setting: the one that says which port.

    Raises:
        BusyError: somebody has it.
        ConfigurationError: the address is not ours to use, or this system doesn't share
            connections out.
    """
    check_shared()
    held = _bound(host, port, setting=setting)
    # Two that may reuse an address are both given it while neither listens; so nobody may any more.
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    share(held)
    return held


def _bound(host: str, port: int, *, setting: str) -> socket.socket:
    """A socket that has an address for itself, and raises what `check_port` does."""
    option, variable = setting.replace("_", "-"), f"FOREBAY_{setting.upper()}"
    sock: socket.socket | None = None
    try:
        # An empty host stands for all of this machine's addresses.
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except (OSError, UnicodeError) as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise BusyError(
                f"Port {port} on {host} is in use. Stop what listens there, or choose another "
                f"with --{option} ({variable})."
            ) from error
        raise ConfigurationError(
            f"The gateway can't listen on {host!r} port {port}: {reason(error)}. Choose another "
            f"with --host and --{option} (FOREBAY_HOST, {variable})."
        ) from error
    return sock


def reason(error: Exception) -> str:
    """Why, without the number that the system has for it."""
    return getattr(error, "strerror", None) or str(error)


async def check_redis(url: str, *, timeout_s: float) -> str:
    """Make sure that a Redis answers and is new enough; returns its version.

    Raises:
        Unavailable: it can't be reached, or refuses us.
        ConfigurationError: the URL can't be understood, or the server is too old.
    """
    from redis.exceptions import RedisError

    from forebay.local.server import OLDEST_REDIS
    from forebay.runtime.redis import connect, mask

    client = connect(url, timeout_s=timeout_s)
    try:
        version = await _version(client)
    except (RedisError, OSError) as error:
        raise Unavailable(
            f"Redis at {mask(url)} can't be reached: {str(error).rstrip('.')}. Start it, or leave "
            "FOREBAY_REDIS_URL empty to let `forebay up` start its own."
        ) from error
    finally:
        await client.aclose()
    with contextlib.suppress(ValueError):
        major, minor = (int(number) for number in version.split(".")[:2])
        if (major, minor) < OLDEST_REDIS:
            raise ConfigurationError(
                f"Redis at {mask(url)} is version {version}; Forebay needs "
                f"{OLDEST_REDIS[0]}.{OLDEST_REDIS[1]} or newer (Valkey: any)."
            )
    return version


async def _version(redis: "Commands") -> str:
    """What the server says it is compatible with: `7.2.4`."""
    await redis.execute_command("PING")
    info: bytes = await redis.execute_command("INFO", "server")
    lines = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    return lines.get("redis_version", "?")


def check_exposure(settings: Settings) -> None:
    """Refuse to listen where others may come who need no API key.

    Raises:
        ConfigurationError: what to do instead.
    """
    open_to_all = settings.auth is Auth.NONE and not settings.allow_anonymous
    if open_to_all and not is_loopback(settings.host):
        where = settings.host or "Every address"
        raise ConfigurationError(
            f"{where} can be reached from other machines, and anybody there could use this "
            "gateway. Ask for API keys (--auth keys, or FOREBAY_AUTH=keys; `forebay keys create` "
            "makes them), or let anybody in (--allow-anonymous, or FOREBAY_ALLOW_ANONYMOUS=true)."
        )
