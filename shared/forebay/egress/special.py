"""Addresses that are no place of the internet to call, by IANA's registries of special addresses.

Written out, with the RFC that made each so, since what Python calls global differs between its
releases. Where a registry says that a part of such a network is global, it is refused all the same:
relays, anycast services and identifiers answer no requests.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

_IPV4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network (RFC 791)
        "10.0.0.0/8",  # private (RFC 1918)
        "100.64.0.0/10",  # shared by a provider's customers (RFC 6598)
        "127.0.0.0/8",  # this machine (RFC 1122)
        "169.254.0.0/16",  # link-local (RFC 3927)
        "172.16.0.0/12",  # private (RFC 1918)
        "192.0.0.0/24",  # protocol assignments (RFC 6890)
        "192.0.2.0/24",  # documentation (RFC 5737)
        "192.88.99.0/24",  # relays of 6to4, deprecated (RFC 7526)
        "192.168.0.0/16",  # private (RFC 1918)
        "198.18.0.0/15",  # benchmarks (RFC 2544)
        "198.51.100.0/24",  # documentation (RFC 5737)
        "203.0.113.0/24",  # documentation (RFC 5737)
        "224.0.0.0/4",  # multicast (RFC 5771)
        "240.0.0.0/4",  # reserved (RFC 1112), and the broadcast (RFC 919)
        "168.63.129.16/32",  # in no registry: answered by a virtual machine's host (Azure)
    )
)

_UNICAST: Final = IPv6Network("2000::/3")
"""What is given out at all (RFC 4291): this machine, link-local, unique local, multicast and the
prefixes 64:ff9b:1::/48 (RFC 8215), 100::/64 (RFC 6666), 100:0:0:1::/64 (RFC 9780) and 5f00::/16
(RFC 9602) lie outside."""

_IPV6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments (RFC 2928)
        "2001:db8::/32",  # documentation (RFC 3849)
        "2002::/16",  # 6to4 (RFC 3056): who asks looks at the IPv4 address inside
        "3fff::/20",  # documentation (RFC 9637)
    )
)


def is_special(address: IPv4Address | IPv6Address) -> bool:
    """Whether an address is no place of the internet, as far as is known here."""
    if isinstance(address, IPv6Address):
        return address not in _UNICAST or any(address in network for network in _IPV6)
    return any(address in network for network in _IPV4)
