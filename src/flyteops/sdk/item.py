"""Datastore items for a pack: declared ones at their own address, others at the general one."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec

from flyteops.errors import InputError, NotFoundError, UnauthorizedError
from flyteops.sdk.client import Client, Registration
from flyteops.sdk.declaration import Declaration

_JSON_TYPES = ("application/json", "text/json")


class ItemReader:
    """The items of one run of a pack.

    `register_again` is called when the server has lost its registration.
    """

    def __init__(
        self,
        client: Client,
        declaration: Declaration,
        register_again: Callable[[Registration], Awaitable[None]],
    ) -> None:
        self._client = client
        self._declaration = declaration
        self._register_again = register_again

    # JSON of any form.
    async def read(self, key: str, registration: Registration | None) -> Any:  # noqa: ANN401
        """Return an item as templates see it."""
        answer = await self._get(key, registration)
        if answer.headers.get("Content-Type", "").partition(";")[0].strip() not in _JSON_TYPES:
            return answer.text
        try:
            return msgspec.json.decode(answer.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message = f"the datastore item {key!r} is not valid JSON: {error}"
            raise InputError(message) from error

    async def _get(self, key: str, registration: Registration | None) -> httpx2.Response:
        refusal: UnauthorizedError | None = None
        if registration is not None and key in registration.item_urls:
            try:
                return await self._get_own(registration.item_urls[key], registration)
            except UnauthorizedError as error:
                refusal = error  # by a policy older than items of packs; it may admit the pack here
        try:
            return await self._client.request("GET", f"/v1/datastore/{quote(key, safe='')}")
        except UnauthorizedError as error:
            if refusal is not None:
                raise refusal from error
            name = self._declaration.name
            if key in self._declaration.items:
                raise
            message = (
                f"{error.message} The pack must declare the items it reads: Pack({name!r},"
                f" items=[{key!r}])."
            )
            raise UnauthorizedError(message, error=error.error) from error

    async def _get_own(self, url: str, registration: Registration) -> httpx2.Response:
        """Read an item that the pack has declared.

        Register again if the server does not know the pack.
        """
        try:
            return await self._client.request("GET", url)
        except NotFoundError:
            if not registration.self_url or await self._is_known(registration):
                raise
        await self._register_again(registration)
        return await self._client.request("GET", url)

    async def _is_known(self, registration: Registration) -> bool:
        try:
            await self._client.request("GET", registration.self_url)
        except NotFoundError:
            return False
        return True
