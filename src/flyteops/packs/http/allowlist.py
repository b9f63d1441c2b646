"""The allow-list: hosts that flows may reach, by name, and addresses beyond the public ones."""

import ipaddress
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self

import msgspec

from flyteops.errors import ForbiddenError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_PATTERN = re.compile(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?")
_NAME = re.compile(r"(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)")

# Addresses at which clouds hand out the credentials of a machine; some of these count as public,
# others lie in large private networks.
_METADATA = {
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "168.63.129.16",
        "100.100.100.200",
        "192.0.0.192",
        "fd00:ec2::254",
    )
}

# IPv6 addresses that lead to the IPv4 address in their last 32 bits: compatible, NAT64 and its
# local form.
_CARRIERS = [ipaddress.IPv6Network(text) for text in ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")]
_NOBODY = {IPv6Address("::"), IPv6Address("::1")}


class HostPattern(msgspec.Struct, frozen=True):
    """A host such as `api.example.com`, all hosts below one such as `*.example.com`, or `*`.

    With a port, the pattern matches at that port only.
    """

    host: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `host` or `host:port`; raise `ValueError` if it is neither."""
        found = _PATTERN.fullmatch(text)
        if found is None or (found[2] and not 0 < int(found[2]) < 65536):
            message = (
                f"{text!r} is not a host such as api.example.com, *.example.com or localhost:9200"
            )
            raise ValueError(message)
        host = canonical_host(_ascii(found[1].strip("[]")))
        if parse_address(host) is None and not _NAME.fullmatch(host):
            message = (
                f"{text!r} is not a host such as api.example.com; give names without scheme, path"
                " or mask"
            )
            raise ValueError(message)
        return cls(host, int(found[2]) if found[2] else None)

    def matches(self, host: str, port: int) -> bool:
        """Return whether a host in its canonical form matches."""
        if self.port is not None and self.port != port:
            return False
        if self.host.startswith("*"):
            return host.endswith(self.host[1:])
        return host == self.host


class AllowList(msgspec.Struct, frozen=True):
    """The hosts that may be requested, and the addresses that may be connected to.

    Without `hosts` every host may be requested. Public addresses may always be connected to, others
    only when `networks` contains them; an address at which clouds hand out credentials must be
    listed by itself.
    """

    hosts: Sequence[HostPattern] = ()
    networks: Sequence[Network] = ()

    def admit_host(self, host: str, port: int) -> None:
        """Raise `ForbiddenError` unless the host may be requested."""
        if self.hosts and not any(pattern.matches(host, port) for pattern in self.hosts):
            message = f"{host}:{port} is not among the hosts of FLYTE_HTTP_ALLOW"
            raise ForbiddenError(message)

    def admits(self, address: Address) -> bool:
        """Return whether an address may be connected to."""
        address = true_address(address)
        if address in _METADATA:
            return any(
                network.num_addresses == 1 and address in network for network in self.networks
            )
        return _is_public(address) or any(address in network for network in self.networks)

    def admit_addresses(self, host: str, addresses: Sequence[Address]) -> list[Address]:
        """Return the addresses that may be connected to.

        Raise `ForbiddenError` if there are none.
        """
        admitted = [address for address in addresses if self.admits(address)]
        if not admitted:
            found = true_address(addresses[0])
            place = f"{host} is" if str(found) == host else f"{host} is at {found},"
            message = f"{place} not a public address; FLYTE_HTTP_ALLOW_ADDRESSES does not list it"
            raise ForbiddenError(message)
        return admitted


def canonical_host(host: str) -> str:
    """Return the canonical form of a host for comparisons.

    It is in lower case, without a dot at its end, and addresses are as short as can be.
    """
    host = host.lower().removesuffix(".")
    address = parse_address(host)
    return host if address is None else str(address)


def parse_address(text: str) -> Address | None:
    """Return the address in a text in its usual notation, or None."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def parse_networks(text: str) -> list[Network]:
    """Read addresses and networks such as `127.0.0.1,10.0.0.0/8,fd00::/8`."""
    try:
        return [ipaddress.ip_network(piece.strip()) for piece in text.split(",")]
    except ValueError as error:
        message = f"{error}; give addresses and networks such as 127.0.0.1,10.0.0.0/8"
        raise ValueError(message) from error


def parse_hosts(text: str) -> list[HostPattern]:
    """Read host patterns, separated by commas."""
    return [HostPattern.parse(piece.strip()) for piece in text.split(",")]


def true_address(address: Address) -> Address:
    """Return the IPv4 address to which an IPv6 address leads, else the address without its zone."""
    if isinstance(address, IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour
    if inner is not None:
        return inner
    plain = IPv6Address(int(address))
    if plain not in _NOBODY and any(plain in carrier for carrier in _CARRIERS):
        return IPv4Address(int(plain) & 0xFFFFFFFF)
    return plain


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return isinstance(address, IPv4Address) or not address.is_site_local


def _ascii(host: str) -> str:
    try:
        return host.encode("ascii").decode()
    except UnicodeEncodeError:
        return host.encode("idna").decode()  # UnicodeError is a ValueError
