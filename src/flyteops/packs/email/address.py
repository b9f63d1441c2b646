"""Addresses as people write them, such as `Ann Bee <ann@example.com>`."""

import re
from collections.abc import Iterable
from email import policy
from email.errors import InvalidHeaderDefect, MessageError
from email.headerregistry import Address
from typing import Any


def parse_addresses(texts: Iterable[str]) -> list[Address]:
    """Read addresses, each text one or several separated by commas.

    Raise `ValueError` for an invalid one. Blank texts do not count. Domains are returned in ASCII.
    """
    return [address for text in texts if text.strip() for address in _parse(text.strip())]


def _parse(text: str) -> list[Address]:
    message = f"{text!r} is not an address such as ann@example.com"
    if not text.isprintable():
        raise ValueError(message)
    try:
        header: Any = policy.default.header_factory("To", text)
        found = [_ascii_domain(address) for address in header.addresses]
    except (MessageError, ValueError, IndexError, RecursionError) as error:
        raise ValueError(message) from error
    wrong = any(isinstance(each, InvalidHeaderDefect) for each in header.defects)
    if (
        wrong
        or not found
        or any(not address.username or not _is_domain(address.domain) for address in found)
    ):
        raise ValueError(message)
    return found


def _ascii_domain(address: Address) -> Address:
    if address.domain.isascii():
        return address
    return Address(address.display_name, address.username, address.domain.encode("idna").decode())


def _is_domain(text: str) -> bool:
    return (
        re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f.:IPv]+\]", text) is not None
    )
