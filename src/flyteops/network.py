"""Packs that are admitted by their address, in the format of a setting.

For example, ``Shell@10.1.0.0/16, Ticker[env=dev]@fd00::/8``.
"""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import unquote

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

ANY_LABELS = "*"

_MAPPED = IPv6Network("::ffff:0:0/96")
"""IPv4 addresses as reported by a socket for both versions of IP."""

_SEPARATOR = re.compile(r"[,\s]+(?![^\[\]]*\])")
_ENTRY = re.compile(r"(?P<name>[^@\[\]]+)(?:\[(?P<labels>[^\[\]]*)\])?@(?P<network>[^@\[\]]+)")


class PackNetwork(NamedTuple):
    """A pack, and the addresses from which it needs no token.

    `labels` are exactly the pack's labels, None for any.
    """

    name: str
    labels: Mapping[str, str] | None
    network: Network

    def __str__(self) -> str:
        labels = (
            ANY_LABELS
            if self.labels is None
            else ",".join(f"{key}={value}" for key, value in self.labels.items())
        )
        return f"{self.name}{f'[{labels}]' if labels else ''}@{self.network}"

    def is_for(self, name: str, labels: Mapping[str, str]) -> bool:
        """Return whether this applies to a pack of that name with those labels."""
        return name == self.name and (self.labels is None or labels == self.labels)


def address_of(text: str) -> Address | None:
    """Return the address of a peer, an IPv4-mapped IPv6 address as IPv4.

    None if it is not an address.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def parse_pack_networks(value: str) -> tuple[PackNetwork, ...]:
    """Read packs with their networks, separated by commas or white space."""
    return tuple(_entry(text) for text in _SEPARATOR.split(value) if text)


def _entry(text: str) -> PackNetwork:
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise ValueError(
            f"holds {text!r}; give NAME@NETWORK or NAME[LABEL=VALUE,...]@NETWORK, such as"
            " Shell@10.1.0.0/16"
        )
    name = unquote(found["name"])
    if name == "*":
        raise ValueError(f"holds {text!r}, which is every pack; name each pack")
    return PackNetwork(name, _labels(text, found["labels"] or ""), _network(text, found["network"]))


def _labels(text: str, labels: str) -> dict[str, str] | None:
    if labels.strip() == ANY_LABELS:
        return None
    pairs = [pair.partition("=") for pair in labels.split(",") if pair.strip()]
    for key, equals, _ in pairs:
        if not equals or not key.strip():
            raise ValueError(f"holds {text!r}, whose labels are not LABEL=VALUE,... or *")
    return {unquote(key.strip()): unquote(label.strip()) for key, _, label in pairs}


def _network(text: str, network: str) -> Network:
    try:
        found = ip_network(network, strict=False)
    except ValueError as error:
        raise ValueError(
            f"holds {text!r}, whose part behind @ is not an address or a network such as"
            " 10.1.0.0/16"
        ) from error
    host = ip_address(network.partition("/")[0])
    if found.network_address != host:
        raise ValueError(
            f"holds {text!r}, but {host} is inside a network; did you mean {found} or {host}?"
        )
    if isinstance(found, IPv6Network) and found.subnet_of(_MAPPED):
        return IPv4Network((found.network_address.packed[12:], found.prefixlen - 96))
    if isinstance(found, IPv6Network) and found.network_address.scope_id is not None:
        raise ValueError(f"holds {text!r}; leave out %{found.network_address.scope_id}")
    return found
