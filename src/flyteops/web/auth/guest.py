"""Packs admitted without a token, by address and name: those from before 2019 cannot send one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from flyteops.errors import NotFoundError, UnauthorizedError
from flyteops.model import Pack, PackDeclaration, pack_id
from flyteops.network import PackNetwork, address_of
from flyteops.web.api.link import Headers
from flyteops.web.auth.policy import AS_PACK, Policy, PolicyEntry

POLICY = Policy(
    [
        PolicyEntry("/v1", ["GET"]),
        PolicyEntry("/v1/packs", ["POST"]),
        *(PolicyEntry(path, [method]) for path, method in AS_PACK),
    ]
)
"""The requests that such packs make."""

OF_PROXIES = frozenset(
    [
        b"forwarded",
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-flyte-host",
        b"x-real-ip",
    ]
)
"""Headers of proxies: the address of the peer is the proxy's, and any client may be behind it."""

OF_BROWSERS = frozenset([b"origin", b"referer", b"sec-fetch-site", b"accept-language", b"cookie"])
"""Headers of browsers: a page under a name that points to this server (DNS rebinding) sends
requests from its reader's computer."""

Find = Callable[[str], Awaitable[Pack]]


class TrustedSender(NamedTuple):
    """The sender of a request without a token, and the packs that need none from that address."""

    address: str
    packs: Sequence[PackNetwork]

    def check_may_register(self, declaration: PackDeclaration) -> None:
        """Raise `UnauthorizedError` unless the declaration is of one of these packs."""
        if not any(each.is_for(declaration.name, declaration.labels) for each in self.packs):
            names = ", ".join(map(str, self.packs))
            raise UnauthorizedError(
                f"Without a token, {self.address} may register only the packs in"
                f" FLYTE_PACKS_WITHOUT_TOKEN, with exactly these names and labels: {names}."
            )


class TrustedPacks:
    """The packs that need no token.

    `find` returns a registered pack by its id or raises `NotFoundError`.
    """

    def __init__(self, packs: Sequence[PackNetwork], find: Find) -> None:
        self._packs = packs
        self._find = find

    async def find(
        self, method: str, path: str, headers: Headers, client: tuple[str, int] | None
    ) -> TrustedSender | None:
        """Return the sender of a request if its address admits it.

        `client` is the peer of the connection.
        """
        match = POLICY.find(method, path)
        packs = self._at(client)
        if match is None or not packs or not _is_direct(headers):
            return None
        guest = TrustedSender(str(address_of(client[0])) if client else "", packs)
        if "pack" not in match.params or await self._is_own(match.params["pack"], packs):
            return guest
        return None

    def is_behind_proxy(self, headers: Headers, client: tuple[str, int] | None) -> bool:
        """Return whether the address would admit the request, had a proxy not sent it."""
        return bool(self._at(client)) and not OF_PROXIES.isdisjoint(headers)

    def _at(self, client: tuple[str, int] | None) -> list[PackNetwork]:
        address = None if client is None else address_of(client[0])
        return [] if address is None else [each for each in self._packs if address in each.network]

    async def _is_own(self, wanted: str, packs: Sequence[PackNetwork]) -> bool:
        """Return whether an id belongs to one of these packs.

        An id does not if it is that of another pack, whose name and labels make the same id.
        """
        if not any(_may_have(each, wanted) for each in packs):
            return False
        try:
            pack = await self._find(wanted)
        except NotFoundError:
            return True  # the answer is 404, and the pack registers again
        return any(each.is_for(pack.name, pack.labels) for each in packs)


def _may_have(pack: PackNetwork, wanted: str) -> bool:
    if pack.labels is None:
        return wanted == pack.name or wanted.startswith(f"{pack.name}.")
    return wanted == pack_id(pack.name, pack.labels)


def _is_direct(headers: Headers) -> bool:
    return (
        b"authorization" not in headers
        and OF_PROXIES.isdisjoint(headers)
        and OF_BROWSERS.isdisjoint(headers)
    )
