"""What clients say when they and a server do not agree about TLS: real handshakes on this
computer.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from flyteops.cli.command import Failure
from flyteops.errors import UnavailableError
from flyteops.sdk.client import Client
from flyteops.sdk.tls import tls_fault
from tests.certificate import Certificate, server_context

AUTHORITY = Certificate("authority", is_ca=True)


@asynccontextmanager
async def listening(context: ssl.SSLContext | None) -> AsyncIterator[str]:
    """Serve a greeting that is neither HTTP nor TLS; return the address."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def refusal(url: str, ca_cert_file: Path | None = None) -> UnavailableError:
    async with Client(url, ca_cert_file=ca_cert_file) as client:
        with pytest.raises(UnavailableError) as refused:
            await client.request("GET", "/v1")
    return refused.value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("certificate", "is_trusted", "reason"),
    [
        (
            {"ends": 0, "begins": -2},
            True,
            "the certificate of the server has expired; renew it there",
        ),
        ({"begins": 2}, True, "the certificate of the server is not valid yet; correct the clock"),
        (
            {"addresses": ["127.0.0.9"]},
            True,
            "the certificate of the server is for another name (IP address mismatch",
        ),
        (
            {},
            False,
            "the certificate of the server is not from an authority that this computer trusts",
        ),
    ],
)
async def test_a_certificate_that_is_not_accepted_is_reported_with_the_reason_and_what_to_do(
    tmp_path: Path, certificate: dict[str, object], is_trusted: bool, reason: str
) -> None:
    authority = tmp_path / "authority.pem"
    authority.write_bytes(AUTHORITY.pem)
    context = server_context(tmp_path, Certificate(issuer=AUTHORITY, **certificate))
    async with listening(context) as address:
        error = await refusal(f"https://{address}", authority if is_trusted else None)
    assert error.message.startswith(f"GET https://{address}/v1: TLS failed: {reason}")
    assert "Is it running?" not in Failure(error).format_message()


async def test_an_address_with_tls_at_a_port_without_is_reported() -> None:
    async with listening(None) as address:
        error = await refusal(f"https://{address}")
    assert error.message.endswith(
        "TLS failed: the server does not use TLS there; an address without TLS begins with http://"
    )
    assert "Is it running?" not in Failure(error).format_message()


@pytest.mark.slow
async def test_an_address_without_tls_at_a_port_with_tls_is_reported(tmp_path: Path) -> None:
    async with listening(server_context(tmp_path, Certificate())) as address:
        error = await refusal(f"http://{address}")
    assert error.message.endswith("if the server uses TLS, its address begins with https://")
    assert "Is it running?" not in Failure(error).format_message()


def test_what_does_not_come_from_tls_is_not_taken_for_it() -> None:
    assert tls_fault(httpx2.ConnectError("refused"), "https://flyte.test") is None
    assert tls_fault(httpx2.RemoteProtocolError("gone"), "https://flyte.test") is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "is not valid yet"),
        (10, "has expired"),
        (18, "not from an authority that this computer trusts"),
        (19, "not from an authority that this computer trusts"),
        (20, "FLYTE_CA_CERT_FILE names a file"),
        (62, "for another name"),
        (64, "for another name"),
        (23, "is not accepted (what OpenSSL says)"),
    ],
)
def test_each_fault_of_a_certificate_has_its_own_words(code: int, words: str) -> None:
    fault = ssl.SSLCertVerificationError(1, "certificate verify failed")
    fault.verify_code, fault.verify_message = code, "what OpenSSL says"
    error = httpx2.ConnectError("failed")
    error.__cause__ = fault
    assert words in str(tls_fault(error, "https://flyte.test"))
