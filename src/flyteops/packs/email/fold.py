"""Folding of headers: between addresses and between ids, never inside one, and neither is encoded.

The standard library encodes an id or a separator that does not fit on a line, so that mail programs
find no thread, or one address where there were two.
"""

import re
from collections.abc import Iterable
from email import policy
from email.header import Header
from email.headerregistry import Address
from typing import Any

MAX_ID_LENGTH = 900
"""Maximum number of characters that an id may have: a line of a mail has at most 998, with the name
of the header."""

_WIDTH = 78
_MAX_WORD_LENGTH = 60
_IDS = frozenset(["message-id", "in-reply-to", "references"])
_ADDRESSES = frozenset(["from", "to", "cc", "reply-to"])
_ID_PART = re.compile(r"<[^<>]*>|\([^()]*\)|\S+")


class MailPolicy(policy.EmailPolicy):
    """Writes messages that every server can carry."""

    def header_store_parse(self, name: str, value: object) -> tuple[str, Any]:
        """Keep ids as they are, even if a part of them looks encoded."""
        return (name, value) if name.lower() in _IDS else super().header_store_parse(name, value)

    def fold_binary(self, name: str, value: Any) -> bytes:  # noqa: ANN401 - the base class's
        """Return a header as lines."""
        if name.lower() in _IDS:
            return self._lines(name, id_parts(str(value)))
        if name.lower() in _ADDRESSES:
            return self._lines(name, _address_parts(value.addresses))
        if name != "Subject" or value.isascii():
            return super().fold_binary(name, value)
        # Python before 3.13 loses blanks where it breaks a non-ASCII line.
        folded = Header(str(value), "utf-8", header_name=name).encode(linesep=self.linesep)
        return f"{name}: {folded}{self.linesep}".encode()

    def _lines(self, name: str, parts: Iterable[str]) -> bytes:
        """Join parts with blanks.

        Break a line before a part that does not fit, except before the first.
        """
        lines, line = [], f"{name}:"
        for part in parts:
            if len(line) + 1 + len(part) > _WIDTH and not line.endswith(":"):
                lines.append(line)
                line = ""
            line += f" {part}"
        return "".join(f"{each}{self.linesep}" for each in [*lines, line]).encode()


def id_parts(text: str) -> list[str]:
    """Return the ids of a text and the texts between them, such as comments."""
    return _ID_PART.findall(text)


def _address_parts(addresses: Iterable[Address]) -> list[str]:
    parts: list[str] = []
    for address in addresses:
        if parts:
            parts[-1] += ","
        parts += _written(address)
    return parts


def _written(address: Address) -> list[str]:
    name = address.display_name
    if not name:
        return [address.addr_spec]
    words = name.split(" ")
    if (
        name.isascii()
        and "=?" not in name
        and all(0 < len(word) <= _MAX_WORD_LENGTH for word in words)
    ):
        quoted = str(Address(name, "x", "x")).rpartition(" ")[0]
        return [*quoted.split(" "), f"<{address.addr_spec}>"]
    return [*Header(name, "utf-8").encode().split(), f"<{address.addr_spec}>"]
