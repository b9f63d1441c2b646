# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of timers that cannot be processed, and of leases after a downtime."""

import asyncio
from datetime import timedelta

from flyteops.errors import StoreError
from flyteops.model import FATAL, ActionSnapshot, ActionState
from flyteops.storage.base import TimerKey
from flyteops.testing.case import ANY_EVENT, StoreCase, raises, start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, creating, minutes
from flyteops.testing.timer import LIMIT, Ruling, claim
from flyteops.transition import (
    DueSchedule,
    FailAction,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
    ScheduleEntry,
)


class AsideContract(StoreCase):
    """Items that cannot be processed must not delay others."""

    # ------------------------------------------------------- items that cannot be processed for now

    async def test_a_lost_action_that_cannot_be_ruled_on_keeps_no_other_waiting(self) -> None:
        class Refusing(Ruling):
            def on_timeout(
                self, snapshot: ActionSnapshot
            ) -> RetryAction | NeedsOperator | FailAction:
                if snapshot.action_id in refused:
                    raise RecursionError("too deep")
                return super().on_timeout(snapshot)

        sample = Sample()
        actions = [sample.action(timeout=LIMIT) for _ in range(5)]
        refused = {action.action_id for action in actions[:3]}
        keys = {TimerKey(action_id) for action_id in refused}
        async with self.connect() as store:
            await start(store, *actions, sample.action(not_before=minutes(30)))
            await store.claim(WORKER, NOON, limit=5)
            first = await store.process_due(minutes(5), Refusing(NeedsOperator()))
            assert (first.done, {each.key for each in first.failed}, first.next_at) == (
                2,
                keys,
                minutes(30),
            )
            assert {str(each.error) for each in first.failed} == {"too deep"}
            await start(store, sample.action(timeout=LIMIT), event=sample.event(at=minutes(6)))
            await claim(store, minutes(6))
            without = await store.process_due(
                minutes(11), Refusing(NeedsOperator()), limit=1, leave_out=keys
            )
            assert (without.done, without.failed, without.next_at) == (1, (), minutes(30))
            for action_id in refused:
                assert (await store.get_action(action_id)).state is ActionState.PENDING
            assert (await store.process_due(minutes(11), Ruling(NeedsOperator()))).done == 3

    async def test_a_ruling_that_cannot_be_carried_out_keeps_no_other_waiting(self) -> None:
        sample = Sample()
        first, second = sample.action(timeout=LIMIT), sample.action(timeout=LIMIT)
        taken = sample.action(action_id=first.action_id, step_id="other", step_index=1)
        async with self.connect() as store:
            await start(store, first, second)
            await store.claim(WORKER, NOON, limit=2)

            class Colliding(Ruling):
                def on_timeout(
                    self, snapshot: ActionSnapshot
                ) -> RetryAction | NeedsOperator | FailAction:
                    if snapshot.action_id == first.action_id:
                        return FailAction(sample.event(FATAL, minutes(5)), creating(taken))
                    return NeedsOperator()

            advanced = await store.process_due(minutes(5), Colliding())
            assert (advanced.done, [each.key for each in advanced.failed]) == (
                1,
                [TimerKey(first.action_id)],
            )
            assert advanced.next_at is None
            assert (await store.get_action(first.action_id)).state is ActionState.PENDING
            assert (await store.get_action(second.action_id)).state is ActionState.UNKNOWN
            assert (await store.process_due(minutes(5), Ruling(NeedsOperator()))).done == 1
            later = sample.action()
            await start(store, later, event=sample.event(at=minutes(6)))
            assert await take(store, minutes(6)) == later.action_id

    async def test_a_step_that_cannot_be_ruled_on_keeps_no_other_waiting(self) -> None:
        class Refusing(Ruling):
            def on_due(self, step: DueSchedule) -> ScheduledRun:
                if step.flow_name == "Bad":
                    raise ValueError("there is no such time zone")
                return super().on_due(step)

        sample = Sample()
        async with self.connect() as store:
            bad, good = sample.flow("Bad"), sample.flow("Good")
            await store.save_flow(
                bad, [ScheduleEntry(index, str(index), "daily", minutes(10)) for index in range(3)]
            )
            await store.save_flow(good, [ScheduleEntry(0, "", "daily", minutes(11))])
            keys = {TimerKey("Bad", bad.uuid, index) for index in range(3)}
            rules = Refusing(
                firings=[
                    ScheduledRun(None, NOTHING, minutes(21)),
                    ScheduledRun(None, NOTHING, minutes(31)),
                ]
            )
            first = await store.process_due(minutes(11), rules)
            assert (first.done, {each.key for each in first.failed}, first.next_at) == (
                1,
                keys,
                minutes(21),
            )
            without = await store.process_due(minutes(21), rules, limit=1, leave_out=keys)
            assert (without.done, without.failed, without.next_at) == (1, (), minutes(31))
            firings = [ScheduledRun(None, NOTHING, minutes(50))] * 3
            assert (await store.process_due(minutes(22), Ruling(firings=firings))).done == 3

    async def test_a_step_is_never_due_again_at_the_same_time_or_before(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            version = sample.flow("Nightly")
            await store.save_flow(version, [ScheduleEntry(0, "night", "rule", minutes(10))])
            for again_at in (minutes(10), minutes(9)):
                event, action = sample.event("Scheduled", minutes(10)), sample.action()
                advanced = await store.process_due(
                    minutes(10), Ruling(firings=[ScheduledRun(event, creating(action), again_at)])
                )
                (failed,) = advanced.failed
                assert failed.key == TimerKey("Nightly", version.uuid, 0)
                assert "must be later than the last" in str(failed.error)
                assert (advanced.done, advanced.arrived, advanced.next_at) == (0, (), None)
                assert not await store.list_events(ANY_EVENT, 0, 10)
                assert not await store.claim(WORKER, minutes(10))
            assert (
                await store.process_due(
                    minutes(10), Ruling(firings=[ScheduledRun(None, NOTHING, minutes(11))])
                )
            ).next_at == minutes(11)

    async def test_a_flow_with_a_step_that_is_due_as_soon_as_it_is_saved_is_refused(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            version = sample.flow("Nightly")
            with raises(StoreError):
                await store.save_flow(
                    version, [ScheduleEntry(0, "night", "rule", version.saved_at)]
                )
            assert not await store.list_flows()

    # --------------------------------------------------------- when no server was running meanwhile

    async def test_leases_begin_anew_when_a_server_comes_back(self) -> None:
        sample = Sample()
        leased = sample.action(timeout=LIMIT)
        async with self.connect() as store:
            await start(
                store,
                leased,
                sample.action(timeout=LIMIT),
                sample.action(),
                sample.action(not_before=minutes(30)),
            )
            await store.claim(WORKER, NOON, limit=1)
        async with self.connect() as store:
            assert await store.renew_leases(minutes(20))
            assert (await store.process_due(minutes(24), Ruling())).next_at == minutes(25)
            assert (await store.get_action(leased.action_id)).due_at == minutes(25)
            assert (await store.process_due(minutes(25), Ruling(NeedsOperator()))).done == 1
            assert (await store.process_due(minutes(26), Ruling())).next_at == minutes(30)

    async def test_a_lease_that_began_while_the_others_were_about_to_begin_anew_is_not_shortened(
        self,
    ) -> None:
        sample = Sample()
        begun = minutes(20) + timedelta(milliseconds=300)
        async with self.connect() as store:
            await start(store, sample.action(timeout=LIMIT), sample.action(timeout=LIMIT))
            await claim(store)
            await claim(store, begun)
            assert await store.renew_leases(minutes(20))
            assert (
                await store.process_due(minutes(25), Ruling(NeedsOperator()))
            ).next_at == begun + LIMIT

    async def test_leases_go_on_while_a_server_is_at_work(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action(timeout=LIMIT))
            await claim(store)
            assert await store.renew_leases(NOON)
            assert not await store.renew_leases(minutes(3), if_unattended_for=timedelta(hours=1))
            assert (await store.process_due(minutes(4), Ruling())).next_at == minutes(5)
            await asyncio.sleep(0.002)
            assert await store.renew_leases(minutes(4), if_unattended_for=timedelta(0))
            assert (await store.process_due(minutes(5), Ruling())).next_at == minutes(9)
