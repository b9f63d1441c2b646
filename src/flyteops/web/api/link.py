"""Links: absolute addresses as seen by the client of the request.

Old clients find a link by the end of its `rel`, and the first match wins: the order of links is
part of the contract.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from urllib.parse import quote

from flyteops.model import Link

Headers = Mapping[bytes, bytes]
"""The headers of a request by lower-case name; of those sent more than once the last."""

SAFE_IN_SEGMENT = "!$&'()*+,;=:@"
"""Characters allowed unescaped in a path segment besides letters, digits and ``-._~`` (RFC 3986,
pchar)."""

HOST = re.compile(rb"[^\x00-\x20\x7f-\xff\"<>\\^`{|}?#,@]+")


def base_of(headers: Headers, scheme: str, server: tuple[str, int | None] | None) -> str:
    """Return the scheme and host under which the client sees this server.

    `scheme` and `server` are those of the connection.
    """
    forwarded = headers.get(b"x-forwarded-proto")
    if forwarded is not None:
        first = _first(forwarded).lower()
        scheme = first.decode() if first in (b"http", b"https") else scheme
    for name in (b"x-flyte-host", b"x-forwarded-host", b"host"):
        value = headers.get(name)
        if value is not None and (host := _host(value)) is not None:
            return f"{scheme}://{host}"
    host, port = server or ("localhost", None)
    return f"{scheme}://{host}" if port is None else f"{scheme}://{host}:{port}"


@lru_cache(maxsize=1_000)
def _host(value: bytes) -> str | None:
    first = _first(value)
    return first.decode() if HOST.fullmatch(first) else None


def _first(value: bytes) -> bytes:
    return value.partition(b",")[0].strip() if b"," in value else value.strip()


def segment(text: str) -> str:
    """Return text as one segment of a path."""
    if text.isascii() and text.isalnum():
        return text
    if text in (".", ".."):
        # Unescaped, clients would take them for this level and the one above.
        return text.replace(".", "%2E")
    return quote(text, safe=SAFE_IN_SEGMENT)


class Links:
    """The addresses of all resources, on the host that the client used."""

    __slots__ = ("base",)

    def __init__(self, base: str) -> None:
        self.base = base

    def link(self, path: str, rel: str) -> Link:
        return Link(self.base + path, rel)

    def location(self, path: str) -> tuple[bytes, bytes]:
        """Return the header with the address of a new resource."""
        return b"location", (self.base + path).encode()

    def named(self, path: str, rel: str) -> Link:
        """Return a link whose relation is a name on the server's API page (``pack/listPacks``)."""
        return Link(self.base + path, f"{self.base}/swagger#!/{rel}")

    def around(self, path: str, up: str, help_anchor: str) -> list[Link]:
        """Return the links that every resource has: itself, its parent, and its explanation."""
        return [
            self.link(path, "self"),
            self.link(up, "up"),
            self.link(f"/swagger#{help_anchor}", "help"),
        ]

    def page(self, path: str, up: str, help_anchor: str, following: str | None) -> list[Link]:
        """Return the links of a part of a list: the usual ones, and the next part, if any."""
        links = self.around(path, up, help_anchor)
        return links if following is None else [*links, self.link(f"{path}?{following}", "next")]

    def root(self) -> list[Link]:
        return [
            self.link("/", "self"),
            self.link("/swagger#/info", "help"),
            self.named("/v1", "info/v1"),
        ]

    def index(self) -> list[Link]:
        return [
            *self.around("/v1", "/", "!/info/v1"),
            self.named("/health", "info/health"),
            self.named("/v1/packs", "pack/listPacks"),
            self.named("/v1/flows", "flow/listFlows"),
            self.named("/v1/datastore", "datastore/listDatastoreItems"),
            self.named("/v1/audit/flows", "flowAudit/findFlows"),
            self.link("/v1/swagger", f"{self.base}/swagger"),
        ]

    def pack(self, pack_id: str, items: Iterable[str] = ()) -> list[Link]:
        path = pack_path(pack_id)
        return [
            self.link(path, "self"),
            self.link("/v1/packs", "up"),
            self.named(f"{path}/actions/take", "action/takeAction"),
            self.link(f"{path}/events", f"{self.base}/swagger#/event"),
            *(self.named(f"{path}/datastore/{segment(key)}", "pack/item") for key in items),
        ]

    def take(self, pack_id: str, command: str) -> Link:
        return self.named(
            f"{pack_path(pack_id)}/actions/take?commandName={quote(command, safe='')}",
            "action/takeAction",
        )

    def result(self, pack_id: str, action_id: str, lease: str | None = None) -> Link:
        path = f"{pack_path(pack_id)}/actions/{segment(action_id)}/result"
        return self.link(
            path if lease is None else f"{path}?lease={lease}", f"{self.base}/swagger#/actionResult"
        )

    def heartbeat(self, pack_id: str, action_id: str, lease: str) -> Link:
        path = f"{pack_path(pack_id)}/actions/{segment(action_id)}/heartbeat?lease={lease}"
        return self.link(path, f"{self.base}/swagger#/actionHeartbeat")

    def give_back(self, pack_id: str, action_id: str, lease: str | None, revision: int) -> Link:
        query = f"revision={revision}" if lease is None else f"lease={lease}"
        path = f"{pack_path(pack_id)}/actions/{segment(action_id)}/return?{query}"
        return self.link(path, f"{self.base}/swagger#/actionReturn")

    def resolution(self, action_id: str) -> Link:
        return self.named(f"/v1/actions/{segment(action_id)}/resolution", "action/resolveAction")

    def flow(self, name: str) -> list[Link]:
        return self.around(flow_path(name), "/v1/flows", "/flow")

    def item(self, key: str) -> Link:
        return self.link(item_path(key), "self")

    def execution(self, correlation_id: str, rel: str = "self") -> Link:
        return self.link(f"/v1/audit/flows/{segment(correlation_id)}", rel)

    def run(self, correlation_id: str) -> Link:
        return self.link(f"/v1/executions/{segment(correlation_id)}", "self")

    def event(self, event_id: str) -> list[Link]:
        return self.around(event_path(event_id), "/v1/audit/events", "/eventAudit")


def pack_path(pack_id: str) -> str:
    """Return the path of a pack."""
    return f"/v1/packs/{segment(pack_id)}"


def flow_path(name: str) -> str:
    """Return the path of a flow."""
    return f"/v1/flows/{segment(name)}"


def item_path(key: str) -> str:
    """Return the path of a datastore item."""
    return f"/v1/datastore/{segment(key)}"


def event_path(event_id: str) -> str:
    """Return the path of an event in the audit."""
    return f"/v1/audit/events/{segment(event_id)}"


def token_path(token_id: str) -> str:
    """Return the path of a token."""
    return f"/v1/tokens/{segment(token_id)}"


def hook_path(name: str) -> str:
    """Return the path of a hook, which is also the path that third parties call."""
    return f"/v1/hooks/{segment(name)}"


def collides(rel: str) -> bool:
    """Return whether clients would take a pack's own link with this relation for one of ours."""
    return rel in ("self", "up") or rel.endswith(("/actionResult", "/takeAction", "/event"))
