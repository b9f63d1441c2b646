"""Packs without a token, let in by their address and name: those from before 2019 cannot send one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from flyteops.errors import NotFoundError, UnauthorizedError
from flyteops.model import Pack, PackDeclaration, pack_id
from flyteops.network import PackNetwork, address_of
from flyteops.web.auth.policy import AS_PACK, Entry, Policy
from flyteops.web.link import Headers

POLICY = Policy([Entry("/v1", ["GET"]), Entry("/v1/packs", ["POST"]), *(Entry(path, [method]) for path, method in AS_PACK)])
"""The requests that such packs make."""

OF_PROXIES = frozenset(
    [b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-flyte-host", b"x-real-ip"]
)
"""Headers of proxies: the address of the peer is that of the proxy, and anybody may be behind it."""

OF_BROWSERS = frozenset([b"origin", b"referer", b"sec-fetch-site", b"accept-language", b"cookie"])
"""Headers of browsers: a page that was given a name of this server (DNS rebinding) asks from the computer of its reader."""

Find = Callable[[str], Awaitable[Pack]]


class Guest(NamedTuple):
    """Who makes a request without a token, and which packs are let in without one from that address."""

    address: str
    packs: Sequence[PackNetwork]

    def check_may_register(self, declaration: PackDeclaration) -> None:
        """Raise `UnauthorizedError` unless it is one of these packs."""
        if not any(each.is_for(declaration.name, declaration.labels) for each in self.packs):
            names = ", ".join(map(str, self.packs))
            raise UnauthorizedError(
                f"Without a token, {self.address} may register what FLYTE_PACKS_WITHOUT_TOKEN says, with exactly these names"
                f" and labels: {names}."
            )


class Guests:
    """The packs that need no token; `find` returns a registered pack by its id or raises `NotFoundError`."""

    def __init__(self, packs: Sequence[PackNetwork], find: Find) -> None:
        self._packs = packs
        self._find = find

    async def find(self, method: str, path: str, headers: Headers, client: tuple[str, int] | None) -> Guest | None:
        """Return who makes a request, if it is let in by its address; `client` is the peer of the connection."""
        match = POLICY.find(method, path)
        packs = self._at(client)
        if match is None or not packs or not _is_direct(headers):
            return None
        guest = Guest(str(address_of(client[0])) if client else "", packs)
        if "pack" not in match.params or await self._is_own(match.params["pack"], packs):
            return guest
        return None

    def is_behind_proxy(self, headers: Headers, client: tuple[str, int] | None) -> bool:
        """Tell whether the address would let in, if a proxy had not sent the request."""
        return bool(self._at(client)) and not OF_PROXIES.isdisjoint(headers)

    def _at(self, client: tuple[str, int] | None) -> list[PackNetwork]:
        address = None if client is None else address_of(client[0])
        return [] if address is None else [each for each in self._packs if address in each.network]

    async def _is_own(self, wanted: str, packs: Sequence[PackNetwork]) -> bool:
        """Tell whether an id is that of one of these packs, and not of another whose name and labels make the same id."""
        if not any(_may_have(each, wanted) for each in packs):
            return False
        try:
            pack = await self._find(wanted)
        except NotFoundError:
            return True  # it is answered with 404, upon which a pack registers again
        return any(each.is_for(pack.name, pack.labels) for each in packs)


def _may_have(pack: PackNetwork, wanted: str) -> bool:
    if pack.labels is None:
        return wanted == pack.name or wanted.startswith(f"{pack.name}.")
    return wanted == pack_id(pack.name, pack.labels)


def _is_direct(headers: Headers) -> bool:
    return b"authorization" not in headers and OF_PROXIES.isdisjoint(headers) and OF_BROWSERS.isdisjoint(headers)
