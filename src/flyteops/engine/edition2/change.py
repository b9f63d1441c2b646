"""The changes that an execution can undergo; each comes from one commit of a store."""

from datetime import datetime
from typing import Literal

import msgspec

from flyteops.engine.edition2.document import Occurrence
from flyteops.model import PackRef


class OpenAction(msgspec.Struct, frozen=True):
    """An open action, as its row has it when a change concerns it.

    `pack` is the one that it was for. `attempt` counts its hand-outs, `index` is that of its item
    or round. `input` is JSON text.
    """

    action_id: str
    step_id: str
    attempt: int
    pack: PackRef
    created_at: datetime
    input: bytes = b"null"
    index: int | None = None


class ActionResult(msgspec.Struct, frozen=True):
    """The result of an action, from a pack with the lease of one of its attempts.

    It `is_late` if the attempt was lost or the action is no longer open; then it is only kept.
    """

    action: OpenAction
    result: Occurrence
    is_late: bool = False


class CommandExpired(msgspec.Struct, frozen=True):
    """No pack has taken an action in time; it is still NEW."""

    action: OpenAction


class CommandLost(msgspec.Struct, frozen=True):
    """The pack of the last attempt of an action was silent for too long; it is still PENDING."""

    action: OpenAction


class EventArrived(msgspec.Struct, frozen=True):
    """An event has the key of a wait."""

    step_id: str
    event: Occurrence


class DelayOver(msgspec.Struct, frozen=True):
    """The delay of a gate is over."""

    step_id: str


class StepTimeout(msgspec.Struct, frozen=True):
    """The `timeout` of a step is over; that of a wait, too."""

    step_id: str
    is_wait: bool = False


class FlowTimeout(msgspec.Struct, frozen=True):
    """The `timeout` of the flow is over."""


class Cancelled(msgspec.Struct, frozen=True):
    """A person, a limit or an execution that no longer waits cancels the execution."""


class ExecutionStopped(msgspec.Struct, frozen=True):
    """The command `Return` or `Fail` ends the execution."""

    action: OpenAction
    state: Literal["SUCCEEDED", "FAILED"]


class TaskDone(msgspec.Struct, frozen=True):
    """A task of the execution was carried out that changes nothing else in it."""


Change = (
    ActionResult
    | CommandExpired
    | CommandLost
    | EventArrived
    | DelayOver
    | StepTimeout
    | FlowTimeout
    | Cancelled
    | ExecutionStopped
    | TaskDone
)
