"""The users and channels behind the ids of Slack."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from flyteops.errors import FlyteError, ForbiddenError, NotFoundError, UnavailableError
from flyteops.packs.chatops.cache import Cache
from flyteops.packs.chatops.message import Channel, User
from flyteops.packs.slack.api import SlackApi

LOGGER = logging.getLogger("flyte.slack")

USERS_KEPT = 3600.0
"""Seconds for which a user is not looked up again."""

_LOOK_AGAIN = 60.0
_PATIENCE = 10.0


class Directory:
    """Looks up users and channels, and remembers them.

    `renew_channels` is the number of seconds for which the list of channels is valid.
    """

    def __init__(self, api: SlackApi, renew_channels: float, now: Callable[[], float]) -> None:
        self._api = api
        self._renew_channels = renew_channels
        self._users: Cache[User] = Cache(USERS_KEPT, now)
        self._channels: Cache[dict[str, Channel]] = Cache(renew_channels, now)

    async def user(self, user_id: str) -> User:
        """Return a user.

        One that cannot be looked up has only an id, since the message matters more than its author.
        """
        if not user_id:
            return User("", "")
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._users.get(user_id, lambda: self._look_up_user(user_id))
        except (UnavailableError, TimeoutError) as error:
            LOGGER.warning(
                "the user %s could not be looked up: %s",
                user_id,
                str(error) or f"no answer within {_PATIENCE:g} s",
            )
            return User(user_id, "")

    async def channel(self, name: str) -> Channel:
        """Return the channel with a name.

        Raise `NotFoundError` if there is none, even in a fresh list.
        """
        for age in (self._renew_channels, _LOOK_AGAIN):
            channels = await self._channels.get("", self._list_channels, at_most=age)
            if name in channels:
                return channels[name]
        raise NotFoundError("can't find channel with such name")

    async def channel_name(self, channel_id: str) -> str | None:
        """Return the name of the channel with an id, if it is in the list."""
        channels = await self._channels.get("", self._list_channels)
        return next(
            (channel.name for channel in channels.values() if channel.id == channel_id), None
        )

    async def _look_up_user(self, user_id: str) -> User:
        try:
            return _user(user_id, await self._api.user(user_id))
        except UnavailableError:
            raise
        except FlyteError as error:
            LOGGER.warning("the user %s cannot be looked up: %s", user_id, error)
            return User(user_id, "")

    async def _list_channels(self) -> dict[str, Channel]:
        try:
            listed = await self._api.channels("public_channel,private_channel")
        except ForbiddenError:  # an app without the scope groups:read
            listed = await self._api.channels("public_channel")
        found = (_channel(each) for each in listed)
        return {channel.name: channel for channel in found}


def _user(user_id: str, found: dict[str, Any]) -> User:
    profile = found.get("profile") or {}
    return User(
        id=found.get("id") or user_id,
        name=found.get("name") or "",
        email=profile.get("email") or "",
        title=profile.get("title") or "",
        first_name=profile.get("first_name") or "",
        last_name=profile.get("last_name") or "",
    )


def _channel(found: dict[str, Any]) -> Channel:
    topic = (found.get("topic") or {}).get("value") or ""
    return Channel(found.get("id") or "", found.get("name") or "", topic)
