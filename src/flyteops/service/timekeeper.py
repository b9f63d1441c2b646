"""Doing what is due: lost actions, delays and schedules, by the clocks of this server."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial

from flyteops.background import BackgroundLoop
from flyteops.engine import fire, rule_on_lost
from flyteops.errors import UnavailableError
from flyteops.model import Address, Outcome, Progress
from flyteops.moment import Moment
from flyteops.ruling import Ask, DueStep, Fail, Firing, Repeat
from flyteops.service.aside import ACTION, SCHEDULE, Aside, AsideKey
from flyteops.service.flow import FlowBook
from flyteops.service.missed import MissedRuns
from flyteops.service.timer import AWAY_AFTER, BEAT, PAUSE, ClockWatch, Presence, Timer
from flyteops.storage.base import Store, TimerKey
from flyteops.term import tick_of

LOGGER = logging.getLogger("flyte.service")

RETRY_AFTER = timedelta(seconds=1)
"""When to try again what is due and could not be done."""

CLOCK_TOLERANCE = timedelta(seconds=5)
"""How far the clocks of a server and its store may be apart."""

TIMERS_AT_ONCE = 100
"""How many timers are dealt with in one transaction."""


def _timer(key: AsideKey) -> TimerKey:
    assert isinstance(key.place, TimerKey)  # noqa: S101 - so it is for actions and schedules
    return key.place


class Timekeeper:
    """Does what is due in a store.

    `announce` is told for whom there are actions now; `clock_fault` says why nothing is done, "" while it is.
    """

    def __init__(self, store: Store, watch: ClockWatch, flows: FlowBook, aside: Aside, moment: Callable[[], Moment]) -> None:
        self._store = store
        self._clock, self._clock_watch, self._monotonic = watch.now, watch, watch.monotonic
        self._flows = flows
        self._aside = aside
        self._moment = moment
        self._timer = Timer(self._clock)
        self._presence = Presence(self._monotonic)
        self._missed = MissedRuns()
        self.announce: Callable[[Iterable[Address]], None] = lambda _: None
        self.clock_fault = ""

    def expect(self, times: Iterable[datetime]) -> None:
        """Note when something will be due."""
        self._timer.expect(times)

    def check_clock(self, now: datetime | None) -> None:
        """Compare the clock with the store's, which says `now`; while they differ, this server does nothing that is due."""
        if now is not None:
            self._clock_watch.note_store_time(now)
        ahead = timedelta(0) if now is None else self._clock_watch.clock() - now
        fault = ""
        if abs(ahead) > CLOCK_TOLERANCE:
            fault = f"The clock of this server and that of its store differ by {abs(ahead).total_seconds():.0f} s; set it right."
            if not self.clock_fault:
                LOGGER.warning("%s Until then, nothing is done by this server when its time comes.", fault)
        self.clock_fault = fault

    async def advance(self) -> datetime | None:
        """Do what is due now: hand lost actions out again or end them, run scheduled steps; return when to do so next.

        A timer that fails is set aside and tried again later.
        """
        if self.clock_fault:
            raise UnavailableError(self.clock_fault)
        await self.note_presence()
        now, shift = await self._look_at_clock()
        known = self._aside.keys((ACTION, SCHEDULE))
        leave_out = {_timer(key) for key in known if self._aside.waits(key)}
        failed: set[AsideKey] = set()
        while True:
            store = partial(self._store.advance, now, self, limit=TIMERS_AT_ONCE, shift=shift, leave_out=leave_out)
            advanced = await self._flows.with_versions(store)
            # What was stamped with the other time in the meantime is corrected by another move, by nothing.
            is_moved, shift = bool(shift), timedelta(0) if shift else None
            self._clock_watch.settle()
            self.announce(advanced.arrived)
            failures = {self._aside_key(each.key): each.error for each in advanced.failed}
            self._aside.report(failures)
            failed |= failures.keys()
            leave_out |= {each.key for each in advanced.failed}
            if not is_moved and (advanced.next_at is None or advanced.next_at > now):
                self._aside.resolve([key for key in known if key not in failed and _timer(key) not in leave_out])
                self._missed.report(failed=leave_out)
                return advanced.next_at
            # Others get their turn: after a long downtime, thousands may be due at once.
            await asyncio.sleep(0)
            self._watch_presence()

    async def _look_at_clock(self) -> tuple[datetime, timedelta | None]:
        """Return the time, and by how much the timers in the store are to be moved, as the clock was set."""
        now, shift = self._clock_watch.look()
        if not self._store.is_shared:
            return now, shift
        if not shift:
            return now, None
        # The times in the store are those of several clocks, of which this may be the only one that was set.
        self.check_clock((await self._store.look_around()).now)
        if self.clock_fault:
            self._clock_watch.reject()
            raise UnavailableError(self.clock_fault)
        await self._store.renew_leases(now)
        return now, timedelta(0)

    def _aside_key(self, key: TimerKey) -> AsideKey:
        """Return what a timer is called where it is listed."""
        if key.is_action:
            return AsideKey(ACTION, key.name, key)
        flow = self._flows.find(key.name)
        known = flow is not None and flow.version.uuid == key.flow_uuid and key.step_index < len(flow.steps)
        step = flow.steps[key.step_index].step.id if flow is not None and known else ""
        return AsideKey(SCHEDULE, f"{key.name}/{step or key.step_index}", key)

    def _watch_presence(self) -> None:
        """Notice an absence, if somebody looks regularly: `advance` alone may be called whenever one likes."""
        if self._presence.is_kept:
            self._presence.look()

    async def note_presence(self) -> None:
        """Note that this server is at work; let leases begin anew if none was: no result could be told to anybody."""
        self._watch_presence()
        if not self._presence.is_back and not (self._store.is_shared and self._presence.is_kept):
            return
        begun = self._monotonic()
        is_new = await self._store.renew_leases(self._clock(), if_unattended_for=AWAY_AFTER if self._store.is_shared else None)
        if is_new and self._monotonic() - begun > AWAY_AFTER.total_seconds():
            # The store was away in the middle, and they have begun before that.
            await self._store.renew_leases(self._clock())
        self._presence.is_back = False

    async def keep(self, loop: BackgroundLoop) -> None:
        """Do what is due whenever it is, until cancelled; what fails is tried again."""
        self._presence.look()
        while True:
            self._timer.restart()
            try:
                next_at = await self.advance()
                loop.succeeded()
                self._timer.expect([] if next_at is None else [next_at])
                await self._rest()
            except Exception as error:  # time goes on, whatever it is; the loop reports it
                if str(error) != self.clock_fault:
                    self._presence.is_back = True
                    loop.failed(error)
                await self._timer.wait(RETRY_AFTER.total_seconds())

    async def _rest(self) -> None:
        """Return when something is due, or after a pause; note meanwhile that this server is at work."""
        for _ in range(round(PAUSE / BEAT)):
            if await self._timer.wait(BEAT):
                return
            await self.note_presence()

    def lost(self, progress: Progress) -> Repeat | Ask | Fail:
        """Say what becomes of an action whose pack was silent for too long."""
        flow = self._flows.version(progress.flow_name, progress.flow_uuid)
        return rule_on_lost(self._flows.index, flow, progress, self._moment())

    def due(self, step: DueStep) -> Firing:
        """Say what a step does whose time has come."""
        # The version is the store's, which may have come there a moment ago, and not be current here yet.
        flow = self._flows.version(step.flow_name, step.flow_uuid)
        schedule = None if flow is None else flow.steps[step.step_index].step.schedule
        if flow is None or schedule is None:
            return Firing(None, Outcome(), None)
        moment = self._moment()
        ticked = tick_of(schedule, step.due_at, moment.now)
        self._missed.note(step, flow.steps[step.step_index].step, moment.now, ticked)
        if ticked.fires_for is None:
            return Firing(None, Outcome(), ticked.next_at)
        event, outcome = fire(flow, step.step_index, ticked.fires_for, moment)
        return Firing(event, outcome, ticked.next_at)
