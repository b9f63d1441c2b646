"""What the evaluator rules on things that happen to actions and steps, and the store carries out. Values only."""

from datetime import datetime

import msgspec

from flyteops.model import Event, Outcome


class Late(msgspec.Struct, frozen=True):
    """A ruling on a result: keep it with the attempt of this number, which was lost, and apply nothing of it."""

    number: int


class Repeat(msgspec.Struct, frozen=True):
    """A ruling on a lost action: hand it out again, not before `at`."""

    at: datetime


class Ask(msgspec.Struct, frozen=True):
    """A ruling on a lost action: nobody knows what became of it; a person must say."""


class Fail(msgspec.Struct, frozen=True):
    """A ruling on a lost action: it has failed, with this event as its result and all that follows from it."""

    event: Event
    outcome: Outcome


class Timetable(msgspec.Struct, frozen=True):
    """A step that runs by itself. `rule` is everything that decides when (a text); while it stays, `next_at` is not set anew."""

    step_index: int
    step_id: str
    rule: str
    next_at: datetime | None


class DueStep(msgspec.Struct, frozen=True):
    """A step whose time has come, of the version of its flow that is current in the store."""

    flow_name: str
    flow_uuid: str
    step_index: int
    rule: str
    due_at: datetime


class Firing(msgspec.Struct, frozen=True):
    """A ruling on a due step: the event to record (None: this one is left out), and when the step is due next (None: never)."""

    event: Event | None
    outcome: Outcome
    next_at: datetime | None
