"""The clients that create work: they send events, call the hook, and change a flow meanwhile."""

import asyncio
import hmac
import json
import time
from hashlib import sha256

from flyteops_chaos.client import PAUSE, ChaosClient
from flyteops_chaos.flow import (
    HOOK,
    HOOKED,
    KINDS,
    PACK,
    SCHEDULES,
    VERSION,
    WORK,
    event_name,
    flow_name,
    flows,
    pack,
    schedule_flow,
    version_flow,
)
from flyteops_chaos.history import History, SentEvent

BACKLOG = 100
"""The number of acknowledged, unfinished events at which the senders wait for the packs."""

SECRET = "torture-secret"  # noqa: S105 - of a scratch server

TAKEOVER_SECONDS = 6.0
"""The maximum age of a version that a server still uses when another one has got a newer one."""

CHANGE_EVERY = 0.3


class Sender:
    """Sends events, each until it is acknowledged.

    `repeats` is the share of events sent again, as if the response had been lost.
    """

    def __init__(self, client: ChaosClient, history: History, *, repeats: float) -> None:
        self._client = client
        self._history = history
        self._rng = client.rng
        self._repeats = repeats
        self._number = 0

    async def prepare(self, delay_seconds: float) -> None:
        """Register the pack, save the flows and make the hook.

        Return when every server knows them.
        """
        await self._create("/v1/packs", pack())
        await self._create("/v1/hooks", {"name": HOOK, "secret": SECRET})
        for each in flows(delay_seconds):
            await self._create("/v1/flows", each)
        self._history.versions[1] = time.monotonic()
        known = [f"/v1/hooks/{HOOK}", *(f"/v1/flows/{flow_name(kind)}" for kind in KINDS)]
        for url in self._client.urls:
            for path in known:
                await self._client.insist("GET", path, accept=lambda status: status == 200, url=url)

    async def save_schedules(self) -> list[str]:
        """Save the flows that run by themselves at the first server, and return their names."""
        saved = [schedule_flow(number) for number in range(1, SCHEDULES + 1)]
        for each in saved:
            await self._create("/v1/flows", each)
        return [each["name"] for each in saved]

    async def _create(self, path: str, what: object) -> None:
        # A call that is repeated after its response was lost finds its own effect.
        accept = (201, 409) if path == "/v1/hooks" else (201,)
        await self._client.insist(
            "POST", path, accept=accept.__contains__, url=self._client.urls[0], json=what
        )

    async def run(self) -> None:
        """Send events without end."""
        while True:
            await self._keep_pace()
            kind = self._rng.choice((WORK, WORK, *KINDS))
            await self.send(kind)
            await asyncio.sleep(self._rng.random() * 0.02)

    async def send(self, kind: str, *, is_repeated: bool = False) -> int:
        """Send one event, sometimes or always twice; return its number once it is acknowledged."""
        self._number += 1
        number = self._number
        sent = self._history.send(number, kind, self._oldest_version() if kind == VERSION else 0)
        times = 2 if self._rng.random() < self._repeats or is_repeated else 1
        # Two at once, like a sender with a short time limit, or a proxy.
        await asyncio.gather(*(self._deliver(number, sent) for _ in range(times)))
        return number

    async def _deliver(self, number: int, sent: SentEvent) -> None:
        is_hook = sent.kind == HOOKED
        path = f"/v1/hooks/{HOOK}" if is_hook else f"/v1/packs/{PACK}/events"
        payload = {"number": number}
        body = json.dumps(
            payload if is_hook else {"event": event_name(sent.kind), "payload": payload}
        ).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": f"event-{number}"}
        if is_hook:
            headers["X-Signature-256"] = (
                f"sha256={hmac.new(SECRET.encode(), body, sha256).hexdigest()}"
            )
        await self._client.insist(
            "POST", path, accept=lambda status: status == 202, content=body, headers=headers
        )
        sent.is_acknowledged = True

    def _oldest_version(self) -> int:
        """Return the oldest version by which an event that is sent now may be evaluated."""
        known_since = time.monotonic() - (TAKEOVER_SECONDS if len(self._client.urls) > 1 else 0)
        return max(
            (version for version, at in self._history.versions.items() if at <= known_since),
            default=1,
        )

    async def _keep_pace(self) -> None:
        """Wait while the packs have much to do.

        An endless backlog would only measure which side is faster.
        """
        history = self._history
        # Counters wake nobody.
        while len(history.events) > history.calls["ended"] + BACKLOG:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE)

    async def change_flow(self) -> None:
        """Save one version after the other of a flow without end."""
        while True:
            await asyncio.sleep(CHANGE_EVERY * 2 * self._rng.random())
            await self.save_next_version()

    async def save_next_version(self) -> None:
        """Save the next version of the flow that changes."""
        version = self._history.newest_version = self._history.newest_version + 1
        await self._client.insist(
            "POST", "/v1/flows", accept=lambda status: status == 201, json=version_flow(version)
        )
        self._history.versions[version] = time.monotonic()
