"""Rules for results that mean failure of a command, also where the state of the action is SUCCESS.

Pure.
"""

from typing import Any

import msgspec

from flyteops.model import FATAL, Event, NewEvent, Pack

FAILURES_OF_THE_ORIGINAL = frozenset(
    """AddEventsFailure AssignFailure BroadcastFailed CommentFailure
    CreateIncIssueFailure CreateIssueFailure FailedToAddComment FailedToAddLabel
    FailedToDeleteLabel FailedToEnablePlan FailedToStartStage FailedToTriggerPlan
    GetChannelInfoFail GetLifeCycleFailed GetTransitionsFailure GroupsRetrievalError
    InfoFailure JoinRoomFailed LeaveRoomFailed LinkFailure SearchFailure SendEmailFailed
    SendEventFailed SendMessageFailed SendNotificationFailed SendRichMessageFailed
    TransitionFailure createRepoFailure""".split()  # noqa: SIM905 - a list takes a line for each
)
"""Results of the original's packs, which do not declare them as failures."""

FIRST_FAILURE = 400
"""The first HTTP status that means failure."""


def is_failure(result: NewEvent, sender: Pack) -> bool:
    """Return whether the command has failed.

    By the mark of the result, its name, or the declaration of its pack.
    """
    return (
        result.failure
        or _has_failed_by_name(result.name)
        or any(e.failure and e.name == result.name for e in sender.events)
    )


def has_failed(result: Event) -> bool:
    """Return whether the command of a stored result has failed.

    Results without a stored mark are judged by their content.
    """
    if result.failure is not msgspec.UNSET:
        return result.failure
    return _has_failed_by_name(result.name) or _has_failed_by_payload(result)


def _has_failed_by_name(name: str) -> bool:
    return name == FATAL or name in FAILURES_OF_THE_ORIGINAL


def _has_failed_by_payload(result: Event) -> bool:
    payload = _fields(result)
    if result.name == "Output" and payload.keys() == {"stdout", "stderr", "exit_code"}:
        return bool(payload["exit_code"] != 0)
    if result.name == "Response" and {"status", "bodyType", "elapsed"} <= payload.keys():
        status = payload["status"]
        return isinstance(status, int) and status >= FIRST_FAILURE
    return False


def _fields(result: Event) -> dict[str, Any]:
    """Return the fields of a payload of our packs Shell and Http.

    The payload is from before these packs marked failures.
    """
    if result.name not in {"Output", "Response"}:
        return {}
    try:
        payload = msgspec.json.decode(result.payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return payload if isinstance(payload, dict) else {}
