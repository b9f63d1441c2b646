"""The boundary around the e-mail parser of the standard library.

Damaged messages break that parser in many ways.
"""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
D = TypeVar("D")


def tolerate(read: Callable[[], T], default: D) -> T | D:
    """Read part of a message; return the default if the message is too damaged for that."""
    try:
        return read()
    except Exception:  # noqa: BLE001 - a sender chooses the bytes: no message may stop the mailbox
        return default
