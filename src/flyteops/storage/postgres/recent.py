"""The actions that this server has created and handed out a moment ago.

A result that comes for one of them can be decided without a look at the database. It is written
only if the action is still with the same claim, and its execution still as it began: with this
action alone, and without a change. Otherwise the database is looked at.
"""

from collections import OrderedDict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar

import msgspec

from flyteops.model import ActionSnapshot, ActionState, Lease, NewAction, Sibling
from flyteops.storage.base import lease_token
from flyteops.storage.postgres.driver import Row
from flyteops.storage.row import to_instant

T = TypeVar("T")

KEPT = 5_000
"""The number of actions that are remembered, and of those handed out."""

NEW = 0
"""The version of an execution to which nothing has happened."""


class ActionRow(NamedTuple):
    """An action as it is in the database, and the version of its execution.

    With a `claim`, it is as it was handed out with that.
    """

    seq: int
    execution_seq: int
    state: str
    attempt: int
    timeout: int | None
    version: int
    progress: ActionSnapshot
    claim: str | None = None


class RecentActions:
    """New actions, each the only one of its execution, and those of them that are handed out."""

    def __init__(self) -> None:
        self._created: OrderedDict[str, NewAction] = OrderedDict()
        self._taken: OrderedDict[str, ActionRow] = OrderedDict()

    def create(self, actions: Iterable[NewAction]) -> None:
        """Remember the actions of an event that was stored."""
        made = list(actions)
        if len(made) == 1:
            _keep(self._created, made[0].action_id, msgspec.structs.replace(made[0], input=b""))

    def take(self, row: Row, claim: str, now: int, seed: bytes) -> None:
        """Remember an action that was handed out for the first time, if it is known."""
        action = self._created.pop(row["action_id"], None)
        if action is not None and row["version"] == NEW and row["attempt"] == 1:
            _keep(self._taken, action.action_id, _row_of(action, row, claim, now, seed))

    def pop(self, action_id: str) -> ActionRow | None:
        """Return an action as it was handed out, once."""
        return self._taken.pop(action_id, None)


def _keep(memory: "OrderedDict[str, T]", key: str, value: T) -> None:
    memory[key] = value
    if len(memory) > KEPT:
        memory.popitem(last=False)


def _row_of(action: NewAction, row: Row, claim: str, now: int, seed: bytes) -> ActionRow:
    timeout: Any = row["timeout"]
    token = lease_token(seed, action.action_id, 1)
    progress = ActionSnapshot(
        action_id=action.action_id,
        name=action.name,
        pack_name=action.pack_name,
        pack_labels=action.pack_labels,
        correlation_id=action.correlation_id,
        flow_name=action.flow_name,
        flow_uuid=action.flow_uuid,
        step_id=action.step_id,
        step_index=action.step_index,
        context=action.context,
        state=ActionState.PENDING,
        siblings=(Sibling(action.step_id, action.step_index, ActionState.PENDING),),
        result=None,
        attempt=1,
        leases=() if timeout is None else (Lease(1, token, False),),
        timeout=None if timeout is None else timedelta(microseconds=timeout),
        due_at=None if timeout is None else to_instant(now + timeout),
        revision=row["revision"],
    )
    return ActionRow(row["seq"], row["execution_seq"], "PENDING", 1, timeout, NEW, progress, claim)
