# ruff: noqa: S101 - the names of tests are sentences, and they assert
"""Tests of leases and delays."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from flyteops.errors import ConflictError, NotFoundError
from flyteops.model import (
    FATAL,
    ActionSnapshot,
    ActionState,
    Evaluation,
    Lease,
    NewAction,
    RoutingKey,
)
from flyteops.storage.base import Claimed, NotLoadedError, Store
from flyteops.storage.undelivered import still_claimed
from flyteops.testing.case import StoreCase, raises, start, take
from flyteops.testing.sample import NOON, NOTHING, WORKER, Sample, always, creating, minutes
from flyteops.transition import (
    DueSchedule,
    FailAction,
    LateResult,
    NeedsOperator,
    RetryAction,
    ScheduledRun,
)

SEED = b"seed"
LIMIT = timedelta(minutes=5)


class Ruling:
    """Rules with the results of the test; records its calls."""

    def __init__(
        self,
        lost: RetryAction | NeedsOperator | FailAction | None = None,
        firings: Sequence[ScheduledRun] = (),
    ) -> None:
        self._lost = lost
        self._firings = list(firings)
        self.asked: list[ActionSnapshot] = []
        self.steps: list[DueSchedule] = []

    def on_timeout(self, snapshot: ActionSnapshot) -> RetryAction | NeedsOperator | FailAction:
        self.asked.append(snapshot)
        if self._lost is None:
            raise NotLoadedError("nothing should be lost")
        return self._lost

    def on_due(self, step: DueSchedule) -> ScheduledRun:
        self.steps.append(step)
        if not self._firings:
            raise NotLoadedError("nothing should be due")
        return self._firings.pop(0)


async def claim(store: Store, at: datetime = NOON) -> Claimed:
    """Claim the one action, which must exist."""
    (claimed,) = await store.claim(WORKER, at, seed=SEED)
    return claimed


def accept(_progress: ActionSnapshot) -> None:
    """Allow every claim."""


class TimerContract(StoreCase):
    """Leases and delays."""

    # --------------------------------------------------------------------------------------- leases

    async def test_an_action_with_a_time_limit_is_handed_out_with_a_lease(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action(timeout=LIMIT), sample.action())
            leased, free = await claim(store), await claim(store)
            assert (leased.attempt, leased.timeout, leased.expires_at) == (1, LIMIT, NOON + LIMIT)
            assert leased.lease is not None
            assert leased.lease.startswith("1-")
            assert (free.attempt, free.lease, free.timeout, free.expires_at) == (
                1,
                None,
                None,
                None,
            )

    async def test_nothing_is_lost_before_its_time(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action(timeout=LIMIT), sample.action())
            await claim(store)
            advanced = await store.process_due(minutes(4), Ruling())
            assert (advanced.done, advanced.next_at, advanced.arrived) == (0, minutes(5), ())

    async def test_a_lost_action_may_be_handed_out_again_after_a_while(self) -> None:
        sample = Sample()
        action = sample.action(timeout=LIMIT)
        async with self.connect() as store:
            await start(store, action)
            first = await claim(store)
            rules = Ruling(RetryAction(minutes(7)))
            advanced = await store.process_due(minutes(5), rules)
            assert (advanced.done, advanced.next_at) == (1, minutes(7))
            (asked,) = rules.asked
            assert (asked.action_id, asked.attempt, asked.timeout, asked.state) == (
                first.action_id,
                1,
                LIMIT,
                ActionState.PENDING,
            )
            assert not await store.claim(WORKER, minutes(6))
            assert (await store.get_action(action.action_id)).state is ActionState.NEW
            advanced = await store.process_due(minutes(7), Ruling())
            assert advanced.arrived == (RoutingKey("Worker", {}, "Deploy"),)
            second = await claim(store, minutes(7))
            assert (second.action_id, second.attempt) == (first.action_id, 2)
            assert second.lease != first.lease
            found = await store.get_action(action.action_id)
            assert [each.state.value for each in found.states] == [
                "NEW",
                "PENDING",
                "NEW",
                "PENDING",
            ]
            assert [(each.number, each.pack_id, each.lost_at) for each in found.attempts] == [
                (1, WORKER.id, minutes(5)),
                (2, WORKER.id, None),
            ]

    async def test_a_lost_action_may_wait_for_a_person(self) -> None:
        sample = Sample()
        action = sample.action(timeout=LIMIT)
        async with self.connect() as store:
            await start(store, action)
            await claim(store)
            advanced = await store.process_due(minutes(5), Ruling(NeedsOperator()))
            assert (advanced.done, advanced.next_at) == (1, None)
            assert (await store.get_action(action.action_id)).state is ActionState.UNKNOWN
            assert not await store.claim(WORKER, minutes(6))
            result = sample.event("Deployed", minutes(8))
            assert await store.finish(action.action_id, result, always(NOTHING))
            assert (await store.get_action(action.action_id)).state is ActionState.SUCCESS

    async def test_a_lost_action_may_end_with_all_that_follows(self) -> None:
        sample = Sample()
        action = sample.action(timeout=LIMIT)
        following = sample.action(
            step_id="second", step_index=1, correlation_id=action.correlation_id
        )
        async with self.connect() as store:
            await start(store, action)
            await claim(store)
            event = sample.event(FATAL, minutes(5))
            advanced = await store.process_due(
                minutes(5), Ruling(FailAction(event, creating(following)))
            )
            assert advanced.arrived == (RoutingKey("Worker", {}, "Deploy"),)
            found = await store.get_action(action.action_id)
            assert (found.state, found.result) == (ActionState.FATAL, event)
            assert await take(store, minutes(6)) == following.action_id

    async def test_every_lease_is_told_to_whoever_decides(self) -> None:
        sample = Sample()
        action = sample.action(timeout=LIMIT)
        seen: list[ActionSnapshot] = []

        def decide(snapshot: ActionSnapshot) -> Evaluation:
            seen.append(snapshot)
            return NOTHING

        async with self.connect() as store:
            await start(store, action)
            first = await claim(store)
            await store.process_due(minutes(5), Ruling(RetryAction(minutes(5))))
            await store.process_due(minutes(5), Ruling())
            second = await claim(store, minutes(5))
            await store.finish(action.action_id, sample.event(at=minutes(6)), decide)
            assert seen[-1].leases == (
                Lease(1, str(first.lease), is_lost=True),
                Lease(2, str(second.lease)),
            )
            assert (await store.process_due(minutes(60), Ruling())).next_at is None

    async def test_a_late_result_is_kept_once_and_changes_nothing(self) -> None:
        sample = Sample()
        action = sample.action(timeout=LIMIT)
        async with self.connect() as store:
            await start(store, action)
            await claim(store)
            await store.process_due(minutes(5), Ruling(RetryAction(minutes(5))))
            late, later = sample.event("Deployed", minutes(6)), sample.event("Deployed", minutes(7))
            for event in (late, later):
                assert await store.finish(
                    action.action_id, event, lambda _: LateResult(1)
                ) == LateResult(1)
            found = await store.get_action(action.action_id)
            assert (found.state, found.result, found.attempts[0].late_result) == (
                ActionState.NEW,
                None,
                late,
            )
            with raises(NotFoundError):
                await store.get_event(later.event_id)

    async def test_a_lease_can_be_extended(self) -> None:
        sample = Sample()
        action = sample.action(timeout=LIMIT)
        async with self.connect() as store:
            await start(store, action, sample.action())
            await claim(store)
            free = await claim(store)
            assert await store.extend(action.action_id, minutes(3), accept) == minutes(8)
            assert await store.extend(free.action_id, minutes(3), accept) is None
            assert (await store.process_due(minutes(7), Ruling())).next_at == minutes(8)
            with raises(NotFoundError):
                await store.extend("nothing", minutes(3), accept)
            await store.finish(action.action_id, sample.event(at=minutes(7)), always(NOTHING))
            with raises(ConflictError):
                await store.extend(action.action_id, minutes(7), accept)

    async def test_what_was_handed_out_can_go_back(self) -> None:
        sample = Sample()
        first, second = sample.action(timeout=LIMIT), sample.action()
        async with self.connect() as store:
            await start(store, first, second)
            claimed = await claim(store)
            address = await store.release(claimed.action_id, minutes(1), accept, counts=False)
            assert address == RoutingKey("Worker", {}, "Deploy")
            again = await claim(store, minutes(2))
            assert (again.action_id, again.attempt) == (first.action_id, 1)
            await store.release(again.action_id, minutes(3), accept, counts=True)
            assert (await claim(store, minutes(4))).attempt == 2
            assert await take(store, minutes(4)) == second.action_id

    async def test_a_release_that_is_repeated_leaves_an_action_with_its_next_owner(self) -> None:
        sample = Sample()
        actions = [
            sample.action(timeout=limit, not_before=at)
            for limit in (LIMIT, None)
            for at in (None, minutes(1))
        ]
        async with self.connect() as store:
            await start(store, *actions)
            await store.process_due(minutes(1), Ruling())
            # Also at the same time, and with the same number of attempts.
            owners = [list(await store.claim(WORKER, minutes(2), limit=10, seed=SEED))]
            for _ in range(2):
                for each in owners[-1]:
                    await store.release(
                        each.action_id, minutes(2), still_claimed(each.revision), counts=False
                    )
                owners.append(list(await store.claim(WORKER, minutes(2), limit=10, seed=SEED)))
            *earlier, latest = owners
            assert {each.attempt for each in latest} == {1}
            for owned in earlier:
                for each in owned:
                    with raises(ConflictError):
                        await store.release(
                            each.action_id, minutes(3), still_claimed(each.revision), counts=False
                        )
            for each in latest:
                assert (await store.get_action(each.action_id)).state is ActionState.PENDING
                await store.release(
                    each.action_id, minutes(3), still_claimed(each.revision), counts=False
                )

    async def test_what_was_not_handed_out_cannot_go_back(self) -> None:
        sample = Sample()
        action = sample.action()
        async with self.connect() as store:
            await start(store, action)
            with raises(ConflictError):
                await store.release(action.action_id, NOON, accept, counts=True)
            with raises(NotFoundError):
                await store.release("nothing", NOON, accept, counts=True)

    async def test_a_check_that_raises_leaves_everything_as_it_was(self) -> None:
        def refuse(_progress: ActionSnapshot) -> None:
            raise ConflictError("no")

        sample = Sample()
        action = sample.action(timeout=LIMIT)
        async with self.connect() as store:
            await start(store, action)
            await claim(store)
            for verb in (
                store.extend(action.action_id, minutes(3), refuse),
                store.release(action.action_id, NOON, refuse, counts=True),
            ):
                with raises(ConflictError):
                    await verb
            found = await store.get_action(action.action_id)
            assert (found.state, found.due_at) == (ActionState.PENDING, minutes(5))

    async def test_a_claim_that_nobody_waits_for_any_more_goes_back(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            actions = [sample.action() for _ in range(20)]
            await start(store, *actions)
            claims = [asyncio.ensure_future(store.claim(WORKER, NOON)) for _ in actions]
            await asyncio.sleep(0)
            for each in claims[::2]:
                each.cancel()
            await self.check_all_are_somewhere(store, actions, claims)

    async def test_a_claim_that_is_given_up_in_the_moment_it_is_answered_goes_back(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            actions = [sample.action() for _ in range(20)]
            await start(store, *actions)
            claims = [asyncio.ensure_future(store.claim(WORKER, NOON)) for _ in actions]

            async def give_up(claim: "asyncio.Future[Sequence[Claimed]]") -> None:
                await store.record(sample.event("Said"), NOTHING)
                claim.cancel()

            await asyncio.gather(*map(give_up, claims))
            await self.check_all_are_somewhere(store, actions, claims)

    async def check_all_are_somewhere(
        self,
        store: Store,
        actions: Sequence[NewAction],
        claims: "Sequence[asyncio.Future[Sequence[Claimed]]]",
    ) -> None:
        """Check that each action was either handed out or can be, never both and never neither."""
        await asyncio.gather(*claims, return_exceptions=True)
        kept = {
            claimed.action_id
            for each in claims
            if not each.cancelled()
            for claimed in each.result()
        }
        await store.ping()
        left = set()
        while claimed := await store.claim(WORKER, NOON):
            left.add(claimed[0].action_id)
        assert kept | left == {action.action_id for action in actions}
        assert not kept & left

    async def test_several_can_be_claimed_at_once(self) -> None:
        sample = Sample()
        actions = [sample.action(timeout=LIMIT) for _ in range(5)]
        async with self.connect() as store:
            await start(store, *actions)
            claimed = [
                *await store.claim(WORKER, NOON, limit=3),
                *await store.claim(WORKER, NOON, limit=3),
            ]
            assert [each.action_id for each in claimed] == [action.action_id for action in actions]
            assert len({each.lease for each in claimed}) == 5

    # ---------------------------------------------------------------------------- delays and clocks

    async def test_a_delayed_action_is_handed_out_when_its_time_has_come_and_in_its_turn(
        self,
    ) -> None:
        sample = Sample()
        late, now = sample.action(not_before=minutes(10)), sample.action()
        async with self.connect() as store:
            await start(store, late, now)
            assert (await store.get_action(late.action_id)).state is ActionState.NEW
            assert await take(store) == now.action_id
            await start(store, third := sample.action(), event=sample.event(event_id="other"))
            assert (await store.process_due(minutes(9), Ruling())).next_at == minutes(10)
            await store.process_due(minutes(10), Ruling())
            assert await take(store, minutes(10)) == late.action_id
            assert await take(store, minutes(10)) == third.action_id

    async def test_timers_survive(self) -> None:
        sample = Sample()
        action = sample.action(timeout=LIMIT)
        async with self.connect() as store:
            await start(store, action, sample.action(not_before=minutes(30)))
            await claim(store)
        async with self.connect() as store:
            assert (await store.process_due(minutes(4), Ruling())).next_at == minutes(5)
            assert (
                await store.process_due(minutes(5), Ruling(NeedsOperator()))
            ).next_at == minutes(30)
            assert len((await store.process_due(minutes(30), Ruling())).arrived) == 1

    async def test_timers_go_with_a_clock_that_was_set(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action(timeout=LIMIT), sample.action(not_before=minutes(30)))
            await claim(store)
            shifted = await store.process_due(minutes(62), Ruling(), shift=timedelta(hours=1))
            assert (shifted.done, shifted.next_at) == (0, minutes(65))

    async def test_no_lease_lasts_longer_than_its_limit_after_the_clock_was_set_back(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action(timeout=LIMIT))
            await claim(store, minutes(600))
            assert (
                await store.process_due(minutes(1), Ruling(), shift=timedelta(0))
            ).next_at == minutes(6)

    async def test_no_wait_is_longer_after_the_clock_was_set_back_while_no_server_ran(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            event = sample.event(at=minutes(600))
            await start(store, sample.action(not_before=minutes(630)), event=event)
        async with self.connect() as store:
            assert (
                await store.process_due(minutes(1), Ruling(), shift=timedelta(0))
            ).next_at == minutes(31)
            assert (
                await store.process_due(minutes(2), Ruling(), shift=timedelta(0))
            ).next_at == minutes(31)

    async def test_a_wait_that_began_while_a_change_of_the_clock_was_noticed_is_not_shortened(
        self,
    ) -> None:
        sample = Sample()
        async with self.connect() as store:
            if not store.is_shared:
                # Its only server moves the timers of what began meanwhile along with the others.
                return
            begun = minutes(1) + timedelta(milliseconds=300)
            await start(
                store,
                sample.action(not_before=begun + timedelta(minutes=30)),
                event=sample.event(at=begun),
            )
            advanced = await store.process_due(minutes(1), Ruling(), shift=timedelta(0))
            assert advanced.next_at == begun + timedelta(minutes=30)

    async def test_no_wait_is_longer_however_often_the_clock_was_set_back_while_no_server_ran(
        self,
    ) -> None:
        sample = Sample()
        lost, ruling = sample.action(timeout=LIMIT), Ruling(RetryAction(minutes(607)))
        async with self.connect() as store:
            await start(
                store,
                sample.action(not_before=minutes(630)),
                lost,
                event=sample.event(at=minutes(600)),
            )
            await claim(store, minutes(600))
            await store.process_due(minutes(605), ruling)
        for now in (300, 200, 1):
            async with self.connect() as store:
                assert (
                    await store.process_due(minutes(now), Ruling(), shift=timedelta(0))
                ).next_at == minutes(now + 2)
        async with self.connect() as store:
            assert (
                await store.process_due(minutes(3), Ruling(), shift=timedelta(0))
            ).next_at == minutes(31)
            assert await take(store, minutes(3)) == lost.action_id

    async def test_many_timers_are_dealt_with_in_steps(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, *[sample.action(timeout=LIMIT) for _ in range(25)])
            await store.claim(WORKER, NOON, limit=25)
            rules = Ruling(RetryAction(minutes(5)))
            assert (await store.process_due(minutes(5), rules, limit=10)).done == 10
            seen = len(rules.asked)
            while (
                advanced := await store.process_due(minutes(5), rules, limit=10)
            ).next_at is not None:
                assert advanced.done
            assert (seen, len(rules.asked)) == (10, 25)
            assert len(await store.claim(WORKER, minutes(5), limit=100)) == 25

    async def test_a_rule_that_needs_something_loaded_leaves_everything_as_it_was(self) -> None:
        sample = Sample()
        async with self.connect() as store:
            await start(store, sample.action(timeout=LIMIT))
            await claim(store)
            with raises(NotLoadedError):
                await store.process_due(minutes(5), Ruling())
            assert (await store.process_due(minutes(5), Ruling(NeedsOperator()))).done == 1
