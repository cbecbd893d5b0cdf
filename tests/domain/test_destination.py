"""The SSRF policy: permitted addresses, and spellings of hosts."""

import ipaddress

import pytest

from app.domain.destination import DestinationRules, literal_address

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
    "3ffe::1",
    # A public IPv4 address, mapped and through NAT64.
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]
FORBIDDEN = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",  # a cloud's metadata
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",  # a cloud's metadata
    "169.254.0.1",
    "169.254.169.254",  # most clouds' metadata
    "169.254.170.2",  # credentials of containers
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",  # a cloud's metadata
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::2",
    "::127.0.0.1",  # IPv4-compatible
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.1.2.3",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::1",
    "64:ff9b:1:fffe::8.8.8.8",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::1",  # 6to4 of 127.0.0.1
    "2002:808:808::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",  # a cloud's metadata
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert DestinationRules().permits(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", FORBIDDEN)
def test_other_addresses_are_forbidden(address: str) -> None:
    assert not DestinationRules().permits(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.1.0.0/16", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3"], ["10.2.0.1", "::ffff:10.2.0.1"]),
        ("127.0.0.1/32", ["127.0.0.1"], ["127.0.0.2", "::1"]),
        ("::1/128", ["::1"], ["::2", "127.0.0.1"]),
        ("fd00::/8", ["fd12::1"], ["fc12::1"]),
        ("fe80::/10", ["fe80::1", "fe80::1%eth0"], ["fec0::1"]),
        ("0.0.0.0/0", ["192.168.1.1", "127.0.0.1", "::ffff:127.0.0.1"], ["::1", "fd00::1"]),
    ],
)
def test_only_networks_of_the_operator_are_permitted_in_addition(
    network: str, inside: list[str], outside: list[str]
) -> None:
    rules = DestinationRules([ipaddress.ip_network(network)])
    assert [a for a in inside if not rules.permits(ipaddress.ip_address(a))] == []
    assert [a for a in outside if rules.permits(ipaddress.ip_address(a))] == []


FORBIDDEN_HOSTS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0X7F.0x0.0.1",
    "0177.0.0.1",
    "017700000001",
    "127.0.1",
    "0",
    "10.1",
    "3232235777",
    "0xa9fea9fe",
    "::1",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[fe80::1%25eth0]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "a.localhost",
    "a.b.LocalHost.",
]
NAMES_AND_PUBLIC_HOSTS = [
    "example.com",
    "localhost.example.com",
    "notlocalhost",
    "127.0.0.1.example.com",
    "1.1.1.1",
    "0x08080808",
    "134744072",
    "[2606:4700:4700::1111]",
    "1.2.3.4.5",
    "256.256.256.256",  # neither an address nor a name that resolves
    "08.0.0.1",
    "0x",
    "",
]


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_hosts_that_reveal_a_forbidden_address_are_forbidden_in_any_spelling(host: str) -> None:
    assert DestinationRules().forbids_host(host)


@pytest.mark.parametrize("host", NAMES_AND_PUBLIC_HOSTS)
def test_other_hosts_are_checked_at_connect(host: str) -> None:
    assert not DestinationRules().forbids_host(host)


def test_localhost_depends_on_the_allowed_networks() -> None:
    for network in ("127.0.0.0/8", "::1/128"):
        rules = DestinationRules([ipaddress.ip_network(network)])
        assert not rules.forbids_host("localhost")
        assert not rules.forbids_host("a.localhost")
    assert DestinationRules([ipaddress.ip_network("10.0.0.0/8")]).forbids_host("localhost")


def test_numbers_are_read_like_resolvers_do() -> None:
    assert literal_address("1.2.3") == ipaddress.ip_address("1.2.0.3")
    assert literal_address("4294967295") == ipaddress.ip_address("255.255.255.255")
    assert literal_address("4294967296") is None
    assert literal_address("example.com") is None
