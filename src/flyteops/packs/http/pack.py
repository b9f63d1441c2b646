"""The pack: its settings, its command, its events."""

from collections.abc import Mapping
from typing import Any

import httpx2
import msgspec

from flyteops.errors import FlyteError, UnavailableError
from flyteops.packs.http.allowlist import AllowList, parse_hosts, parse_networks
from flyteops.packs.http.body import BodyType, read_body
from flyteops.packs.http.exchange import HttpExchange, HttpLimits
from flyteops.packs.http.request import Request
from flyteops.packs.http.transport import GuardedTransport, resolve
from flyteops.packs.limit import check_payload_size, default_length
from flyteops.sdk import Event, Pack, Reader
from flyteops.sdk.environment import api_url, byte_count, certificates, positive_seconds

FIRST_FAILURE = 400
"""The first status that means failure."""


class Response(msgspec.Struct, rename="camel"):
    """The answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: Any
    body_type: BodyType
    url: str
    elapsed: float


class RequestFailed(msgspec.Struct):
    """The reason why there is no answer."""

    error: str
    url: str
    attempts: int


def create(environ: Mapping[str, str]) -> Pack:
    """Make the pack; its settings are on its page."""
    reader = Reader(environ)
    allowed = AllowList(
        hosts=reader.read("FLYTE_HTTP_ALLOW", parse_hosts, []),
        networks=reader.read("FLYTE_HTTP_ALLOW_ADDRESSES", parse_networks, []),
    )
    limits = HttpLimits(
        timeout=reader.read("FLYTE_HTTP_TIMEOUT", positive_seconds, HttpLimits().timeout),
    )
    longest = reader.read("FLYTE_HTTP_BODY_LIMIT", byte_count, None)
    ca_cert_file = reader.read("FLYTE_HTTP_CA_CERT_FILE", certificates, None)
    proxies = reader.read("FLYTE_HTTP_PROXY", lambda text: _proxies(text, environ), {})
    reader.finish()
    transport = GuardedTransport(allowed, ca_cert_file=ca_cert_file, proxies=proxies)
    pack = Pack("Http")
    response = pack.event("Response", payload=Response)
    request_failed = pack.event("RequestFailed", payload=RequestFailed, failure=True)

    @pack.command("Request", events=[response, request_failed])
    async def request(asked: Request) -> Event:
        clock = pack.clock()
        began = clock.monotonic()
        try:
            kept = msgspec.structs.replace(
                limits, body=default_length(pack) if longest is None else longest
            )
            exchange = HttpExchange(asked, kept, transport)
        except FlyteError as error:
            return request_failed(RequestFailed(str(error), "", 0))
        try:
            answer = await exchange.run(clock.back_off)
        except FlyteError as error:
            return request_failed(RequestFailed(str(error), exchange.url, exchange.attempts))
        body_type, body = read_body(answer.headers, answer.content)
        elapsed = round(clock.monotonic() - began, 3)
        found = Response(answer.status, dict(answer.headers), body, body_type, answer.url, elapsed)
        event = response(found, failure=answer.status >= FIRST_FAILURE)
        if reason := check_payload_size(pack, event):
            message = f"the answer {answer.status} is too large: {reason}"
            return request_failed(RequestFailed(message, exchange.url, exchange.attempts))
        return event

    @pack.check("Http")
    async def check() -> str:
        return await _look_up(allowed)

    return pack


async def _look_up(allowed: AllowList) -> str:
    """Resolve every allowed host without a wildcard, and report whether it may be connected to."""
    faults = []
    for pattern in allowed.hosts:
        if not pattern.host.startswith("*"):
            try:
                allowed.admit_addresses(
                    pattern.host, await resolve(pattern.host, pattern.port or 443)
                )
            except (FlyteError, httpx2.ConnectError) as error:
                faults.append(str(error))
    if faults:
        raise UnavailableError("; ".join(faults))
    if not allowed.hosts:
        return "flows may call every host with a public address"
    return f"flows may call {', '.join(pattern.host for pattern in allowed.hosts)}"


def _proxies(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the URL of a proxy, or `environment` for the variables of HTTP clients.

    These are HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.
    """
    if text.strip().lower() != "environment":
        return {"all": api_url(text)}
    by_name = {
        name: value
        for name, value in sorted(environ.items())
        if name.lower().endswith("_proxy") and value
    }
    # Lower-case names come last, and win.
    return {name.lower().removesuffix("_proxy"): value for name, value in by_name.items()}
