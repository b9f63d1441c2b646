# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of transfers of all data into another store, and back.

The other store is always one in a file, which this suite tests as well.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

from flyteops.errors import ConflictError, StoreError
from flyteops.model import FATAL, ActionSnapshot, ActionState, Basis, DataItem, Evaluation, Note
from flyteops.storage.base import Store
from flyteops.storage.dump import load_all, move
from flyteops.storage.query import PAGE_BYTES, ActionFilter, EventFilter
from flyteops.storage.record import Checkpoint, Stored, StoredAction, Tally, encode_record, kind_of
from flyteops.storage.sqlite import SqliteStore
from flyteops.testing.case import ANY_EVENT, ANYTHING, StoreCase, before, raises, start, take
from flyteops.testing.sample import NOON, NOTHING, SENDER, WORKER, Sample, always, decision, minutes
from flyteops.testing.timer import LIMIT, SEED, Ruling, accept
from flyteops.transition import LateResult, NeedsOperator, RetryAction, ScheduledRun, ScheduleEntry


class Everything:
    """A store's content, with an action of each kind.

    `leases` are those of the action that was handed out twice.
    """

    def __init__(self) -> None:
        self.sample = sample = Sample()
        more: dict[str, Any] = {
            "context": {"b": "ü", "a": ""},
            "pack_labels": {"zone": "eu", "env": "prod"},
        }
        self.done, self.failed, self.free = (sample.action(**more) for _ in range(3))
        self.leased, self.asked, self.again = (sample.action(timeout=LIMIT) for _ in range(3))
        self.joined = sample.action(
            step_id="second", step_index=1, correlation_id=self.done.correlation_id
        )
        self.new = sample.action()
        self.later = sample.action(not_before=minutes(90))
        self.keyed = sample.event("Keyed", at=minutes(20))
        self.old, self.current, self.gone = (
            sample.flow(description="old"),
            sample.flow(),
            sample.flow("Gone"),
        )
        self.leases: list[str] = []

    async def store(self, store: Store) -> None:
        """Create the content as servers do."""
        await self._catalog(store)
        sample = self.sample
        offset = timezone(timedelta(hours=5, minutes=30))
        triggered = sample.event(
            created_at=NOON.astimezone(offset), payload=b'{\n "n": 12345678901234567890.10}'
        )
        await start(store, self.done, self.failed, self.free, event=triggered)
        await store.claim(WORKER, minutes(1), limit=3)
        following = Evaluation(
            actions=(self.joined,), decisions=(decision("Check"), decision("Deploy"))
        )
        await store.finish(
            self.done.action_id,
            sample.event("Done", minutes(2), pack=WORKER, failure=True),
            always(following),
        )
        await store.finish(
            self.failed.action_id,
            sample.event(FATAL, minutes(3), pack=WORKER, failure=False),
            always(NOTHING),
        )
        await self._leases(store)
        await start(store, self.new, self.later, event=sample.event(at=minutes(20), pack=SENDER))
        await store.record(
            sample.event(at=minutes(20)), Evaluation((decision(values={"b": "1", "a": "2"}),))
        )
        await store.record(
            sample.event(at=minutes(20)), Evaluation((decision(),), (), Basis(3, b"seed", begun=1))
        )
        await store.record(self.keyed, NOTHING, key="k")

    async def _catalog(self, store: Store) -> None:
        await store.save_pack(self.sample.pack("Worker", at=minutes(1), env="prod"))
        await store.save_pack(self.sample.pack("Watcher"))
        await store.save_flow(self.old)
        await store.save_flow(
            self.current,
            [ScheduleEntry(0, "a", "* * * * *", minutes(30)), ScheduleEntry(1, "b", "never", None)],
        )
        await store.save_flow(self.gone)
        await store.delete_flow("Gone")
        await store.save_item(DataItem("bytes", "application/x", bytes(range(256)), "all of them"))
        await store.save_item(DataItem("text", "text/plain", b""))
        await store.save_note(Note("token", "b", bytes(range(256))))
        await store.save_note(Note("hook", "ü", b""))

    async def _leases(self, store: Store) -> None:
        await start(
            store, self.leased, self.asked, self.again, event=self.sample.event(at=minutes(4))
        )
        _, first = await store.claim(WORKER, minutes(5), limit=2, seed=SEED)
        await store.process_due(minutes(10), Ruling(RetryAction(minutes(10))))
        await store.process_due(minutes(10), Ruling())
        await store.finish(
            self.leased.action_id,
            self.sample.event("Late", minutes(11), failure=True),
            lambda _: LateResult(1),
        )
        second, _ = await store.claim(WORKER, minutes(12), limit=2, seed=SEED)
        self.leases = [str(first.lease), str(second.lease)]
        await store.extend(self.leased.action_id, minutes(16), accept)
        await store.process_due(minutes(17), Ruling(NeedsOperator()))
        await store.claim(WORKER, minutes(18), seed=SEED)
        await store.release(self.again.action_id, minutes(19), accept, counts=True)


