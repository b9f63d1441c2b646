"""Connections to allowed hosts; the address that was checked is the one that is connected to."""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import httpx2

from flyteops.packs.http.allowlist import Address, AllowList, canonical_host, parse_address
from flyteops.sdk.tls import create_ssl_context

_PORTS = {"http": 80, "https": 443}
_TRUST_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Resolves a host once, drops forbidden addresses, and connects to one of the others.

    `proxies` maps schemes, `all` and `no` to the values of the usual variables. Through a proxy
    only the host can be checked, for the proxy looks its address up. No connection is used twice,
    so none can be taken for one to another host.
    """

    def __init__(
        self,
        allowed: AllowList,
        *,
        ca_cert_file: Path | None = None,
        proxies: Mapping[str, str] | None = None,
    ) -> None:
        self._allowed = allowed
        self._ca_cert_file = ca_cert_file
        self._proxies = dict(proxies or {})

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; raise `ForbiddenError` if its target is not allowed."""
        host, port = target(request.url)
        self._allowed.admit_host(host, port)
        proxy = self._proxy(request.url.scheme, host)
        if proxy is not None:
            if literal := parse_address(host):
                self._allowed.admit_addresses(host, [literal])
            return await self._transport(request.url.scheme, proxy).handle_async_request(request)
        failure: httpx2.TransportError | None = None
        for address in self._allowed.admit_addresses(host, await resolve(host, port)):
            try:
                return await self._transport(request.url.scheme).handle_async_request(
                    _at(request, address, host)
                )
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                failure = failure or error
        assert failure is not None  # noqa: S101 - there is at least one address
        raise failure

    def _transport(self, scheme: str, proxy: str | None = None) -> httpx2.AsyncHTTPTransport:
        return httpx2.AsyncHTTPTransport(
            verify=self._trust if scheme == "https" else _TRUST_NOBODY,
            trust_env=False,
            limits=httpx2.Limits(max_keepalive_connections=0),
            proxy=proxy,
        )

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        # A quarter of a second's work, only if needed.
        return create_ssl_context(self._ca_cert_file)

    def _proxy(self, scheme: str, host: str) -> str | None:
        exempt = [
            entry.strip().lstrip("*.")
            for entry in self._proxies.get("no", "").split(",")
            if entry.strip()
        ]
        if any(not entry or f".{host}".endswith(f".{entry}") for entry in exempt):
            return None
        return self._proxies.get(scheme) or self._proxies.get("all")


def target(url: httpx2.URL) -> tuple[str, int]:
    """Return the host of a URL, in its canonical form, and the port."""
    if url.scheme not in _PORTS or not url.host:
        message = f"{url.scheme}://{url.host} is not an HTTP URL"
        raise httpx2.UnsupportedProtocol(message)
    return canonical_host(url.raw_host.decode("ascii")), url.port or _PORTS[url.scheme]


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host.

    Addresses are read as the system does, in decimal and octal forms too.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a host name"
        message = f"{host} cannot be resolved: {reason}"
        raise httpx2.ConnectError(message) from error
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))


def _at(request: httpx2.Request, address: Address, host: str) -> httpx2.Request:
    """Return the request for an address.

    The header `Host` and the certificate remain those of the host.
    """
    return httpx2.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )
