# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of durable data: the audit, growth, and reopening."""

import asyncio

from flyteops.errors import FlyteError, NotFoundError, UnavailableError
from flyteops.model import (
    DataItem,
    Evaluation,
    Flow,
    FlowVersion,
    PackRef,
)
from flyteops.storage.query import EventFilter, ExecutionFilter, Purged
from flyteops.testing.case import (
    ANY_EVENT,
    ANYTHING,
    StoreCase,
    before,
    event_ids,
    ids,
    raises,
    start,
    take,
)
from flyteops.testing.sample import NOON, NOTHING, SENDER, WORKER, Sample, always, decision, minutes


class ArchiveContract(StoreCase):
    """Durable data: the audit, growth, and reopening."""

    # ---------------------------------------------------------------------------------------- audit

    async def test_executions_are_listed_latest_activity_first(self) -> None:
        sample = Sample()
        a, b, c = (sample.action() for _ in range(3))
        async with self.connect() as store:
            for number, action in enumerate((a, b, c)):
                await start(store, action, event=sample.event(at=minutes(number)))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [
                x.correlation_id for x in (c, b, a)
            ]
            assert await take(store, minutes(3)) == a.action_id
            assert await take(store, minutes(4)) == b.action_id
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [
                x.correlation_id for x in (b, a, c)
            ]
            await store.finish(a.action_id, sample.event("Deployed", minutes(5)), always(NOTHING))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [
                x.correlation_id for x in (a, b, c)
            ]

    async def test_activity_does_not_move_back_when_a_clock_does(self) -> None:
        sample = Sample()
        a, b = sample.action(), sample.action()
        async with self.connect() as store:
            await start(store, a, event=sample.event(at=minutes(1)))
            await start(store, b, event=sample.event(at=minutes(2)))
            await take(store, minutes(3))
            await store.finish(a.action_id, sample.event("Deployed", minutes(0)), always(NOTHING))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [
                a.correlation_id,
                b.correlation_id,
            ]

    async def test_activity_is_the_latest_time_when_several_things_happen_at_once(self) -> None:
        sample = Sample()
        first, other = sample.action(), sample.action()
        more = [
            sample.action(step_index=n, step_id=f"s{n}", correlation_id=first.correlation_id)
            for n in range(1, 4)
        ]
        async with self.connect() as store:
            await start(store, first, *more)
            times = [minutes(1), minutes(9), minutes(2), minutes(3)]
            await asyncio.gather(*(take(store, at) for at in times))
            await start(store, other, event=sample.event(at=minutes(5)))
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [
                first.correlation_id,
                other.correlation_id,
            ]

    async def test_lists_are_paged(self) -> None:
        sample = Sample()
        actions = [sample.action() for _ in range(7)]
        async with self.connect() as store:
            events = [
                await start(store, action, event=sample.event(at=minutes(number)))
                for number, action in enumerate(actions)
            ]
            runs = [action.correlation_id for action in reversed(actions)]
            newest = [event.event_id for event in reversed(events)]
            for begin, size in ((0, 3), (3, 3), (6, 3), (7, 3), (0, 0), (100, 5)):
                assert (
                    ids(await store.list_executions(ANYTHING, begin, size))
                    == runs[begin : begin + size]
                )
                assert (
                    event_ids(await store.list_events(ANY_EVENT, begin, size))
                    == newest[begin : begin + size]
                )

    async def test_each_filter_of_executions_works_alone(self) -> None:
        sample = Sample()
        plain = sample.action()
        other = sample.action(
            flow_name="Other",
            step_id="x",
            step_index=4,
            name="Check",
            pack_name="Tester",
            pack_labels={"env": "prod", "a": "b"},
        )
        async with self.connect() as store:
            await start(store, plain)
            await start(store, other)
            for which in (
                ExecutionFilter(flow_name="Other"),
                ExecutionFilter(step_id="x"),
                ExecutionFilter(action_name="Check"),
                ExecutionFilter(action_pack_name="Tester"),
                ExecutionFilter(action_pack_labels={"env": "prod"}),
                ExecutionFilter(action_pack_labels={"env": "prod", "a": "b"}),
                ExecutionFilter("Other", "x", "Check", "Tester", {"a": "b"}),
            ):
                assert ids(await store.list_executions(which, 0, 10)) == [other.correlation_id], (
                    which
                )
            for which in (
                ExecutionFilter(flow_name="other"),
                ExecutionFilter(step_id=""),
                ExecutionFilter(action_name="Deploy", action_pack_name="Tester"),
                ExecutionFilter(action_pack_labels={"env": "test"}),
                ExecutionFilter(action_pack_labels={"b": "a"}),
                ExecutionFilter(flow_name="Deploy", step_id="x"),
            ):
                assert ids(await store.list_executions(which, 0, 10)) == [], which
            assert (
                len(await store.list_executions(ExecutionFilter(action_pack_labels={}), 0, 10)) == 2
            )

    async def test_one_action_must_satisfy_the_whole_filter(self) -> None:
        sample = Sample()
        first = sample.action(name="Deploy", pack_labels={"env": "prod"})
        second = sample.action(
            step_id="second",
            step_index=1,
            name="Check",
            pack_name="Tester",
            correlation_id=first.correlation_id,
        )
        async with self.connect() as store:
            await start(store, first, second)
            matching = [
                ExecutionFilter("Deploy", "second", "Check", "Tester", {}),
                ExecutionFilter("Deploy", "first", "Deploy", "Worker", {"env": "prod"}),
            ]
            for which in matching:
                found = await store.list_executions(which, 0, 10)
                assert ids(found) == [first.correlation_id]
                assert len(found[0].actions) == 2
            split = [
                ExecutionFilter(step_id="first", action_name="Check"),
                ExecutionFilter(step_id="second", action_pack_name="Worker"),
                ExecutionFilter(action_name="Check", action_pack_labels={"env": "prod"}),
                ExecutionFilter(action_name="Deploy", action_pack_name="Tester"),
            ]
            for which in split:
                assert ids(await store.list_executions(which, 0, 10)) == [], which

    async def test_events_are_listed_newest_first_with_each_filter(self) -> None:
        sample = Sample()
        other = PackRef("Other", "Other")
        async with self.connect() as store:
            asked, ticked, told = (
                sample.event("Asked"),
                sample.event("Ticked", minutes(-5)),
                sample.event("Asked", pack=other),
            )
            await store.record(
                asked, Evaluation((decision("A"), decision("B"), decision("A", step_index=1)))
            )
            await store.record(ticked, Evaluation((decision("B"),)))
            await store.record(told, NOTHING)
            expected = {
                ANY_EVENT: [told, ticked, asked],
                EventFilter(event_name="Asked"): [told, asked],
                EventFilter(pack_name="Watcher"): [ticked, asked],
                EventFilter(event_name="Asked", pack_name="Watcher"): [asked],
                EventFilter(flow_name="B"): [ticked, asked],
                EventFilter(flow_name="B", event_name="Ticked"): [ticked],
                EventFilter(flow_name="B", pack_name="Other"): [],
                EventFilter(flow_name="C"): [],
                EventFilter(event_name="asked"): [],
            }
            for which, events in expected.items():
                found = await store.list_events(which, 0, 10)
                assert event_ids(found) == [event.event_id for event in events], which
                assert [record.event for record in found] == events
            assert (await store.list_events(ANY_EVENT, 2, 1))[0].decisions == (
                decision("A"),
                decision("B"),
                decision("A", step_index=1),
            )
            of_a = (await store.list_events(EventFilter(flow_name="A"), 0, 10))[0]
            assert of_a.decisions == (decision("A"), decision("A", step_index=1))

    # --------------------------------------------------------------------------------------- growth

    async def test_purging_removes_executions_without_activity_and_events_that_nothing_refers_to(
        self,
    ) -> None:
        sample = Sample()
        old, revived, young = (sample.action() for _ in range(3))
        async with self.connect() as store:
            lonely = sample.event(at=minutes(0))
            await store.record(lonely, Evaluation((decision("Deploy"),)))
            of_old = await start(store, old, event=sample.event(at=minutes(0)))
            of_revived = await start(store, revived, event=sample.event(at=minutes(1)))
            await start(store, young, event=sample.event(at=minutes(10)))
            recent = sample.event(at=minutes(10))
            await store.record(recent, NOTHING)
            assert await take(store, minutes(2)) == old.action_id
            result = sample.event("Deployed", minutes(3))
            await store.finish(old.action_id, result, always(Evaluation((decision("Deploy"),))))
            assert await take(store, minutes(11)) == revived.action_id

            assert await store.purge(before(minutes(10))) == Purged(
                executions=1, events=3, more=False
            )
            for gone in (lonely, of_old, result):
                with raises(NotFoundError):
                    await store.get_event(gone.event_id)
            with raises(NotFoundError):
                await store.get_execution(old.correlation_id)
            with raises(NotFoundError):
                await store.get_action(old.action_id)
            assert (await store.get_event(of_revived.event_id)).event == of_revived
            assert (await store.get_event(recent.event_id)).event == recent
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [
                revived.correlation_id,
                young.correlation_id,
            ]
            assert len(await store.list_events(EventFilter(flow_name="Deploy"), 0, 10)) == 2
            assert await take(store) == young.action_id
            assert await store.purge(before(minutes(10))) == Purged(
                executions=0, events=0, more=False
            )

    async def test_an_event_stays_as_long_as_one_execution_refers_to_it(self) -> None:
        sample = Sample()
        quiet, busy = sample.action(), sample.action(name="Check")
        async with self.connect() as store:
            trigger = await start(store, quiet, busy)
            await store.claim(WORKER, minutes(10), action_name="Check")
            assert await store.purge(before(minutes(5))) == Purged(
                executions=1, events=0, more=False
            )
            assert (await store.get_action(busy.action_id)).trigger == trigger
            assert await store.purge(before(minutes(15))) == Purged(
                executions=1, events=1, more=False
            )
            with raises(NotFoundError):
                await store.get_event(trigger.event_id)

    async def test_purging_stops_at_its_bound_and_goes_on_when_called_again(self) -> None:
        sample = Sample()
        actions = [sample.action() for _ in range(5)]
        async with self.connect() as store:
            for number, action in enumerate(actions):
                await start(store, action, event=sample.event(at=minutes(number)))
            assert (await store.purge(before(minutes(100)), limit=2)).more is True
            assert ids(await store.list_executions(ANYTHING, 0, 10)) == [
                x.correlation_id for x in reversed(actions[2:])
            ]
            while (await store.purge(before(minutes(100)), limit=2)).more:
                pass
            assert list(await store.list_executions(ANYTHING, 0, 10)) == []
            assert list(await store.list_events(ANY_EVENT, 0, 10)) == []

    async def test_an_action_that_was_purged_while_it_waited_is_not_handed_out(self) -> None:
        sample = Sample()
        actions = [sample.action() for _ in range(4)]
        async with self.connect() as store:
            for number, action in enumerate(actions):
                await start(store, action, event=sample.event(at=minutes(number)))
            assert await take(store, minutes(50)) == actions[0].action_id
            await store.purge(before(minutes(3)))
            assert await take(store) == actions[3].action_id
            assert not await store.claim(WORKER, NOON)
            with raises(NotFoundError):
                await store.finish(actions[1].action_id, sample.event(), always(NOTHING))
            later = sample.action()
            await start(store, later)
            assert await take(store) == later.action_id

    # -------------------------------------------------------------------------- opening and closing

    async def test_everything_is_there_after_opening_again(self) -> None:
        sample = Sample()
        pack, flow, item = (
            sample.pack(env="prod"),
            sample.flow(),
            DataItem("key", "text/plain", b"value"),
        )
        pending, waiting = sample.action(), sample.action(pack_labels={"env": "prod"})
        async with self.connect() as store:
            await store.save_pack(pack)
            await store.save_flow(flow)
            await store.save_item(item)
            await start(store, pending)
            await start(store, waiting)
            assert await take(store, minutes(1)) == pending.action_id
            runs = await store.list_executions(ANYTHING, 0, 10)
            events = await store.list_events(ANY_EVENT, 0, 10)
        async with self.connect() as store:
            assert list(await store.list_packs()) == [pack]
            assert list(await store.list_flows()) == [flow]
            assert list(await store.list_items()) == [item]
            assert list(await store.list_executions(ANYTHING, 0, 10)) == list(runs)
            assert list(await store.list_events(ANY_EVENT, 0, 10)) == list(events)
            assert await take(store, minutes(2)) == waiting.action_id
            assert not await store.claim(WORKER, NOON)
            assert (
                await store.finish(pending.action_id, sample.event("Deployed"), always(NOTHING))
                == NOTHING
            )
            younger = sample.action()
            await start(store, younger)
            assert await take(store) == younger.action_id

    async def test_what_was_asked_before_closing_is_done(self) -> None:
        sample = Sample()
        store = self.connect()
        await store.open()
        events = [sample.event() for _ in range(50)]
        tasks = [asyncio.ensure_future(store.record(event, NOTHING)) for event in events]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*tasks)
        async with self.connect() as again:
            assert len(await again.list_events(ANY_EVENT, 0, 100)) == 50

    async def test_a_closed_store_is_unavailable_and_may_be_closed_twice(self) -> None:
        sample = Sample()
        store = self.connect()
        await store.open()
        await store.ping()
        await store.close()
        await store.close()
        for verb in (
            store.ping(),
            store.list_packs(),
            store.save_pack(sample.pack()),
            store.record(sample.event(), NOTHING),
            store.claim(WORKER, NOON),
            store.finish("x", sample.event(), always(NOTHING)),
            store.list_executions(ANYTHING, 0, 1),
            store.purge(before(NOON)),
        ):
            with raises(UnavailableError):
                await verb

    async def test_errors_of_the_driver_do_not_get_out(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await store.save_flow(FlowVersion("same", Flow("A"), NOON))
            with raises(FlyteError):
                await store.save_flow(FlowVersion("same", Flow("B"), NOON))
            assert [version.flow.name for version in await store.list_flows()] == ["A"]
            await store.record(sample.event(pack=SENDER), NOTHING)
