"""Which results mean that a command has failed, although its state is SUCCESS."""

from collections.abc import Iterable
from typing import Any

import msgspec

from flyteops.cli.api import fetch, path
from flyteops.errors import NotFoundError
from flyteops.model import FATAL
from flyteops.sdk.client import Client
from flyteops.web.audit import EventView, ExecutionView
from flyteops.web.wire import PackView

KNOWN = frozenset(
    """AddEventsFailure AssignFailure BroadcastFailed CommentFailure CreateIncIssueFailure CreateIssueFailure
    FailedToAddComment FailedToAddLabel FailedToDeleteLabel FailedToEnablePlan FailedToStartStage FailedToTriggerPlan
    GetChannelInfoFail GetLifeCycleFailed GetTransitionsFailure GroupsRetrievalError InfoFailure JoinRoomFailed
    LeaveRoomFailed LinkFailure SearchFailure SendEmailFailed SendEventFailed SendMessageFailed SendNotificationFailed
    SendRichMessageFailed TransitionFailure createRepoFailure
    """.split()  # noqa: SIM905 - a list takes a line for each
)
"""Results of the original's packs, which do not declare them as failures."""

MOST_PACKS = 50
"""How many different packs are asked for their declarations."""

FIRST_FAILURE = 400


class Failures:
    """The results that packs declare as failures, by the id of the pack and the name of the event."""

    def __init__(self, declared: Iterable[tuple[str, str]] = ()) -> None:
        self._declared = frozenset(declared)

    @classmethod
    async def load(cls, client: Client, executions: Iterable[ExecutionView]) -> "Failures":
        """Ask for the declarations of the packs that sent the results of these executions."""
        actions = [action for execution in executions for action in execution.actions.values()]
        packs = dict.fromkeys(action.ended_by.pack.id for action in actions if action.ended_by is not None)
        declared: list[tuple[str, str]] = []
        for pack_id in list(packs)[:MOST_PACKS]:
            try:
                view = await fetch(client, path("packs", pack_id), PackView)
            except NotFoundError:
                continue
            declared += [(pack_id, event.name) for event in view.events if event.failure]
        return cls(declared)

    def has(self, result: EventView) -> bool:
        """Tell whether a result means failure: by its name, its pack's declaration, or the payload of our packs."""
        name = result.event
        return name == FATAL or name in KNOWN or (result.pack.id, name) in self._declared or _is_bad(result)


def _is_bad(result: EventView) -> bool:
    payload = _fields(result)
    if result.event == "Output" and payload.keys() == {"stdout", "stderr", "exit_code"}:
        return bool(payload["exit_code"] != 0)
    if result.event == "Response" and {"status", "bodyType", "elapsed"} <= payload.keys():
        status = payload["status"]
        return isinstance(status, int) and status >= FIRST_FAILURE
    return False


def _fields(result: EventView) -> dict[str, Any]:
    if result.event not in {"Output", "Response"} or isinstance(result.payload, msgspec.UnsetType):
        return {}
    payload = msgspec.json.decode(result.payload)
    return payload if isinstance(payload, dict) else {}
