# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of events whose decisions are to be computed from a basis."""

from datetime import timedelta

from flyteops.model import Basis, Evaluation, Event, EventRecord
from flyteops.storage.base import Store
from flyteops.storage.query import EventFilter, PurgedVersions, Retention, VersionBound
from flyteops.storage.row import BASIS_KEY, basis_key
from flyteops.testing.case import StoreCase, event_ids, ids, start
from flyteops.testing.sample import Sample, decision, minutes


async def _record(store: Store, event: Event, number: int | None, *flows: str) -> Event:
    """Store an event with decisions about flows, and with a basis if it has a number."""
    basis = None if number is None else Basis(number, b"seed")
    await store.record(event, Evaluation(tuple(decision(flow) for flow in flows), (), basis))
    return event


class BasisContract(StoreCase):
    """Events with a basis."""

    async def test_a_basis_comes_back_as_it_was_stored(self) -> None:
        sample = Sample()
        basis = Basis(12, bytes(range(16)), begun=1, nanosecond=789, body_length=5)
        action = sample.action()
        decisions = (decision("A", outcome="failed", reason="error"), decision("B"))
        event = sample.event()
        async with self.connect() as store:
            await store.record(event, Evaluation(decisions, (action,), basis))
            record = await store.get_event(event.event_id)
            assert (record.basis, record.decisions) == (basis, decisions)
            assert list(await store.list_events(EventFilter(), 0, 10)) == [record]

    async def test_an_event_with_nothing_but_a_basis_comes_back(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            event = await _record(store, sample.event(), 7)
            record = await store.get_event(event.event_id)
            assert record == EventRecord(event, (), None, Basis(7, b"seed"))

    async def test_events_of_a_flow_are_those_with_its_decisions_or_its_bases(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            recorded = [
                await _record(store, sample.event(), number, *flows)
                for number, *flows in (
                    (None, "A"),
                    (1, "B"),
                    (2,),
                    (3, "A"),
                    (1, "A"),
                    (None, "B"),
                    (2, "C", "A"),
                )
            ]
            found = await store.list_events(EventFilter("A", bases=(1, 2)), 0, 10)
            wanted = [recorded[place].event_id for place in (6, 4, 3, 2, 1, 0)]
            assert event_ids(found) == wanted
            for start_at in range(7):
                page = await store.list_events(EventFilter("A", bases=(1, 2)), start_at, 2)
                assert event_ids(page) == wanted[start_at : start_at + 2]
            assert event_ids(await store.list_events(EventFilter("Z", bases=(3,)), 0, 9)) == [
                recorded[3].event_id
            ]
            assert not await store.list_events(EventFilter("Z", bases=(30,)), 0, 9)
            many = EventFilter("A", bases=tuple(range(1, 350)))
            assert event_ids(await store.list_events(many, 1, 3)) == [
                recorded[place].event_id for place in (4, 3, 2)
            ]

    async def test_a_flow_with_the_name_of_a_key_is_not_taken_for_a_basis(self) -> None:
        sample = Sample()
        names = [basis_key(1), f"{BASIS_KEY}{basis_key(1)}"]
        async with self.connect() as store:
            one, other, of_basis = [
                await _record(store, sample.event(at=minutes(at)), number, *flows)
                for at, number, *flows in ((0, None, names[0]), (0, None, names[1]), (30, 1, "A"))
            ]
            for name, event in zip(names, (one, other), strict=True):
                (found,) = await store.list_events(EventFilter(name), 0, 10)
                assert found.event.event_id == event.event_id
            await store.purge(Retention(minutes(10), minutes(10), minutes(10)))
            assert not await store.list_events(EventFilter(names[0]), 0, 10)
            listed = await store.list_events(EventFilter(names[1], bases=(1,)), 0, 10)
            assert event_ids(listed) == [of_basis.event_id]

    async def test_events_of_a_basis_are_selected_by_name_and_sender_as_well(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            for name in ("One", "Two", "One"):
                await _record(store, sample.event(name), 1)
            await _record(store, sample.event("One"), 2)
            which = EventFilter("A", "One", bases=(1,))
            assert len(await store.list_events(which, 0, 10)) == 2
            assert len(await store.list_events(which, 1, 10)) == 1
            assert not await store.list_events(EventFilter("A", "One", "Nobody", (1,)), 0, 10)

    async def test_the_decisions_of_one_flow_keep_their_places_before_the_continuations(
        self,
    ) -> None:
        sample = Sample()
        event = sample.event()
        decisions = (decision("A"), decision("B"), decision("B", step_index=1), decision("A"))
        async with self.connect() as store:
            await store.record(event, Evaluation(decisions, (), Basis(1, b"seed", begun=2)))
            (of_a,) = await store.list_events(EventFilter("A"), 0, 1)
            (of_b,) = await store.list_events(EventFilter("B"), 0, 1)
            assert [of_a.basis and of_a.basis.begun, len(of_a.decisions)] == [1, 2]
            assert [of_b.basis and of_b.basis.begun, len(of_b.decisions)] == [1, 2]

    async def test_a_basis_is_unused_once_its_events_are_gone(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await _record(store, sample.event(at=minutes(0)), 1)
            await _record(store, sample.event(at=minutes(30)), 2)
            assert set(await store.find_unused_bases([1, 2, 3])) == {3}
            await store.purge(Retention(minutes(10), minutes(10), minutes(10)))
            assert set(await store.find_unused_bases([1, 2, 3])) == {1, 3}
            assert not await store.list_events(EventFilter("A", bases=(1,)), 0, 10)
            assert not await store.find_unused_bases([])

    async def test_a_flow_version_of_a_basis_is_kept(self) -> None:
        sample = Sample()
        listened, current = sample.flow(at=minutes(0)), sample.flow(at=minutes(1))
        async with self.connect() as store:
            await store.save_flow(listened)
            await store.save_flow(current)
            at, kept = minutes(10), frozenset([listened.uuid])
            for _ in range(2):
                bound = VersionBound(at, at, max_bytes=0, kept=kept)
                assert await store.purge_versions(bound) == PurgedVersions(0, 0)
                at += timedelta(hours=1)
            for removed in (0, 1):
                bound = VersionBound(at, at, max_bytes=0)
                assert (await store.purge_versions(bound)).removed == removed
                at += timedelta(hours=1)

    async def test_an_event_with_a_basis_and_actions_begins_executions(self) -> None:
        sample = Sample()
        action = sample.action()
        async with self.connect() as store:
            await start(store, action, event=sample.event())
            event = sample.event()
            other = sample.action()
            await store.record(event, Evaluation((), (other,), Basis(1, b"seed")))
            execution = await store.get_execution(other.correlation_id)
            assert ids([execution]) == [other.correlation_id]
            assert execution.actions[0].trigger.event_id == event.event_id
