"""The return of undelivered claims to their queues, however long the database does not answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime

from flyteops.background import BackgroundLoop
from flyteops.errors import ConflictError, FlyteError, NotFoundError, UnavailableError
from flyteops.model import ActionSnapshot, ActionState
from flyteops.storage.base import Check, Claimed

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

LOGGER = logging.getLogger("flyte.store")

RETURNING = "Returning commands that reached nobody"
"""The background loop's name in readiness reports."""

PAUSE = 0.5
"""The pause in seconds between two rounds while claims remain to be returned."""

LATE = 60.0
"""Seconds after the database answers again in which a claim may still be carried out.

Applies to claims whose answer was lost.
"""

GIVING_BACK = 1.0
"""The seconds for which a cancelled claim waits for the return of its actions."""

STOPPING = 2.0
"""The seconds that a stopping server takes to return the remaining claims."""

Find = Callable[[Sequence[str]], Awaitable[Sequence[tuple[str, int]]]]
"""Finds the PENDING actions that were claimed with one of these tokens: their ids and revisions."""

Release = Callable[[str, int, datetime], Awaitable[None]]
"""Makes an action NEW again at a time.

Raises `ConflictError` or `NotFoundError` when the claim of that revision is over.
"""


class ClaimTokens:
    """The tokens of a claim, one per try, so that a late answer is never taken for another."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._sent: list[str] = []

    def next(self) -> tuple[str, Sequence[str]]:
        """Return the token for the next try, and those of the previous tries."""
        before = tuple(self._sent)
        self._sent.append(f"{self._token}.{len(before)}" if before else self._token)
        return self._sent[-1], before

    @property
    def all(self) -> Sequence[str]:
        return tuple(self._sent)

    @property
    def unanswered(self) -> Sequence[str]:
        """The tokens of all tries but the last, which was answered."""
        return tuple(self._sent[:-1])


def still_claimed(revision: int) -> Check:
    """Return a check that the claim of that revision is not over.

    The attempt number would not do: it is used again after a release that does not count.
    """

    def check(progress: ActionSnapshot) -> None:
        if progress.state is not ActionState.PENDING or progress.revision != revision:
            raise ConflictError(f"Action {progress.action_id!r} is {progress.state} by now.")

    return check


class Undelivered:
    """The claims to be returned, and the task that returns them."""

    def __init__(self, find: Find, release: Release, loop: Callable[[str], BackgroundLoop]) -> None:
        self._find = find
        self._release = release
        self._loop = loop
        self._at = EPOCH
        self._tokens: dict[str, float | None] = {}
        self._claims: dict[str, int] = {}
        self._has_some = asyncio.Event()
        self._is_stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task."""
        self._is_stopping.clear()
        self._task = asyncio.ensure_future(self._work())

    async def stop(self) -> None:
        """Return the remaining claims if the database answers soon, and end."""
        task, self._task = self._task, None
        if task is None:
            return
        self._is_stopping.set()
        self._has_some.set()
        await task

    def look_for(self, tokens: Iterable[str], at: datetime) -> None:
        """Return actions claimed now or later with these tokens, of lost answers.

        The claims were made at that time.
        """
        self._tokens.update(dict.fromkeys(tokens))
        self._wake(at)

    def add(self, claimed: Iterable[Claimed], at: datetime) -> None:
        """Return these, which were claimed at that time."""
        self._claims.update({each.action_id: each.revision for each in claimed})
        self._wake(at)

    async def give_back(self, claiming: Awaitable[Sequence[Claimed]], at: datetime) -> None:
        """Return the actions of a claim whose caller is gone, once the claim is answered."""
        with suppress(FlyteError):  # those that may have been claimed all the same are looked up
            for each in await claiming:
                try:
                    await self._release(each.action_id, each.revision, at)
                except UnavailableError:
                    self.add([each], at)

    def _wake(self, at: datetime) -> None:
        self._at = max(self._at, at)
        if self._tokens or self._claims:
            self._has_some.set()

    async def _work(self) -> None:
        while not self._is_stopping.is_set():
            await self._has_some.wait()
            self._has_some.clear()
            await self._round()
            if self._tokens or self._claims:
                self._has_some.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE):
                        await self._is_stopping.wait()
        if self._tokens or self._claims:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._round()), STOPPING)
        if self._claims:
            LOGGER.warning(
                "%d commands reached nobody and could not be returned; find them with `flyte"
                " actions list --overdue`: %s",
                len(self._claims),
                ", ".join(sorted(self._claims)[:10]),
            )

    async def _round(self) -> None:
        try:
            await self._look()
            for action_id, revision in list(self._claims.items()):
                # Last in the next round, if it fails: others must not wait for one that cannot be
                # read.
                self._claims[action_id] = self._claims.pop(action_id)
                with suppress(ConflictError, NotFoundError):  # that claim is over
                    await self._release(action_id, revision, self._at)
                del self._claims[action_id]
        except Exception as error:  # noqa: BLE001 - the loop goes on after any error
            self._loop(RETURNING).failed(error)
        else:
            self._loop(RETURNING).succeeded()

    async def _look(self) -> None:
        tokens = list(self._tokens)
        if not tokens:
            return
        self._claims.update(await self._find(tokens))
        now = asyncio.get_running_loop().time()
        for token in tokens:
            answered_at = self._tokens[token]
            if answered_at is None:
                self._tokens[token] = now
            elif now - answered_at > LATE:
                del self._tokens[token]
