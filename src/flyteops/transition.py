"""The decisions of the evaluator about actions and steps, which the store carries out.

Values only.
"""

from datetime import datetime

import msgspec

from flyteops.model import Evaluation, Event


class LateResult(msgspec.Struct, frozen=True):
    """A decision on a result: keep it with the attempt of this number, which was lost.

    Do not apply it.
    """

    number: int


class RetryAction(msgspec.Struct, frozen=True):
    """A decision on a lost action: hand it out again, not before `at`."""

    at: datetime


class NeedsOperator(msgspec.Struct, frozen=True):
    """A decision on a lost action: its outcome is unknown, and an operator must decide."""


class FailAction(msgspec.Struct, frozen=True):
    """A decision on a lost action: it has failed.

    The event is its result, and the outcome is all that follows from it.
    """

    event: Event
    outcome: Evaluation


class ScheduleEntry(msgspec.Struct, frozen=True):
    """A step that runs by itself.

    `rule` is the text of everything that determines its due times; while it stays the same,
    `next_at` is not recomputed.
    """

    step_index: int
    step_id: str
    rule: str
    next_at: datetime | None


class DueSchedule(msgspec.Struct, frozen=True):
    """A due step, of the version of its flow that is current in the store."""

    flow_name: str
    flow_uuid: str
    step_index: int
    rule: str
    due_at: datetime


class ScheduledRun(msgspec.Struct, frozen=True):
    """A decision on a due step.

    The event to record (None: skip this one), and the next due time (None: never).
    """

    event: Event | None
    outcome: Evaluation
    next_at: datetime | None
