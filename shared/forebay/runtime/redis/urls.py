"""What a Redis URL says.

    redis://  rediss://  unix://                                a server, as redis-py has it
    redis+sentinel://[USER:PASSWORD@]HOST[:PORT],…/SERVICE[/DB] the primary that sentinels know of
    redis+cluster://[USER:PASSWORD@]HOST[:PORT],…               the cluster of these nodes

`rediss+…` is the same behind TLS, sentinels and nodes included. Options are redis-py's; those of
the sentinels are `sentinel_username` and `sentinel_password`. (Decision 0017.)
"""

import re
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

import msgspec
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import RedisError

from forebay.contract.errors import ConfigurationError

PORT = 6379
SENTINEL_PORT = 26379

_SHAPE = re.compile(r"(rediss?)\+(sentinel|cluster)://")
_PASSWORD_OPTION = re.compile(r"([?&](?:sentinel_|ssl_)?password=)[^&]*")
_UNKNOWN_OPTION = re.compile(r".*unexpected keyword argument ('\w+').*")

Address = tuple[str, int]


class Place(msgspec.Struct, frozen=True):
    """Where a server is, and how to talk to it.

    Attributes:
        options: keyword arguments of a connection, as redis-py takes them.
        tls: whether connections are behind TLS.
        unix: whether it is a socket of this machine.
        sentinels: who know its address, if it isn't in the options.
        service: what they call it.
        sentinel_options: like `options`, for connections to them.
        nodes: some of a cluster's.
    """

    options: dict[str, Any]
    tls: bool = False
    unix: bool = False
    sentinels: tuple[Address, ...] = ()
    service: str = ""
    sentinel_options: dict[str, Any] = {}
    nodes: tuple[Address, ...] = ()


def read_url(url: str) -> Place:
    """Read a URL.

    Raises:
        ConfigurationError: it can't be understood.
    """
    try:
        if found := _SHAPE.match(url):
            read = _sentinel_place if found[2] == "sentinel" else _cluster_place
            return read(found[1], url[found.end() :])
        return _server_place(url)
    except (ValueError, TypeError) as error:
        raise misunderstood(url, error) from error


def misunderstood(url: str, error: Exception) -> ConfigurationError:
    """The error for a URL whose parts redis-py, or the system, did not take."""
    why = _UNKNOWN_OPTION.sub(r"there is no option \1", str(error)).rstrip(".")
    if isinstance(error, OSError) and not isinstance(error, RedisError):
        why = f"its certificates can't be used: {why}"
    return ConfigurationError(
        f"The Redis URL {mask(url)!r} can't be understood: {why}. Write it as "
        "redis://HOST:PORT/DB, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or "
        "redis+cluster://HOST:PORT,HOST:PORT."
    )


def mask(url: str) -> str:
    """The URL without its passwords, fit for logs and errors."""
    url = _PASSWORD_OPTION.sub(r"\1***", url)
    scheme, separator, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    if not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}:***@{host}"


def _server_place(url: str) -> Place:
    options = cast(dict[str, Any], parse_url(url))
    kind = cast(type, options.pop("connection_class", object))
    tls, unix = issubclass(kind, SSLConnection), issubclass(kind, UnixDomainSocketConnection)
    if unix and "path" not in options:
        raise ValueError("it names no path")
    str(options.get("host", "")).encode("idna")
    return Place(options, tls, unix)


def _sentinel_place(scheme: str, rest: str) -> Place:
    authority, _, path = rest.partition("/")
    path, _, query = path.partition("?")
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("it names no service")
    if database and not database.isdecimal():
        raise ValueError(f"{database!r} is no number of a database")
    told = parse_qsl(query, strict_parsing=bool(query))
    own = urlencode([(name, value) for name, value in told if not name.startswith("sentinel_")])
    sentinels, place = _hosts(scheme, authority, f"{database}?{own}", port=SENTINEL_PORT)
    tls_options = {name: value for name, value in place.options.items() if name[:4] == "ssl_"}
    for name, value in told:
        if name.startswith("sentinel_"):
            tls_options[_sentinel_option(name)] = value
    return msgspec.structs.replace(
        place, sentinels=sentinels, service=service, sentinel_options=tls_options
    )


def _cluster_place(scheme: str, rest: str) -> Place:
    authority, _, query = rest.partition("?")
    nodes, place = _hosts(scheme, authority.removesuffix("/"), f"?{query}", port=PORT)
    if place.options.get("db", 0) != 0:
        raise ValueError("a cluster has no databases but 0")
    return msgspec.structs.replace(place, nodes=nodes)


def _hosts(
    scheme: str, authority: str, rest: str, *, port: int
) -> tuple[tuple[Address, ...], Place]:
    """The hosts of a list, and a place with all but them."""
    credentials, at, hosts = authority.rpartition("@")
    if "/" in hosts:
        raise ValueError("it names a service or a database where there is none")
    # One host at a time is a URL that redis-py reads, options and all.
    places = [
        _server_place(f"{scheme}://{credentials}{at}{host}/{rest}") for host in hosts.split(",")
    ]
    addresses = [(one.options.get("host", ""), one.options.get("port", port)) for one in places]
    if not all(host for host, _ in addresses):
        raise ValueError("it names no host")
    options = {
        name: value for name, value in places[0].options.items() if name not in ("host", "port")
    }
    return tuple(addresses), Place(options, tls=places[0].tls)


def _sentinel_option(name: str) -> str:
    own = name.removeprefix("sentinel_")
    if own not in ("username", "password"):
        raise TypeError(f"unexpected keyword argument {name!r}")
    return own
