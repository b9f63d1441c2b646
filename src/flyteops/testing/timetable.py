# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of timetables, keys of events, and the retention of executions."""

import asyncio

from flyteops.errors import NotFoundError
from flyteops.model import ActionState
from flyteops.storage.query import ActionFilter, Retention
from flyteops.testing.case import ANY_EVENT, StoreCase, before, raises, start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, always, creating, minutes
from flyteops.testing.timer import LIMIT, Ruling, accept, claim
from flyteops.transition import (
    DueSchedule,
    LateResult,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
    ScheduleEntry,
)


class TimetableContract(StoreCase):
    """Timetables, keys of events, and the retention of executions."""

    # ----------------------------------------------------------------------------------- timetables

    async def test_a_step_is_due_at_its_time_and_then_at_the_next(self) -> None:
        sample = Sample()
        event, action = sample.event("Scheduled", minutes(10)), sample.action()
        async with self.connect() as store:
            version = sample.flow("Nightly")
            await store.save_flow(version, [ScheduleEntry(2, "night", "rule", minutes(10))])
            assert (await store.process_due(minutes(9), Ruling())).next_at == minutes(10)
            rules = Ruling(firings=[ScheduledRun(event, creating(action), minutes(20))])
            advanced = await store.process_due(minutes(11), rules)
            assert rules.steps == [DueSchedule("Nightly", version.uuid, 2, "rule", minutes(10))]
            assert (advanced.done, advanced.next_at, len(advanced.arrived)) == (1, minutes(20), 1)
            assert await take(store, minutes(11)) == action.action_id
            assert (await store.get_event(event.event_id)).event == event
            skipped = Ruling(firings=[ScheduledRun(None, NOTHING, None)])
            assert (await store.process_due(minutes(20), skipped)).next_at is None

    async def test_a_timetable_with_the_same_rule_keeps_its_time_when_the_flow_is_saved_again(
        self,
    ) -> None:
        sample = Sample()
        async with self.connect() as store:
            first = [
                ScheduleEntry(0, "a", "daily", minutes(10)),
                ScheduleEntry(1, "b", "hourly", minutes(5)),
            ]
            await store.save_flow(sample.flow("Nightly"), first)
            second = [
                ScheduleEntry(0, "b", "weekly", minutes(50)),
                ScheduleEntry(1, "a", "daily", minutes(40)),
            ]
            await store.save_flow(sample.flow("Nightly"), second)
            assert (await store.process_due(minutes(1), Ruling())).next_at == minutes(10)
            await store.save_flow(sample.flow("Nightly"))
            assert (await store.process_due(minutes(1), Ruling())).next_at is None

    async def test_a_deleted_flow_is_never_due(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await store.save_flow(
                sample.flow("Nightly"), [ScheduleEntry(0, "", "daily", minutes(10))]
            )
            await store.delete_flow("Nightly")
            assert (await store.process_due(minutes(20), Ruling())).next_at is None

    # ----------------------------------------------------------------------------------------- keys

    async def test_an_event_with_the_key_of_an_earlier_one_does_nothing(self) -> None:
        sample = Sample()
        first, second = sample.event(), sample.event(at=minutes(60))
        async with self.connect() as store:
            assert await store.record(first, creating(sample.action()), key="k") == first.event_id
            assert await store.record(second, creating(sample.action()), key="k") == first.event_id
            assert len(await store.list_events(ANY_EVENT, 0, 10)) == 1
            assert len(await store.claim(WORKER, NOON, limit=10)) == 1
        async with self.connect() as store:
            assert (
                await store.record(sample.event(at=minutes(70)), NOTHING, key="k") == first.event_id
            )
            assert len(await store.list_events(ANY_EVENT, 0, 10)) == 1

    async def test_events_with_the_same_key_at_the_same_time_are_one(self) -> None:
        sample = Sample()
        events = [sample.event() for _ in range(30)]
        async with self.connect() as store:
            ids = await asyncio.gather(*(store.record(event, NOTHING, key="k") for event in events))
            assert len(set(ids)) == 1
            assert len(await store.list_events(ANY_EVENT, 0, 50)) == 1

    async def test_keys_are_kept_for_a_day(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await store.record(sample.event(), NOTHING, key="k")
            after = sample.event(at=minutes(24 * 60 + 1))
            assert await store.record(after, NOTHING, key="k") == after.event_id
            await store.purge(before(minutes(24 * 60)))
            again = sample.event(at=minutes(24 * 60 + 2))
            assert await store.record(again, NOTHING, key="k") == after.event_id

    # ----------------------------------------------------------------------------- lists and growth

    async def test_actions_are_listed_as_they_stand(self) -> None:
        sample = Sample()
        new, free, leased, asked = (
            sample.action(timeout=limit) for limit in (None, None, LIMIT, LIMIT)
        )
        later = sample.action(not_before=minutes(90), flow_name="Other", pack_name="Other")
        async with self.connect() as store:
            await start(store, free, leased, asked)
            await store.claim(WORKER, minutes(1), limit=3)
            await store.extend(leased.action_id, minutes(2), accept)
            await store.process_due(minutes(6), Ruling(NeedsOperator()))
            await start(store, new, later, event=sample.event(at=minutes(7)))

            async def listed(**which: object) -> list[str]:
                wanted = ActionFilter(**which)  # type: ignore[arg-type]
                return [each.action_id for each in await store.list_actions(wanted, 0, 10)]

            everything = [free, leased, asked, new, later]
            assert await listed() == [action.action_id for action in everything]
            assert await listed(states=frozenset([ActionState.UNKNOWN])) == [asked.action_id]
            assert await listed(states=frozenset([ActionState.NEW])) == [
                new.action_id,
                later.action_id,
            ]
            assert (
                await listed(flow_name="Other")
                == await listed(pack_name="Other")
                == [later.action_id]
            )
            assert await listed(overdue_since=minutes(1), now=minutes(6.5)) == [asked.action_id]
            assert await listed(overdue_since=minutes(1.5), now=minutes(6.5)) == [
                free.action_id,
                leased.action_id,
                asked.action_id,
            ]
            status = (
                await store.list_actions(
                    ActionFilter(states=frozenset([ActionState.UNKNOWN])), 0, 10
                )
            )[0]
            assert (status.state, status.since, status.created_at, status.attempt) == (
                ActionState.UNKNOWN,
                minutes(6),
                NOON,
                1,
            )

    async def test_what_is_finished_goes_earlier_and_live_work_never_for_want_of_space(
        self,
    ) -> None:
        sample = Sample()
        done, live = sample.action(timeout=LIMIT), sample.action()
        async with self.connect() as store:
            await start(store, done)
            await claim(store)
            await store.process_due(minutes(5), Ruling(RetryAction(minutes(6))))
            await store.finish(done.action_id, sample.event(at=minutes(6)), lambda _: LateResult(1))
            await store.process_due(minutes(6), Ruling())
            await claim(store, minutes(6))
            await store.finish(done.action_id, sample.event(at=minutes(7)), always(NOTHING))
            await start(store, live, event=sample.event(at=minutes(7)))
            await store.record(sample.event(at=minutes(7)), NOTHING)
            early = Retention(
                before=minutes(-100), finished_before=minutes(7), keys_before=minutes(-100)
            )
            assert (await store.purge(early)).executions == 0
            full = Retention(
                before=minutes(-100),
                finished_before=minutes(-100),
                keys_before=minutes(-100),
                max_bytes=1,
            )
            while (await store.purge(full)).more:
                pass
            await store.purge(full)
            with raises(NotFoundError):
                await store.get_action(done.action_id)
            assert [
                record.event.event_id for record in await store.list_events(ANY_EVENT, 0, 10)
            ] == [(await store.get_action(live.action_id)).trigger.event_id]

    async def test_finished_executions_are_kept_for_a_time_of_their_own(self) -> None:
        sample = Sample()
        done, live = sample.action(), sample.action()
        async with self.connect() as store:
            await start(store, done)
            await take(store)
            await store.finish(done.action_id, sample.event(at=minutes(1)), always(NOTHING))
            await start(store, live, event=sample.event(at=minutes(1)))
            what = Retention(
                before=minutes(-100), finished_before=minutes(2), keys_before=minutes(-100)
            )
            assert (await store.purge(what)).executions == 1
            assert (await store.get_action(live.action_id)).state is ActionState.NEW
            assert await take(store, minutes(3)) == live.action_id
            await store.finish(live.action_id, sample.event(at=minutes(4)), always(NOTHING))
            assert (
                await store.purge(Retention(minutes(-100), minutes(5), minutes(-100)))
            ).executions == 1
