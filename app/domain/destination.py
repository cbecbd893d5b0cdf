"""SSRF policy for user-supplied URLs."""

import ipaddress
import re
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's special-purpose networks that are not public or can lead into a private network.
_FORBIDDEN_IPV4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's metadata service, despite its public address
        "169.254.0.0/16",  # link-local, including the metadata services of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
# All public IPv6 addresses. This excludes unspecified, loopback, link-local, unique local (fd00:ec2::254 is AWS's
# metadata service), multicast and future ranges without listing them.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_FORBIDDEN_IPV6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, including Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
# Addresses that end in an IPv4 address: IPv4-mapped ones, and NAT64, which IPv6-only hosts use to reach the IPv4
# internet.
_EMBEDDING = [ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96")]
_LOOPBACKS = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_PRIVATE_DOMAINS = (".internal", ".local", ".lan", ".home.arpa")
# What inet_aton accepts: one to four decimal, octal or hexadecimal numbers.
_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)(\.(0[xX][0-9a-fA-F]+|[0-9]+)){0,3}")


class DestinationRules:
    """Permits public addresses and the non-public networks in `allowed`."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def permits(self, address: Address) -> bool:
        """Whether connections to an address are allowed."""
        if any(address in network for network in self._allowed):
            return True
        if isinstance(address, ipaddress.IPv4Address):
            return not any(address in network for network in _FORBIDDEN_IPV4)
        if any(address in network for network in _EMBEDDING):
            return self.permits(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _GLOBAL_UNICAST and not any(address in network for network in _FORBIDDEN_IPV6)

    def forbids_host(self, host: str) -> bool:
        """Whether a host is forbidden, without a DNS lookup."""
        if _means_this_machine(host):
            return not any(self.permits(address) for address in _LOOPBACKS)
        address = literal_address(host)
        return address is not None and not self.permits(address)

    def is_private_host(self, host: str) -> bool:
        """Whether a host is forbidden or has a private name."""
        # Once any network is allowed, private names are too, as we can't tell which network they are in.
        if self.forbids_host(host):
            return True
        return not self._allowed and literal_address(host) is None and _is_private_name(host)


def _is_private_name(host: str) -> bool:
    name = host.lower().rstrip(".")
    return "." not in name or name.endswith(_PRIVATE_DOMAINS)


def literal_address(host: str) -> Address | None:
    """Parse an address in any form (`0x7f.1`); None for names."""
    plain = host.strip("[]").rstrip(".").partition("%")[0]
    if _NUMERIC.fullmatch(plain):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(plain))
        except OSError:
            return None
    try:
        return ipaddress.ip_address(plain)
    except ValueError:
        return None


def _means_this_machine(host: str) -> bool:
    name = host.lower().rstrip(".")
    return name == "localhost" or name.endswith(".localhost")
