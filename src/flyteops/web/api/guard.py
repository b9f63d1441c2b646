"""The guard against other web sites: browsers would carry their commands to a server on localhost.

The origin is compared with the Host that the browser itself sent; the headers of proxies
(X-Flyte-Host and the like) do not count here. One thing is allowed to other sites: a link to one of
our pages.

A page whose own name was made to point at the server (DNS rebinding) is not foreign by that. It is
recognized by its name, where only this computer can reach the server and so no other computer has a
name for it.
"""

from collections.abc import Container, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from flyteops.web.api.link import Headers
from flyteops.web.api.request import Request
from flyteops.web.api.response import Response

VARYING = (
    b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers,"
    b" Access-Control-Request-Private-Network"
)

ALLOWED_METHODS = (b"GET", b"POST", b"PUT", b"DELETE")

DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginGuard:
    """Knows the origins whose pages may send requests, and the `pages` that others may link to.

    With `local_names`, the server has no names but those of this computer, and the hosts of allowed
    origins.
    """

    def __init__(
        self, allowed_origins: Iterable[str], pages: Container[str], *, local_names: bool = False
    ) -> None:
        self._allowed_origins = frozenset(origin.lower().rstrip("/") for origin in allowed_origins)
        self._pages = pages
        self._local_names = local_names
        self._allowed_names = frozenset(
            urlsplit(origin).hostname for origin in self._allowed_origins
        )
        self._known_host = b""

    def is_wrong_host(self, headers: Headers) -> bool:
        """Return whether a request is for a host that is not this server."""
        host = headers.get(b"host", b"")
        if not self._local_names or not host or host == self._known_host:
            return False
        name = name_of(host.decode("latin-1"))
        if name is None or not (is_local(name) or name in self._allowed_names):
            return True
        self._known_host = host
        return False

    def is_cross_site(self, method: str, path: str, headers: Headers) -> bool:
        """Return whether a request comes from a foreign page and does more than follow a link."""
        return is_foreign(headers, self._allowed_origins) and not leads_to_page(
            method, path, headers, self._pages
        )


class CrossOrigin:
    """The permissions that browsers ask for on behalf of pages of other origins (CORS)."""

    def __init__(self, allowed_origins: Iterable[str]) -> None:
        self._allowed_origins = frozenset(origin.encode() for origin in allowed_origins)

    def permissions(self, headers: Headers) -> bytes:
        """Return the header lines of a response, for a page of the request's origin to read it."""
        origin = headers.get(b"origin")
        if origin is None:
            return b"vary: Origin\r\n"
        exposed = b"access-control-expose-headers: Location\r\n"
        if origin in self._allowed_origins:
            exposed += b"access-control-allow-origin: %b\r\n" % origin
        return exposed + b"vary: Origin\r\n"

    def is_preflight(self, request: Request) -> bool:
        """Return whether a browser asks before it sends the request of a page."""
        headers = request.headers
        return (
            request.method == "OPTIONS"
            and b"origin" in headers
            and b"access-control-request-method" in headers
        )

    def preflight(self, request: Request) -> Response:
        """Return the response to a preflight request."""
        asked = request.headers
        headers = [
            (b"vary", VARYING),
            (b"access-control-allow-methods", b", ".join(ALLOWED_METHODS)),
            (b"access-control-max-age", b"600"),
        ]
        failures = []
        if asked[b"origin"] in self._allowed_origins:
            headers.append((b"access-control-allow-origin", asked[b"origin"]))
        else:
            failures.append("origin")
        if asked[b"access-control-request-method"] not in ALLOWED_METHODS:
            failures.append("method")
        if b"access-control-request-headers" in asked:
            headers.append(
                (b"access-control-allow-headers", asked[b"access-control-request-headers"])
            )
        if b"access-control-request-private-network" in asked:
            failures.append("private-network")
        text = f"Disallowed CORS {', '.join(failures)}" if failures else "OK"
        return Response(
            400 if failures else 200, text.encode(), b"text/plain; charset=utf-8", tuple(headers)
        )


def is_foreign(headers: Headers, allowed_origins: Container[str]) -> bool:
    """Return whether the request was sent by another site's page, according to the browser."""
    origin = headers.get(b"origin")
    if origin is not None:
        text = origin.decode("latin-1").lower()
        return text not in allowed_origins and not is_own(
            text, headers.get(b"host", b"").decode("latin-1").lower()
        )
    return headers.get(b"sec-fetch-site") == b"cross-site"


def is_own(origin: str, host: str) -> bool:
    """Return whether an origin is that of the host itself, with any scheme.

    A missing port is the scheme's default.
    """
    try:
        parts = urlsplit(origin)
        own = urlsplit(f"//{host}")
        default = DEFAULT_PORTS[parts.scheme]
        return (
            bool(host)
            and origin == f"{parts.scheme}://{parts.netloc}"
            and (parts.hostname, parts.port or default) == (own.hostname, own.port or default)
        )
    except (KeyError, ValueError):
        return False


def name_of(host: str) -> str | None:
    """Return the name or address in a Host header, or None if it has none."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def is_local(name: str) -> bool:
    """Return whether a name is certainly local.

    Local are an address, a name that ends in localhost, and one without a domain.
    """
    try:
        ip_address(name)
    except ValueError:
        return "." not in name.rstrip(".") or name.rstrip(".").endswith(".localhost")
    return True


def leads_to_page(method: str, path: str, headers: Headers, pages: Container[str]) -> bool:
    """Return whether a person follows a link to one of our pages.

    Such a request changes nothing, and the other site sees nothing of the page.
    """
    return (
        method in ("GET", "HEAD")
        and path in pages
        and b"origin" not in headers
        and headers.get(b"sec-fetch-mode") == b"navigate"
        and headers.get(b"sec-fetch-dest", b"document") == b"document"
    )
