"""Which certificates are trusted."""

import ssl
from pathlib import Path

import httpx2


def trust(ca_cert_file: Path | None) -> ssl.SSLContext:
    """Return what is trusted: the certificates that the system trusts, and those of a file."""
    context = httpx2.create_ssl_context()
    if ca_cert_file is not None:
        context.load_verify_locations(ca_cert_file)
    return context


def untrusted(error: BaseException | None) -> ssl.SSLCertVerificationError | None:
    """Return what is wrong with a certificate, if that is what an error comes from."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error
