"""The knowledge of the clients: all their requests, and all responses."""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class SentEvent:
    """A numbered event. Times are those of the clients' monotonic clock.

    `version` is the oldest version of the flow that changes by which the event may be evaluated.
    One that `is_calm` was sent after the last injected fault.
    """

    kind: str
    sent_at: float
    version: int = 0
    is_calm: bool = False
    is_acknowledged: bool = False


@dataclass(frozen=True)
class HandOut:
    """An action that a client has received."""

    action_id: str
    command: str
    attempt: int
    input: Mapping[str, Any]
    at: float

    @property
    def number(self) -> int | None:
        return int(self.input["number"]) if "number" in self.input else None


@dataclass
class SentResult:
    """The result of an attempt. `status` is the final response, None until there is one."""

    event: str
    payload: Mapping[str, Any]
    sent_at: float
    status: int | None = None
    code: str = ""


@dataclass
class History:
    """All that is known about a run from outside the servers.

    `hand_outs` has for each action the hand-outs that clients received, in this order; `results` is
    by action and attempt. `unexpected` counts responses that no client should get. `clock_changes`
    are the times at which the clock of a server was set, `clock_spreads` the seconds by which the
    clocks of the servers differed from then on, `versions` the times at which a version of the
    changing flow was acknowledged; `schedules` has for each scheduled flow a time before and after
    which it was saved, by the clock of its server.
    """

    events: dict[int, SentEvent] = field(default_factory=dict)
    hand_outs: dict[str, list[HandOut]] = field(default_factory=lambda: defaultdict(list))
    results: dict[tuple[str, int], SentResult] = field(default_factory=dict)
    unexpected: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    clock_changes: list[float] = field(default_factory=list)
    clock_spreads: list[tuple[float, float]] = field(default_factory=list)
    versions: dict[int, float] = field(default_factory=dict)
    newest_version: int = 1
    schedules: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)
    is_calm: bool = False
    kills: int = 0

    def clock_spread(self, begin: float, end: float) -> float:
        """Return the maximum difference in seconds of the servers' clocks between two times."""
        before = [spread for at, spread in self.clock_spreads if at <= begin]
        meanwhile = [spread for at, spread in self.clock_spreads if begin < at <= end]
        return max([*before[-1:], *meanwhile], default=0.0)

    def send(self, number: int, kind: str, version: int = 0) -> SentEvent:
        """Record that an event is about to be sent for the first time."""
        sent = self.events[number] = SentEvent(kind, time.monotonic(), version, self.is_calm)
        return sent

    def hand_out(self, action: Mapping[str, Any], action_id: str) -> HandOut:
        """Record that a client has received an action."""
        received = HandOut(
            action_id,
            action["command"],
            action.get("attempt", 1),
            action["input"],
            time.monotonic(),
        )
        self.hand_outs[action_id].append(received)
        return received

    def answer(self, received: HandOut, event: str, payload: Mapping[str, Any]) -> SentResult:
        """Record that a result is about to be sent for the first time."""
        sent = self.results[received.action_id, received.attempt] = SentResult(
            event, payload, time.monotonic()
        )
        return sent

    @property
    def acknowledged(self) -> list[int]:
        """The numbers of the events that were acknowledged."""
        return [number for number, event in self.events.items() if event.is_acknowledged]

    @property
    def applied(self) -> dict[str, SentResult]:
        """The results that were answered with 202, by action."""
        return {
            action_id: result
            for (action_id, _), result in self.results.items()
            if result.status == 202
        }
