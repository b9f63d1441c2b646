"""The audit: past events, executions, actions and changes, without the values of secrets."""

from collections.abc import Sequence

from msgspec.structs import replace

from flyteops.model import EventRecord, Execution
from flyteops.service import redaction
from flyteops.service.auditlog.entry import AuditEntry
from flyteops.service.auditlog.log import AuditFilter, AuditLog
from flyteops.service.basis import BasisRegistry
from flyteops.service.recomputation import Recomputation
from flyteops.service.vault import Vault
from flyteops.storage.base import Store
from flyteops.storage.query import ActionFilter, ActionStatus, EventFilter, ExecutionFilter, Page


class Audit:
    """Queries of the history. Lists come in pages: `limit` records from the record `start` on."""

    def __init__(
        self,
        store: Store,
        log: AuditLog,
        vault: Vault,
        bases: BasisRegistry,
        recomputation: Recomputation,
    ) -> None:
        self._store = store
        self._bases = bases
        self._recomputation = recomputation
        self._log = log
        self._vault = vault

    async def list_changes(
        self, which: AuditFilter, start: int = 0, limit: int = 50
    ) -> Page[AuditEntry]:
        """Return entries of the audit log, newest first."""
        return redaction.mask_entries(self._vault, await self._log.find(which, start, limit))

    async def get_change(self, seq: int) -> AuditEntry:
        """Return an entry of the audit log; raise `NotFoundError`."""
        return redaction.mask_entry(self._vault, await self._log.get(seq))

    async def list_executions(
        self, which: ExecutionFilter, start: int = 0, limit: int = 50
    ) -> Page[Execution]:
        """Return executions in which one action matches the whole filter, latest activity first."""
        return redaction.mask_executions(
            self._vault, await self._store.list_executions(which, start, limit)
        )

    async def get_execution(self, correlation_id: str) -> Execution:
        """Return an execution with all its actions; raise `NotFoundError`."""
        return redaction.mask_execution(
            self._vault, await self._store.get_execution(correlation_id)
        )

    async def list_events(
        self, which: EventFilter, start: int = 0, limit: int = 50
    ) -> Page[EventRecord]:
        """Return events with the decisions on each step, newest first."""
        if which.flow_name is not None:
            which = replace(which, bases=await self._bases.with_flow(which.flow_name))
        found = await self._store.list_events(which, start, limit)
        whole = await self._recomputation.complete_page(found, which.flow_name)
        return redaction.mask_event_records(self._vault, whole)

    async def get_event(self, event_id: str) -> EventRecord:
        """Return an event with the decisions on each step; raise `NotFoundError`."""
        found = await self._store.get_event(event_id)
        return redaction.mask_event_record(self._vault, await self._recomputation.complete(found))

    async def list_actions(
        self, which: ActionFilter, start: int = 0, limit: int = 50
    ) -> Sequence[ActionStatus]:
        """Return actions, oldest first."""
        return await self._store.list_actions(which, start, limit)
