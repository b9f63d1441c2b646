"""Trusted certificates, and explanations of TLS failures."""

import ssl
from pathlib import Path

import httpx2

_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_AUTHORITY = (2, 18, 19, 20, 21)
_OTHER_NAME = (62, 64)
"""Codes of OpenSSL for certificates that cannot be verified."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNEXPECTED_MESSAGE", "PACKET_LENGTH_TOO_LONG")
"""Reasons of OpenSSL for an answer that is not TLS."""


def create_ssl_context(ca_cert_file: Path | None) -> ssl.SSLContext:
    """Return an SSL context that trusts the certificates of the system, and those of a file."""
    context = httpx2.create_ssl_context()
    if ca_cert_file is not None:
        context.load_verify_locations(ca_cert_file)
    return context


def untrusted(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return the certificate error at the root of an error, if there is one."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error


def tls_fault(error: BaseException, url: str) -> str | None:
    """Return the TLS fault behind a failed request to this address, with advice.

    None for other errors.
    """
    if isinstance(error, httpx2.RemoteProtocolError) and url.startswith("http://"):
        return f"{str(error).rstrip('.')}; if the server uses TLS, its address begins with https://"
    if (certificate := untrusted(error)) is not None:
        return f"TLS failed: {_about_certificate(certificate)}"
    fault: BaseException | None = error
    while fault is not None and not isinstance(fault, ssl.SSLError):
        fault = fault.__cause__ or fault.__context__
    if fault is None:
        return None
    if fault.reason in _NO_TLS:
        return (
            "TLS failed: the server does not use TLS there; an address without TLS begins with"
            " http://"
        )
    return f"TLS failed: {fault}"


def _about_certificate(error: ssl.SSLCertVerificationError) -> str:
    code, message = (
        getattr(error, "verify_code", 0),
        str(getattr(error, "verify_message", error)).rstrip("."),
    )
    if code == _EXPIRED:
        return (
            "the certificate of the server has expired; renew it there, or correct the clock of"
            " this computer"
        )
    if code == _NOT_YET_VALID:
        return (
            "the certificate of the server is not valid yet; correct the clock of this computer, or"
            " wait"
        )
    if code in _OTHER_NAME:
        return (
            f"the certificate of the server is for another name ({message}); use a name from it, or"
            " get one for this name"
        )
    if code in _UNKNOWN_AUTHORITY:
        return (
            "the certificate of the server is not from an authority that this computer trusts"
            f" ({message}); FLYTE_CA_CERT_FILE names a file with further certificates to trust"
        )
    return f"the certificate of the server is not accepted ({message})"
