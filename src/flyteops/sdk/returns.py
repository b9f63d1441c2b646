"""Returns: actions that a pack gives back unstarted, each a limited number of times."""

import logging

from flyteops.errors import ConflictError, FlyteError
from flyteops.sdk.client import ClaimedAction, Client
from flyteops.sdk.clock import Clock

LOGGER = logging.getLogger("flyte.pack")

_MAX_RETURNS = 7
"""The maximum number of times an action is returned; after that, it is carried out here."""

_RETURN_PAUSE = 0.05
"""Seconds before the second return of an action; each further one takes twice as long."""

_MAX_KNOWN = 1000
"""The number of actions whose returns are counted; the oldest are forgotten first."""


class ActionReturns:
    """Give actions back, and count how often by action."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._counts: dict[str, int] = {}

    async def give_back(self, action: ClaimedAction) -> bool:
        """Give back an action; return False if it stays here.

        Each time an action returns, it is kept for longer, so that other instances can take it
        first. An action that the pack no longer has counts as given back: the response to an
        earlier try may have been lost.
        """
        key = action.result_url.partition("?")[0]
        count = self._counts.pop(key, 0)
        if count >= _MAX_RETURNS:
            return False
        if count:
            await self._clock.sleep(_RETURN_PAUSE * 2**count)
        try:
            await self._client.give_back(action)
        except ConflictError as error:
            LOGGER.info("%s no longer belongs to this pack: %s", action.command, error)
        except FlyteError as error:
            LOGGER.debug("%s cannot be given back: %s", action.command, error)
            return False
        self._counts[key] = count + 1
        while len(self._counts) > _MAX_KNOWN:
            self._counts.pop(next(iter(self._counts)))
        return True
