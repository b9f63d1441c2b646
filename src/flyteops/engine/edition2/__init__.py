"""The pure engine of edition 2: an execution is one document, and a change gives the next one.

`start` begins an execution and `advance` carries it on; both return an `Advance`, which a store
commits as one transaction.
"""

from flyteops.engine.edition2.advance import Beginning, advance, start, start_failed
from flyteops.engine.edition2.advancecontext import AdvanceContext
from flyteops.engine.edition2.change import (
    ActionResult,
    Cancelled,
    CommandExpired,
    CommandLost,
    DelayOver,
    EventArrived,
    ExecutionStopped,
    FlowTimeout,
    OpenAction,
    StepTimeout,
    TaskDone,
)
from flyteops.engine.edition2.document import (
    Caller,
    ExecutionDocument,
    Occurrence,
    StepRecord,
    decode_document,
    encode_document,
)
from flyteops.engine.edition2.outcome import Advance
from flyteops.engine.edition2.plan import Plan, compile_plan
from flyteops.engine.edition2.trigger import PassedTriggers, limit_keys, passing_triggers
from flyteops.engine.edition2.waiting import event_keys, key_bytes

__all__ = [
    "ActionResult",
    "Advance",
    "AdvanceContext",
    "Beginning",
    "Caller",
    "Cancelled",
    "CommandExpired",
    "CommandLost",
    "DelayOver",
    "EventArrived",
    "ExecutionDocument",
    "ExecutionStopped",
    "FlowTimeout",
    "Occurrence",
    "OpenAction",
    "PassedTriggers",
    "Plan",
    "StepRecord",
    "StepTimeout",
    "TaskDone",
    "advance",
    "compile_plan",
    "decode_document",
    "encode_document",
    "event_keys",
    "key_bytes",
    "limit_keys",
    "passing_triggers",
    "start",
    "start_failed",
]
