"""The connection of commands to a server."""

import os
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

import click
import msgspec

from flyteops.errors import InputError, SettingsError, UnavailableError
from flyteops.sdk import Environment
from flyteops.sdk.client import Client

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"

CLIENT_VARIABLES = ("FLYTE_JWT", "FLYTE_JWT_FILE", "FLYTE_API_TIMEOUT", "FLYTE_CA_CERT_FILE")


def api_url() -> str:
    """Return the server's address: that of `--url`, else of `FLYTE_API`, else the local default."""
    chosen = click.get_current_context().meta.get("url")
    return str(
        chosen
        or os.environ.get("FLYTE_API", "").strip()
        or os.environ.get("FLYTE_API_URL", "").strip()
        or DEFAULT_URL
    )


def connect() -> Client:
    """Return a client of that server; use it as an asynchronous context manager."""
    variables = {name: os.environ[name] for name in CLIENT_VARIABLES if name in os.environ}
    try:
        return Client.of(Environment.read({**variables, "FLYTE_API": api_url()}))
    except SettingsError as error:
        if "url" not in click.get_current_context().meta:
            raise
        problems = [
            msgspec.structs.replace(each, path="--url") if each.path == "FLYTE_API" else each
            for each in error.problems
        ]
        raise SettingsError("The command line is not valid.", problems=problems) from error


def path(*parts: str) -> str:
    """Return a path below `/v1`, its parts escaped; raise `InputError` for an empty part.

    No resource has an empty name.
    """
    if not all(parts):
        raise InputError("A name must not be empty.")
    return "/v1/" + "/".join(
        "%2E" * len(part) if part in (".", "..") else quote(part, safe="") for part in parts
    )


async def fetch(client: Client, url: str, kind: type[T], **params: str) -> T:
    """Get a resource, decoded as that type."""
    return decode((await client.request("GET", url, params=params or None)).content, kind)


async def get_all(client: Client, url: str, field: str) -> bytes:
    """Get a complete list as JSON, following the links to further pages."""
    return await get_first(client, url, field, {}, None)


async def get_first(
    client: Client, url: str, field: str, params: Mapping[str, str], count: int | None
) -> bytes:
    """Get the first entries of a list as JSON, all without a `count`.

    Follow the links of answers that are cut.
    """
    limit = {} if count is None else {"limit": str(count)}
    content = (await client.request("GET", url, params={**params, **limit} or None)).content
    whole: dict[str, Any] | None = None
    part = decode(content, dict[str, Any])
    while (following := _following(part)) is not None:
        whole = whole or part
        if count is not None:
            left = count - len(whole[field])
            if left <= 0:
                break
            following["limit"] = str(left)
        part = decode((await client.request("GET", url, params=following)).content, dict[str, Any])
        whole[field] += part.get(field, [])
    if whole is None:
        return content
    whole["links"] = [link for link in whole["links"] if link.get("rel") != "next"]
    return msgspec.json.encode(whole)


def _following(part: dict[str, Any]) -> dict[str, str] | None:
    found = next(
        (link["href"] for link in part.get("links", []) if link.get("rel") == "next"), None
    )
    return None if found is None else dict(parse_qsl(urlsplit(found).query))


def decode(content: bytes, kind: type[T]) -> T:
    """Decode a response; raise `UnavailableError` if it is not one of a Flyte server."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        message = f"unexpected response; is this a Flyte server? {error}"
        raise UnavailableError(message) from error
