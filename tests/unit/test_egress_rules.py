"""Which URLs and addresses may be called out to."""

import ipaddress

import pytest

from forebay.contract.errors import ConfigurationError
from forebay.egress.rules import Refused, Rules
from forebay.egress.special import is_special

REFUSED = [
    "0.0.0.0",
    "10.1.2.3",
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata
    "127.0.0.1",
    "127.255.0.9",
    "168.63.129.16",  # a cloud's host
    "169.254.169.254",  # a cloud's metadata
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",  # a cloud's metadata
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.5",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::7f00:1",
    "100::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::",
    "fc00::1",
    "fd00:ec2::254",  # a cloud's metadata
    "fe80::1",
    "ff02::1",
]

SPECIAL = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
    *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
    *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    *("255.255.255.255/32", "::/128", "::1/128", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64"),
    *("2001::/23", "2001:1::1/128", "2001:1::2/128", "2001:1::3/128", "2001:2::/48"),
    *("2001:3::/32", "2001:4:112::/48", "2001:10::/28", "2001:20::/28", "2001:30::/28"),
    *("2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "ff00::/8"),
]
"""Of IANA's registries and RFC 5771, what nobody is to be called at."""

ALLOWED = [
    "1.1.1.1",
    "8.8.8.8",
    "172.15.0.1",
    "172.32.0.1",
    "192.88.98.255",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
]


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not Rules().allows(ipaddress.ip_address(address), host="hooks.example")
    url = f"https://[{address}]/x" if ":" in address else f"https://{address}/x"
    with pytest.raises(Refused, match="not a public address") as caught:
        Rules().place(url, param="webhook")
    assert caught.value.param == "webhook"


@pytest.mark.parametrize("network", SPECIAL)
def test_what_the_registries_list_is_refused_whatever_python_knows_of_it(network: str) -> None:
    whole = ipaddress.ip_network(network)
    for address in (whole[0], whole[-1]):
        assert is_special(address)
        assert not Rules().allows(address, host="hooks.example")


@pytest.mark.parametrize("address", ALLOWED)
def test_what_is_public_is_allowed(address: str) -> None:
    assert Rules().allows(ipaddress.ip_address(address), host="hooks.example")


def test_this_machine_is_allowed_where_the_gateway_serves_only_it() -> None:
    rules = Rules(loopback=True)
    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert rules.allows(ipaddress.ip_address(address), host="localhost")
    for address in ("10.0.0.1", "169.254.169.254", "0.0.0.0"):
        assert not rules.allows(ipaddress.ip_address(address), host="localhost")


def test_what_is_listed_is_allowed() -> None:
    rules = Rules(["10.1.0.0/16", "192.168.7.7", "Hooks.Internal", "*.corp.example", "fd00::/8"])
    for address, host in (
        ("10.1.2.3", "a.example"),
        ("::ffff:10.1.2.3", "a.example"),
        ("192.168.7.7", "a.example"),
        ("fd12::1", "a.example"),
        ("172.16.0.1", "hooks.internal"),
        ("172.16.0.1", "x.corp.example"),
    ):
        assert rules.allows(ipaddress.ip_address(address), host=host), (address, host)
    for address, host in (
        ("10.2.0.1", "a.example"),
        ("192.168.7.8", "a.example"),
        ("172.16.0.1", "corp.example"),
        ("172.16.0.1", "xcorp.example"),
        ("172.16.0.1", "hooks.internal.evil.example"),
    ):
        assert not rules.allows(ipaddress.ip_address(address), host=host), (address, host)


@pytest.mark.parametrize(
    "entry", ["", "10.0.0.0/33", "http://a.example", "a:80", "*.", "10.0.0.1/8"]
)
def test_a_list_with_anything_else_is_refused(entry: str) -> None:
    with pytest.raises(ConfigurationError, match="egress_allow has"):
        Rules([entry])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("ftp://a.example/x", "must begin with https"),
        ("file:///etc/passwd", "must begin with https"),
        ("//a.example/x", "must begin with https"),
        ("a.example", "must begin with https"),
        ("", "must begin with https"),
        ("https:///x", "names no host"),
        ("https://user@a.example/", "user or a password"),
        ("https://:pw@a.example/", "user or a password"),
        ("https://a.example:0/", "port 0"),
        ("https://a.example:65536/", "no URL"),
        ("https://[::1/", "no URL"),
        ("https://a.example/ x", "percent-encode"),
        ("https://a.example/\r\nx: y", "percent-encode"),
        ("https://a.example\\@b.example/", "percent-encode"),
        ("https://exämple.example/", "percent-encode"),
        ("https://a.example/" + "x" * 2048, "characters"),
    ],
)
def test_what_is_no_url_that_can_be_called_is_refused(url: str, told: str) -> None:
    with pytest.raises(Refused, match=told):
        Rules(loopback=True).place(url)


def test_a_url_is_taken_apart_once() -> None:
    rules = Rules()
    place = rules.place("HTTPS://Hooks.Example.:8443/a%20b?c=d&e#f")
    assert (place.scheme, place.host, place.port, place.target) == (
        "https",
        "hooks.example",
        8443,
        "/a%20b?c=d&e",
    )
    assert place.authority == "hooks.example:8443"
    assert rules.place("http://a.example").authority == "a.example"
    assert rules.place("http://a.example").target == "/"
    assert rules.place("https://[2606:4700::1111]:443/").authority == "[2606:4700::1111]"