async def observe(store: Store) -> list[object]:
    """Return all query results of an open store."""
    sight: list[object] = [
        list(await store.list_packs()),
        list(await store.list_flows()),
        dict(await store.list_current()),
    ]
    sight += [
        list(await store.list_items()),
        list(await store.list_actions(ActionFilter(), 0, 100)),
    ]
    sight += [list(await store.list_notes(kind)) for kind in ("hook", "token")]
    sight += [
        list(await store.list_executions(ANYTHING, 0, 100)),
        list(await store.list_events(ANY_EVENT, 0, 100)),
    ]
    sight += [
        list(await store.list_events(EventFilter(flow_name=name), 0, 100))
        for name in ("Check", "Deploy")
    ]
    return sight


async def records_of(store: Store) -> list[Stored]:
    """Return all records that a store exports."""
    return [record async for part in store.export() for record in part]


async def in_parts(
    records: Sequence[Stored], size: int = 3
) -> AsyncGenerator[Sequence[Stored], None]:
    """Yield the records a few at a time."""
    for start_at in range(0, len(records), size):
        yield records[start_at : start_at + size]


def quiet(_doing: str, _tally: Tally) -> None:
    """Ignore progress reports."""


@contextlib.asynccontextmanager
async def file_store() -> AsyncIterator[Store]:
    """Yield an open store in a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteStore(Path(folder) / "flyte.db") as store:
            yield store


class TransferContract(StoreCase):
    """Transfers of all data into another store, and back."""

    async def test_everything_arrives_in_this_store_as_it_was_and_goes_on(self) -> None:
        everything = Everything()
        async with file_store() as other, self.connect() as store:
            await everything.store(other)
            await move(other, store, quiet)
            assert await observe(store) == await observe(other)
            assert await records_of(store) == await records_of(other)
            await self._goes_on(store, everything)

    async def test_everything_arrives_from_this_store_as_it_was_and_goes_on(self) -> None:
        everything = Everything()
        async with self.connect() as store, file_store() as other:
            await everything.store(store)
            await move(store, other, quiet)
            assert await observe(other) == await observe(store)
            assert await records_of(other) == await records_of(store)
            await self._goes_on(other, everything)

    async def _goes_on(self, store: Store, everything: Everything) -> None:
        """Continue the work in progress as if nothing had happened."""
        sample = everything.sample
        seen: list[ActionSnapshot] = []

        def decide(snapshot: ActionSnapshot) -> Evaluation:
            seen.append(snapshot)
            return NOTHING

        for version in (everything.old, everything.current, everything.gone):
            assert await store.get_flow_version(version.uuid) == version
        again = sample.event("Keyed", at=minutes(21))
        assert await store.record(again, NOTHING, key="k") == everything.keyed.event_id
        waiting = [
            each.action_id
            for each in await store.claim(WORKER, minutes(22), limit=10, seed=b"other")
        ]
        assert waiting == [everything.again.action_id, everything.new.action_id]
        leased = everything.leased.action_id
        assert await store.finish(leased, sample.event("Done", minutes(23)), decide)
        assert [lease.token for lease in seen[-1].leases] == everything.leases
        assert [lease.is_lost for lease in seen[-1].leases] == [True, False]
        assert await store.finish(
            everything.asked.action_id, sample.event("Done", minutes(23)), always(NOTHING)
        )
        assert await store.finish(
            everything.joined.action_id, sample.event("Done", minutes(23)), decide
        )
        assert [sibling.state for sibling in seen[-1].siblings] == [
            ActionState.SUCCESS,
            ActionState.PENDING,
        ]
        assert (await store.process_due(minutes(24), Ruling())).next_at == minutes(27)
        assert (await store.process_due(minutes(27), Ruling(NeedsOperator()))).next_at == minutes(
            30
        )
        rules = Ruling(firings=[ScheduledRun(None, NOTHING, None)])
        assert (await store.process_due(minutes(90), rules)).arrived == (
            everything.later.routing_key,
        )
        assert [step.rule for step in rules.steps] == ["* * * * *"]
        assert await take(store, minutes(91)) == everything.later.action_id
        while (await store.purge(before(minutes(1000)))).more:
            pass
        assert not await store.list_events(ANY_EVENT, 0, 1)

    async def test_what_was_loaded_in_part_is_gone_on_with(self) -> None:
        async with file_store() as other:
            await Everything().store(other)
            records = await records_of(other)
            sight = await observe(other)
        half = Tally()
        for record in records[:20]:
            half.add(kind_of(record), encode_record(record))
        async with self.connect() as store:
            assert not (await store.read_change_counters()).is_loading
            assert await store.begin_load() == Checkpoint()
            await store.load(records[:20], half.checkpoint)
            await store.load(records[:20], half.checkpoint)  # as when the response was lost
        async with self.connect() as store:
            assert (await store.read_change_counters()).is_loading
            with raises(StoreError):
                await records_of(store)
            tally = await load_all(in_parts(records), store, quiet)
            assert sum(tally.counts.values()) == len(records)
            assert not (await store.read_change_counters()).is_loading
            assert await observe(store) == sight
            assert await records_of(store) == records

    async def test_what_was_begun_with_something_else_is_not_gone_on_with(self) -> None:
        async with file_store() as other, self.connect() as store:
            await Everything().store(other)
            records = await records_of(other)
            tally = Tally()
            tally.add("pack", encode_record(records[1]))
            await store.begin_load()
            await store.load(records[1:2], tally.checkpoint)
            for rest in (records, []):
                with raises(ConflictError):
                    await load_all(in_parts(rest), store, quiet)
            assert (await store.read_change_counters()).is_loading

    async def test_a_store_that_holds_something_is_not_loaded(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            with raises(ConflictError):
                await store.load([], Checkpoint(1))
            await store.record(sample.event(), NOTHING)
            with raises(ConflictError):
                await store.begin_load()
            assert not (await store.read_change_counters()).is_loading

    async def test_an_export_is_of_one_moment_while_others_go_on(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await store.save_pack(sample.pack())
            await asyncio.gather(*(start(store, sample.action()) for _ in range(600)))
            parts = self.connect().export()
            found = list(await anext(parts))
            await start(store, sample.action())
            await take(store)
            async for part in parts:
                found += part
            assert len(found) == 1201
            assert {
                record.states[-1].state for record in found if isinstance(record, StoredAction)
            } == {ActionState.NEW}
            assert len(await records_of(store)) == 1203

    async def test_no_part_of_an_export_is_longer_than_a_page(self) -> None:
        size = PAGE_BYTES // 3
        async with self.connect() as store:
            for number in range(4):
                await store.save_item(DataItem(f"item-{number}", "text/plain", b"x" * size))
            parts = [part async for part in store.export()]
            assert sum(map(len, parts)) == 4
            assert max(map(len, parts)) == 3

    async def test_a_store_without_anything_exports_nothing(self) -> None:
        async with self.connect() as store:
            assert await records_of(store) == []
        assert await records_of(self.connect()) == []
