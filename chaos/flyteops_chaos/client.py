"""An HTTP client for servers that are stopped and restarted."""

import asyncio
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import httpx2

from flyteops_chaos.history import History

UNANSWERED = (httpx2.TransportError, httpx2.TimeoutException)

PATIENCE = 30.0
"""The maximum number of seconds for a response.

A killed server closes its connections, so clients never wait that long for it.
"""

IDENTIFIER = re.compile(r"/(?=[^/]*\d)[^/]{6,}|(?<=hooks/)\w+")
"""The parts of a path that differ from request to request."""

PAUSE = 0.05


class ChaosClient:
    """Calls any of the servers. Each response that no client should ever get is recorded."""

    def __init__(self, urls: Sequence[str], history: History, rng: Random) -> None:
        self.urls = urls
        self.history = history
        self.rng = rng
        limits = httpx2.Limits(max_connections=200, max_keepalive_connections=200)
        self._http = httpx2.AsyncClient(timeout=PATIENCE, limits=limits)

    async def close(self) -> None:
        await self._http.aclose()

    async def call(
        self, method: str, path: str, *, url: str | None = None, **options: Any
    ) -> httpx2.Response:
        """Make one call; raise one of `UNANSWERED` if there is no response."""
        is_calm = self.history.is_calm
        try:
            answer = await self._http.request(
                method, f"{url or self.rng.choice(self.urls)}{path}", **options
            )
        except UNANSWERED:
            self.history.calls["none"] += 1
            raise
        self.history.calls[f"{answer.status_code}"] += 1
        if answer.status_code >= 500 and (is_calm or answer.status_code != 503):
            self._complain(method, path, answer)
        return answer

    def _complain(self, method: str, path: str, answer: httpx2.Response) -> None:
        """Record a response that is the server's fault.

        While faults are injected, 503 is allowed.
        """
        shape = IDENTIFIER.sub("/…", path.partition("?")[0])
        self.history.unexpected[
            f"{method} {shape} was answered with {answer.status_code}: {answer.text[:200]}"
        ] += 1

    async def insist(
        self,
        method: str,
        path: str,
        *,
        accept: Callable[[int], bool],
        url: str | None = None,
        **options: object,
    ) -> httpx2.Response:
        """Repeat a call until the server responds with a status that is accepted."""
        while True:
            try:
                answer = await self.call(method, path, url=url, **options)
                if accept(answer.status_code):
                    return answer
            except UNANSWERED:
                pass
            await asyncio.sleep(PAUSE)

    async def get(self, path: str) -> Any:  # noqa: ANN401 - JSON of any form
        """Return the content at a path, as soon as a server returns it."""
        return (await self.insist("GET", path, accept=lambda status: status == 200)).json()

    async def wait_until_ready(self) -> None:
        """Return when every server is ready."""
        for url in self.urls:
            while not await self._is_ready(url):  # noqa: ASYNC110 - another process gets ready
                await asyncio.sleep(PAUSE)

    async def _is_ready(self, url: str) -> bool:
        try:
            return (await self._http.get(f"{url}/health/ready")).status_code == 200
        except UNANSWERED:
            return False

    async def executions(self) -> list[dict[str, Any]]:
        """Return all executions in the audit, each once."""
        found: dict[str, dict[str, Any]] = {}
        start = 0
        while page := (await self.get(f"/v1/audit/flows?start={start}&limit=500"))["flows"]:
            start += len(page)
            found |= {execution["correlationId"]: execution for execution in page}
        return list(found.values())

    async def unfinished(self) -> list[dict[str, Any]]:
        """Return the actions that have not ended, 1,000 at most."""
        found: list[dict[str, Any]] = (
            await self.get("/v1/actions?state=NEW,PENDING,UNKNOWN&limit=1000")
        )["actions"]
        return found
