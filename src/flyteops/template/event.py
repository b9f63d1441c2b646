"""The event as templates see it."""

from collections.abc import Mapping
from datetime import datetime

from flyteops.errors import TemplateRenderError
from flyteops.template.gotime import Time
from flyteops.template.value import Function, LabelsValue, Struct, element


def event_value(  # noqa: PLR0913 - an event has these parts; all are named
    *,
    name: str,
    payload: object,
    pack_id: str,
    pack_name: str,
    pack_labels: Mapping[str, str],
    created_at: datetime | Time,
    received_at: datetime | Time,
) -> Struct:
    """Return the `Event` of a context, made once per event and used in any number of renderings.

    The payload is used without a copy and must not change afterwards; its numbers become floats
    where they are read.
    """
    received = _time(received_at)
    pack = Struct(
        "execution.Pack", {"Id": pack_id, "Name": pack_name, "Labels": LabelsValue(pack_labels)}
    )
    fields = {
        "Name": name,
        "Pack": pack,
        "Payload": _payload(payload),
        "CreatedAt": received if created_at is received_at else _time(created_at),
        "ReceivedAt": received,
    }
    return Struct("execution.Event", fields)


def _payload(payload: object) -> object:
    """Return a payload; an invalid value fails where a template reads it, not in every step."""
    try:
        return element(payload)
    except TemplateRenderError:
        return Function("Payload", (), lambda _state, _arguments: element(payload))


def _time(at: datetime | Time) -> Time:
    return at if isinstance(at, Time) else Time(at)
