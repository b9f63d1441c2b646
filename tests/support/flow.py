"""Builders of flows and events: what a test does not say is ordinary."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from flyteops.document import Document
from flyteops.flow.file import read_flow
from flyteops.model import Event, Flow, PackRef, pack_id

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

Step = dict[str, Any]


def a_step(
    step_id: str = "work",
    event: str = "Said",
    pack: str = "Source",
    *,
    terms: Mapping[str, Any] | None = None,
    **more: Any,
) -> Step:
    """Return a step in which an event of a pack makes Worker do something; `terms` are of the
    command, `more` of the step.
    """
    command = {"name": "Do", "packName": "Worker", **(terms or {})}
    return {"id": step_id, "event": {"name": event, "packName": pack}, "command": command, **more}


def a_flow(*steps: Step, name: str = "flow") -> Flow:
    """Return a flow with these steps."""
    return read_flow(Document({"name": name, "steps": list(steps)}))


def an_event(
    name: str = "Said",
    payload: Any = None,
    pack: str = "Chat",
    labels: Mapping[str, str] | None = None,
) -> Event:
    """Return an event that came in at noon."""
    given = dict(labels or {})
    sender = PackRef(pack_id(pack, given), pack, given)
    return Event(
        event_id="e1",
        name=name,
        pack=sender,
        payload=msgspec.json.encode(payload),
        received_at=NOON,
    )
