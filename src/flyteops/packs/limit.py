"""The size of results: packs keep as much of an output as the server accepts in a body."""

import msgspec

from flyteops.sdk import Pack
from flyteops.sdk.event import Event

USUAL = 1024 * 1024
"""Bytes that are kept if the server does not report its limit."""

MOST = 64 * 1024 * 1024
"""Maximum number of bytes that are kept, as they are in memory, unless a setting has another
limit."""

AROUND = 512
"""Bytes of a result besides its payload, with notes about omissions."""


def default_length(pack: Pack) -> int:
    """Return the number of bytes of an output or answer that are kept by default.

    That is half of the largest body that the server accepts, so that a step can pass the text on,
    and its action fits into one document of MongoDB.
    """
    accepted = pack.body_limit()
    return USUAL if accepted is None else max(min(accepted // 2, MOST) - AROUND, 0)


def max_payload_bytes(pack: Pack) -> int | None:
    """Return the longest payload of a result as JSON, in bytes.

    None if the server reports no limit.
    """
    accepted = pack.body_limit()
    return None if accepted is None else max(accepted - AROUND, 0)


def check_payload_size(pack: Pack, event: Event) -> str:
    """Return the reason why an event is too large for the server; "" if it is not."""
    longest = max_payload_bytes(pack)
    length = 0 if longest is None else len(msgspec.json.encode(event.payload))
    return (
        ""
        if longest is None or length <= longest
        else f"it takes {length} bytes as JSON, and the server accepts {longest}"
    )
