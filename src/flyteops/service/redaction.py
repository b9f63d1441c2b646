"""Masking: events and actions as shown to users, without secrets."""

from collections.abc import Iterable

from msgspec.structs import replace

from flyteops.model import Action, Attempt, Decision, Event, EventRecord, Execution
from flyteops.service.auditlog.entry import AuditEntry, ResourceState
from flyteops.service.vault import Vault
from flyteops.storage.query import Page


def mask_executions(vault: Vault, page: Page[Execution]) -> Page[Execution]:
    """Return a page of executions without secrets."""
    return Page([mask_execution(vault, each) for each in page], is_cut=page.is_cut)


def mask_execution(vault: Vault, whole: Execution) -> Execution:
    """Return an execution without secrets."""
    return replace(whole, actions=tuple([_action(vault, action) for action in whole.actions]))


def mask_event_records(vault: Vault, page: Page[EventRecord]) -> Page[EventRecord]:
    """Return a page of events without secrets."""
    return Page([mask_event_record(vault, each) for each in page], is_cut=page.is_cut)


def mask_event_record(vault: Vault, whole: EventRecord) -> EventRecord:
    """Return an event without secrets."""
    return replace(
        whole, event=_event(vault, whole.event), decisions=tuple(_decisions(vault, whole.decisions))
    )


def mask_entries(vault: Vault, page: Page[AuditEntry]) -> Page[AuditEntry]:
    """Return a page of entries without secrets."""
    return Page([mask_entry(vault, each) for each in page], is_cut=page.is_cut)


def mask_entry(vault: Vault, whole: AuditEntry) -> AuditEntry:
    """Return an entry without secrets.

    If there was one, the hash does not match the masked entry.
    """
    return replace(whole, before=_state(vault, whole.before), after=_state(vault, whole.after))


def _state(vault: Vault, state: ResourceState | None) -> ResourceState | None:
    if state is None or state.text is None:
        return state
    # The text may be JSON itself, where a secret is written in another way than in plain text.
    return replace(state, text=vault.mask_text(vault.mask(state.text.encode()).decode()))


def _action(vault: Vault, action: Action) -> Action:
    return replace(
        action,
        input=vault.mask(action.input),
        context={key: vault.mask_text(value) for key, value in action.context.items()},
        trigger=_event(vault, action.trigger),
        result=None if action.result is None else _event(vault, action.result),
        attempts=tuple([_attempt(vault, attempt) for attempt in action.attempts]),
    )


def _attempt(vault: Vault, attempt: Attempt) -> Attempt:
    late = attempt.late_result
    return attempt if late is None else replace(attempt, late_result=_event(vault, late))


def _event(vault: Vault, event: Event) -> Event:
    return replace(event, payload=vault.mask(event.payload))


def _decisions(vault: Vault, decisions: Iterable[Decision]) -> Iterable[Decision]:
    for decision in decisions:
        values = {path: vault.mask_text(value) for path, value in decision.values.items()}
        yield replace(decision, detail=vault.mask_text(decision.detail), values=values)
