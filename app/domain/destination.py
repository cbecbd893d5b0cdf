"""SSRF policy for user-supplied URLs: public addresses, and what the operator allows."""

import ipaddress
import re
import socket
from collections.abc import Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# IANA's special-purpose addresses that are not public, or lead back into a private network.
_FORBIDDEN_IPV4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # a cloud's metadata service, although a public address
        "169.254.0.0/16",  # link-local, with most clouds' metadata
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
# All public IPv6 addresses. This excludes unspecified, loopback, link-local, unique local (fd00:ec2::254 is a cloud's
# metadata service), multicast and future ranges without listing them.
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_FORBIDDEN_IPV6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, with Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
]
# Addresses that embed an IPv4 address in their last 32 bits: mapped ones, and those of NAT64, by which IPv6-only hosts
# reach the IPv4 internet.
_EMBEDDING = [ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("64:ff9b::/96")]
_LOOPBACKS = (ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1"))
_PRIVATE_DOMAINS = (".internal", ".local", ".lan", ".home.arpa")
# What inet_aton accepts: one to four decimal, octal or hexadecimal numbers.
_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]+|[0-9]+)(\.(0[xX][0-9a-fA-F]+|[0-9]+)){0,3}")


class DestinationRules:
    """Decides about addresses. `allowed` lists non-public networks that may be reached."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def permits(self, address: Address) -> bool:
        """Whether a connection to an address may be opened."""
        if any(address in network for network in self._allowed):
            return True
        if isinstance(address, ipaddress.IPv4Address):
            return not any(address in network for network in _FORBIDDEN_IPV4)
        if any(address in network for network in _EMBEDDING):
            return self.permits(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        return address in _GLOBAL_UNICAST and not any(address in network for network in _FORBIDDEN_IPV6)

    def forbids_host(self, host: str) -> bool:
        """Whether a URL's host is known to be forbidden without resolving it."""
        if _means_this_machine(host):
            return not any(self.permits(address) for address in _LOOPBACKS)
        address = literal_address(host)
        return address is not None and not self.permits(address)

    def is_private_host(self, host: str) -> bool:
        """Whether only private networks can reach a URL's host, without resolving it.

        A private name counts as allowed once any network is: which one it is in can't be told.
        """
        if self.forbids_host(host):
            return True
        return not self._allowed and literal_address(host) is None and _is_private_name(host)


def _is_private_name(host: str) -> bool:
    name = host.lower().rstrip(".")
    return "." not in name or name.endswith(_PRIVATE_DOMAINS)


def literal_address(host: str) -> Address | None:
    """Parse a host that is an address in any form (`2130706433`, `0x7f.1`); None for a name."""
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
