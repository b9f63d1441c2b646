"""The public API for authors of packs."""

from flyteops.sdk.environment import Environment, Reader, seconds
from flyteops.sdk.event import Event, EventType, fatal
from flyteops.sdk.pack import Pack

__all__ = ["Environment", "Event", "EventType", "Pack", "Reader", "fatal", "seconds"]
