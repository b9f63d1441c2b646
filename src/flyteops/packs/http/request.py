"""The input of the command, and the HTTP request that it becomes."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

import httpx2
import msgspec

from flyteops import __version__
from flyteops.errors import InputError
from flyteops.sdk import seconds

Scalar = str | int | float | bool | None

_METHOD = re.compile(r"[A-Za-z]{1,20}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

# These follow from the URL, the body and the connection.
_OWN_HEADERS = {
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "proxy-authorization",
}

_AGENT = f"flyte-http/{__version__}"


class Auth(msgspec.Struct, forbid_unknown_fields=True):
    """The credentials: a token, or a name with a password."""

    bearer: str = ""
    username: str = ""
    password: str = ""

    def __post_init__(self) -> None:
        if bool(self.bearer) == bool(self.username):
            message = "give either bearer, or username and password"
            raise ValueError(message)


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """The input of the command."""

    url: str
    method: str = "GET"
    headers: dict[str, Scalar] = {}
    query: dict[str, Scalar | list[Scalar]] = {}
    json: Any = msgspec.UNSET
    form: dict[str, Scalar | list[Scalar]] | None = None
    text: str | None = None
    auth: Auth | None = None
    timeout: str | float | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=10)] = 2
    max_redirects: Annotated[int, msgspec.Meta(ge=0, le=20)] = 5

    def __post_init__(self) -> None:
        if [self.json is msgspec.UNSET, self.form is None, self.text is None].count(False) > 1:
            message = "give one body: json, form or text"
            raise ValueError(message)
        if not _METHOD.fullmatch(self.method) or self.method.upper() == "CONNECT":
            message = f"{self.method!r} is not a method such as GET or POST"
            raise ValueError(message)
        self.method = self.method.upper()
        if isinstance(self.timeout, str):
            self.timeout = seconds(self.timeout)
        if self.timeout is not None and not 0 < self.timeout <= 86400:
            message = f"a timeout of {self.timeout:g} s must be more than 0 and at most a day"
            raise ValueError(message)

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice has the same effect as once."""
        return self.method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE") or any(
            name.lower() == "idempotency-key" for name in self.headers
        )


def build(asked: Request) -> httpx2.Request:
    """Build the HTTP request; raise `InputError` if the input is invalid."""
    url = _url(asked.url)
    headers = {"User-Agent": _AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
    given = _headers(asked.headers)
    content, content_type = _content(asked)
    if content_type and not any(name.lower() == "content-type" for name in given):
        headers["Content-Type"] = content_type
    request = httpx2.Request(
        asked.method,
        url.copy_merge_params(_pairs(asked.query)) if asked.query else url,
        headers=httpx2.Headers(headers) | httpx2.Headers(given, encoding="latin-1"),
        content=content,
    )
    return request if asked.auth is None else _authorized(request, asked.auth)


def plain(url: httpx2.URL) -> httpx2.URL:
    """Return the URL without a name and password."""
    return url.copy_with(userinfo=b"")


def _url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text.strip())
    except httpx2.InvalidURL as error:
        message = f"the url is not valid: {error}"
        raise InputError(message) from error
    if url.userinfo:
        message = "the url contains a user name or password; use auth instead"
        raise InputError(message)
    if url.scheme not in ("http", "https") or not url.host:
        message = f"{text!r} is not a url such as https://api.example.com/things"
        raise InputError(message)
    return url


def _headers(given: Mapping[str, Scalar]) -> dict[str, str]:
    headers = {name: _text(value) for name, value in given.items() if value is not None}
    for name, value in headers.items():
        if name.lower() in _OWN_HEADERS:
            message = f"the header {name} cannot be set; it follows from the rest"
            raise InputError(message)
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            message = f"the header {name!r} holds characters that no header may hold"
            raise InputError(message)
    return headers


def _content(asked: Request) -> tuple[bytes | None, str | None]:
    if asked.json is not msgspec.UNSET:
        return msgspec.json.encode(asked.json), "application/json"
    if asked.form is not None:
        return str(
            httpx2.QueryParams(_pairs(asked.form))
        ).encode(), "application/x-www-form-urlencoded"
    if asked.text is not None:
        return asked.text.encode(), "text/plain; charset=utf-8"
    return None, None


def _pairs(given: Mapping[str, Scalar | list[Scalar]]) -> dict[str, list[str]]:
    every = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    return {
        name: [_text(value) for value in values if value is not None]
        for name, values in every.items()
    }


def _text(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _authorized(request: httpx2.Request, auth: Auth) -> httpx2.Request:
    if auth.username:
        return next(httpx2.BasicAuth(auth.username, auth.password).auth_flow(request))
    request.headers["Authorization"] = _headers({"Authorization": f"Bearer {auth.bearer}"})[
        "Authorization"
    ]
    return request
