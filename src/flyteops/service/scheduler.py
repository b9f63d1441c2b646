"""Processing of due timers: lost actions, delays and schedules, by the clock of this server."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial

from flyteops.background import BackgroundLoop
from flyteops.errors import UnavailableError
from flyteops.model import RoutingKey
from flyteops.service.aside import ACTION, SCHEDULE, SetAsideEntries, SetAsideKey
from flyteops.service.decider import Decider
from flyteops.service.flow import FlowRegistry
from flyteops.service.timer import (
    AWAY_AFTER,
    BEAT,
    PAUSE,
    AbsenceDetector,
    ClockMonitor,
    WakeupTimer,
)
from flyteops.storage.base import Store, TimerKey

LOGGER = logging.getLogger("flyte.service")

RETRY_AFTER = timedelta(seconds=1)
"""The pause before failed timers are retried."""

CLOCK_TOLERANCE = timedelta(seconds=5)
"""The largest difference between the clocks of a server and its store."""

TIMERS_AT_ONCE = 100
"""The number of timers processed in one transaction."""


def _timer(key: SetAsideKey) -> TimerKey:
    assert isinstance(key.place, TimerKey)  # noqa: S101 - the place of actions and schedules
    return key.place


class Scheduler:
    """Processes the due timers of a store, waking up by `timer`.

    `notify` is called with the addresses of available actions; `clock_fault` is the reason why
    timers are not processed, "" while they are.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - all that it works with comes from outside
        self,
        store: Store,
        watch: ClockMonitor,
        timer: WakeupTimer,
        flows: FlowRegistry,
        decider: Decider,
        aside: SetAsideEntries,
        notify: Callable[[Iterable[RoutingKey]], None],
    ) -> None:
        self._store = store
        self._clock, self._clock_watch, self._monotonic = watch.now, watch, watch.monotonic
        self._flows = flows
        self._aside = aside
        self._decider = decider
        self._timer = timer
        self._presence = AbsenceDetector(self._monotonic)
        self._notify = notify
        self.clock_fault = ""

    def check_clock(self, now: datetime | None) -> None:
        """Compare the clock with the store's time `now`.

        While they differ, no timers are processed.
        """
        if now is not None:
            self._clock_watch.note_store_time(now)
        ahead = timedelta(0) if now is None else self._clock_watch.clock() - now
        fault = ""
        if abs(ahead) > CLOCK_TOLERANCE:
            fault = (
                "The clock of this server and that of its store differ by"
                f" {abs(ahead).total_seconds():.0f} s; set it right."
            )
            if not self.clock_fault:
                LOGGER.warning("%s Until then, this server processes no timers.", fault)
        self.clock_fault = fault

    async def process_due(self) -> datetime | None:
        """Process due timers: retry or end lost actions, run scheduled steps.

        Return the next due time. A timer that fails is set aside and retried later.
        """
        if self.clock_fault:
            raise UnavailableError(self.clock_fault)
        await self.note_presence()
        now, shift = await self._look_at_clock()
        known = self._aside.keys((ACTION, SCHEDULE))
        leave_out = {_timer(key) for key in known if self._aside.is_waiting(key)}
        failed: set[SetAsideKey] = set()
        while True:
            store = partial(
                self._store.process_due,
                now,
                self._decider.timers_at(now),
                limit=TIMERS_AT_ONCE,
                shift=shift,
                leave_out=leave_out,
            )
            advanced = await self._flows.with_versions(store)
            # Timestamps of the other time made in the meantime are corrected by another move, by
            # zero.
            is_moved, shift = bool(shift), timedelta(0) if shift else None
            self._clock_watch.settle()
            self._notify(advanced.arrived)
            failures = {self._aside_key(each.key): each.error for each in advanced.failed}
            self._aside.report(failures)
            failed |= failures.keys()
            leave_out |= {each.key for each in advanced.failed}
            if not is_moved and (advanced.next_at is None or advanced.next_at > now):
                self._aside.resolve(
                    [key for key in known if key not in failed and _timer(key) not in leave_out]
                )
                self._decider.missed.report(failed=leave_out)
                return advanced.next_at
            # Let other tasks run: after a long downtime, thousands of timers may be due at once.
            await asyncio.sleep(0)
            self._watch_presence()

    async def _look_at_clock(self) -> tuple[datetime, timedelta | None]:
        """Return the time, and the shift for the timers in the store if the clock was set."""
        now, shift = self._clock_watch.read_clock()
        if not self._store.is_shared:
            return now, shift
        if not shift:
            return now, None
        # The times in the store come from several clocks, of which this may be the only one that
        # was set.
        self.check_clock((await self._store.read_change_counters()).now)
        if self.clock_fault:
            self._clock_watch.reject()
            raise UnavailableError(self.clock_fault)
        await self._store.renew_leases(now)
        return now, timedelta(0)

    def _aside_key(self, key: TimerKey) -> SetAsideKey:
        """Return the key under which a timer is set aside and listed."""
        if key.is_action:
            return SetAsideKey(ACTION, key.name, key)
        flow = self._flows.find_current(key.name)
        known = (
            flow is not None
            and flow.version.uuid == key.flow_uuid
            and key.step_index < len(flow.steps)
        )
        step = flow.steps[key.step_index].step.id if flow is not None and known else ""
        return SetAsideKey(SCHEDULE, f"{key.name}/{step or key.step_index}", key)

    def _watch_presence(self) -> None:
        """Detect an absence if checks are regular: timers may be processed at any time."""
        if self._presence.is_kept:
            self._presence.record_presence()

    async def note_presence(self) -> None:
        """Record that this server is running.

        Renew leases if no server was running before, as no result could be reported then.
        """
        self._watch_presence()
        if not self._presence.is_back and not (self._store.is_shared and self._presence.is_kept):
            return
        begun = self._monotonic()
        is_new = await self._store.renew_leases(
            self._clock(), if_unattended_for=AWAY_AFTER if self._store.is_shared else None
        )
        if is_new and self._monotonic() - begun > AWAY_AFTER.total_seconds():
            # The store was away in the middle, and the renewed leases began before that.
            await self._store.renew_leases(self._clock())
        self._presence.is_back = False

    async def run(self, loop: BackgroundLoop) -> None:
        """Process timers when they are due, until cancelled; failures are retried."""
        self._presence.record_presence()
        while True:
            self._timer.restart()
            try:
                next_at = await self.process_due()
                loop.succeeded()
                self._timer.expect([] if next_at is None else [next_at])
                await self._rest()
            # Timers go on after any failure; the loop reports it.
            except Exception as error:  # noqa: BLE001
                if str(error) != self.clock_fault:
                    self._presence.is_back = True
                    loop.failed(error)
                await self._timer.wait(RETRY_AFTER.total_seconds())

    async def _rest(self) -> None:
        """Return when a timer is due, or after a pause.

        Record meanwhile that this server is running.
        """
        for _ in range(round(PAUSE / BEAT)):
            if await self._timer.wait(BEAT):
                return
            await self.note_presence()
