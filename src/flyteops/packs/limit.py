"""The size of results: what packs keep of an output or an answer follows the largest body that the server accepts."""

import msgspec

from flyteops.sdk import Pack
from flyteops.sdk.event import Event

USUAL = 1024 * 1024
"""How many bytes are kept if the server does not say how much it accepts."""

MOST = 64 * 1024 * 1024
"""How many bytes are kept at most, as they are in memory, unless a setting says otherwise."""

AROUND = 512
"""How many bytes a result needs besides its payload, with notes about what was cut."""


def usual_length(pack: Pack) -> int:
    """Return how many bytes of an output or answer are kept unless a setting says otherwise.

    That is half of what the server accepts, so that a step can hand the text on, and its action fit into one document of MongoDB.
    """
    accepted = pack.body_limit()
    return USUAL if accepted is None else max(min(accepted // 2, MOST) - AROUND, 0)


def longest_payload(pack: Pack) -> int | None:
    """Return how long the payload of a result may be as JSON; None if the server does not say."""
    accepted = pack.body_limit()
    return None if accepted is None else max(accepted - AROUND, 0)


def excess(pack: Pack, event: Event) -> str:
    """Return why an event is too large for the server; nothing if it is not."""
    longest = longest_payload(pack)
    length = 0 if longest is None else len(msgspec.json.encode(event.payload))
    return "" if longest is None or length <= longest else f"it takes {length} bytes as JSON, and the server accepts {longest}"
