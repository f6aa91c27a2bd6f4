"""Which URLs and addresses may be called out to. Pure.

What is not globally reachable by IANA's registries of special addresses (RFC 6890 and what updates
it; `special` lists them) is refused, in whatever form of IPv6 it is wrapped; and so are the few
global addresses that clouds answer their machines on.
"""

import ipaddress
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from forebay.contract.errors import ConfigurationError, InvalidInput
from forebay.egress.special import is_special

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL: Final = 2_048
"""Characters of a URL; longer ones are mistakes, or worse."""

_PORTS: Final = {"http": 80, "https": 443}

_TRANSLATED: Final = IPv6Network("64:ff9b::/96")
"""Well-known prefix of NAT64 (RFC 6052): the last 32 bits are an IPv4 address."""


class Refused(InvalidInput):
    """The rules don't allow the call. Nothing was sent.

    Args:
        why: the sentence after what it is about.
        param: the field that holds the URL, which the sentence is about then.
    """

    def __init__(self, why: str, *, param: str | None = None) -> None:
        super().__init__(f"{param or 'The URL'} {why}", param=param)
        self._why = why

    def of(self, param: str | None) -> "Refused":
        """The same of a field, for whoever knows which it is."""
        return Refused(self._why, param=param)


class Place(msgspec.Struct, frozen=True):
    """What a URL points at, taken apart once; requests are made of these parts.

    Attributes:
        scheme: `http` or `https`.
        host: ASCII; an IPv6 address without its brackets.
        port: given, or the scheme's.
        target: path and query.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As the `Host` header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class Rules:
    """What may be called.

    Args:
        allow: what may be called although it is not globally reachable: an address, a network in
            CIDR form, a host's name, or `*.` and a domain for all names in it.
        loopback: whether this machine itself may be; so it is where the gateway serves only it.

    Raises:
        ConfigurationError: an entry of `allow` is none of these.
    """

    def __init__(self, allow: Iterable[str] = (), *, loopback: bool = False) -> None:
        self._loopback = loopback
        self._networks: list[Network] = []
        self._names: set[str] = set()
        self._domains: list[str] = []
        for entry in allow:
            self._add(entry.strip().lower())

    def _add(self, entry: str) -> None:
        try:
            self._networks.append(ipaddress.ip_network(entry))
        except ValueError:
            name = entry.removeprefix("*.")
            if not name or set(name) & set("/*:@ ") or name.replace(".", "").isdigit():
                raise ConfigurationError(
                    f"egress_allow has {entry!r}, which is no address, no network such as "
                    "10.1.0.0/16, no host's name and no *.domain."
                ) from None
            if name == entry:
                self._names.add(name)
            else:
                self._domains.append(f".{name}")

    def place(self, url: str, *, param: str | None = None) -> Place:
        """Take a URL apart, and see whether it can be allowed at all.

        Args:
            url: as a client gave it.
            param: the field that holds it, for the error.

        Raises:
            Refused: it is no http or https URL, holds a password, or is an address that may not be
                called. A name that resolves to one is found out by `connect`.
        """
        try:
            parts = urlsplit(url)
            place = self._place(url, parts)
        except ValueError:
            raise Refused("is no URL that can be called.", param=param) from None
        except Refused as error:
            raise error.of(param) from None
        address = _address(place.host)
        if address is not None and not self.allows(address, host=place.host):
            raise refused(place.host, address).of(param)
        return place

    def _place(self, url: str, parts: SplitResult) -> Place:
        if len(url) > MAX_URL:
            raise Refused(f"has {len(url)} characters; a URL may have {MAX_URL}.")
        if parts.scheme not in _PORTS:
            raise Refused("must begin with https:// or http://.")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise Refused("has characters that a URL must percent-encode; names in punycode.")
        if parts.username is not None or parts.password is not None:
            raise Refused("must not hold a user or a password.")
        if not parts.hostname:
            raise Refused("names no host.")
        port = parts.port
        if port == 0:
            raise Refused("names port 0.")
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        host = parts.hostname.rstrip(".")
        return Place(parts.scheme, host, port or _PORTS[parts.scheme], target)

    def allows(self, address: Address, *, host: str) -> bool:
        """Whether an address may be connected to.

        Args:
            address: that would be connected to.
            host: under which name it was found.
        """
        if host in self._names or any(host.endswith(domain) for domain in self._domains):
            return True
        inner = _unwrapped(address)
        if any(inner in network for network in self._networks):
            return True
        if inner.is_loopback:
            return self._loopback
        return _is_public(inner)


def is_loopback(host: str) -> bool:
    """Whether a host, by name or address, is this machine and nothing that others reach."""
    address = _address(host)
    return host == "localhost" if address is None else _unwrapped(address).is_loopback


def refused(host: str, address: Address) -> Refused:
    """The error for an address that may not be connected to."""
    of = "" if _address(host) == address else f" ({host})"
    return Refused(
        f"leads to {address}{of}, which is not a public address. Who runs this service can allow "
        "it with egress_allow."
    )


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False  # what a newer Python knows of that is not listed yet
    return not is_special(address)


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is None and address.teredo is not None:
        inner = address.teredo[1]
    if inner is None and address in _TRANSLATED:
        inner = IPv4Address(int(address) & 0xFFFF_FFFF)
    return inner or address


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
