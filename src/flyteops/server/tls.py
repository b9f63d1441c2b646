"""The server's TLS certificate and key: their validation, and their replacement at run time."""

import ssl
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from flyteops.errors import Problem, SettingsError
from flyteops.server.watch import FileWatch

CERTIFICATE, KEY = "FLYTE_TLS_CERT_PATH", "FLYTE_TLS_KEY_PATH"

MIN_RSA_BITS, MIN_EC_BITS = 2048, 224

SOON = timedelta(days=14)
"""The time before its end at which a warning about a certificate begins."""


class CertificateFiles(NamedTuple):
    """The two files."""

    certificate: str
    key: str


def certificate_faults(pair: CertificateFiles, now: datetime) -> Iterator[Problem]:
    """Yield everything that keeps a server from using the pair at that time.

    Each problem has the setting that names the file.
    """
    chain, key = None, None
    try:
        chain = read_chain(pair.certificate)
    except ValueError as fault:
        yield Problem(CERTIFICATE, f"{pair.certificate!r} {fault}")
    try:
        key = _read_key(pair.key)
    except ValueError as fault:
        yield Problem(KEY, f"{pair.key!r} {fault}")
    if chain is None:
        return
    faults = [
        *_chain_faults(chain),
        *(fault for each in enumerate(chain, 1) for fault in _certificate_faults(*each, now)),
    ]
    for text in faults:
        yield Problem(CERTIFICATE, f"{pair.certificate!r} {text}")
    if key is not None:
        for text in _match_faults(chain, key):
            yield Problem(KEY, f"{pair.key!r} {text}")


def read_chain(path: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM file; raise `ValueError` with its fault."""
    data = _read(path)
    try:
        return x509.load_pem_x509_certificates(data)
    except UnsupportedAlgorithm as error:
        raise ValueError(f"holds a certificate that is not supported: {error}") from error
    except ValueError as error:
        raise ValueError(
            "holds no certificate in PEM format; give the server's own, then those that issued it"
        ) from error


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}; give a PEM file") from error


def _read_key(path: str) -> PrivateKeyTypes:
    data = _read(path)
    try:
        return load_pem_private_key(data, password=None)
    except TypeError as error:
        raise ValueError(
            "is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`, and make it readable"
            " by the server only"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("holds no private key in PEM format") from error


def _chain_faults(chain: Sequence[x509.Certificate]) -> Iterator[str]:
    for number, (issued, issuer) in enumerate(pairwise(chain), 1):
        try:
            issued.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            yield (
                f"has its certificates in the wrong order: number {number + 1} ({_name(issuer)})"
                f" did not issue number {number} ({_name(issued)}); the server's own comes first,"
                " each further one is the issuer of the one before"
            )


def _certificate_faults(number: int, certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    which = f"({_name(certificate)}, number {number})"
    if certificate.not_valid_after_utc < now:
        yield (
            f"has expired {which}, on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; get a"
            " new one"
        )
    if certificate.not_valid_before_utc > now:
        yield (
            f"is not valid yet {which}, but from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M}"
            " UTC on"
        )
    is_root = number > 1 and certificate.issuer == certificate.subject
    algorithm = _hash_of(certificate)
    # The signature of a root is never checked.
    if isinstance(algorithm, hashes.SHA1 | hashes.MD5) and not is_root:
        yield (
            f"is signed with {algorithm.name.upper()} {which}, which clients refuse; get one that"
            " is signed with SHA-256"
        )
    yield from _key_faults(certificate, which)


def _hash_of(certificate: x509.Certificate) -> hashes.HashAlgorithm | None:
    try:
        return certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None


def _key_faults(certificate: x509.Certificate, which: str) -> Iterator[str]:
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        yield f"has a key of a kind that is not supported {which}; get one with an RSA or EC key"
        return
    least = MIN_RSA_BITS if isinstance(key, rsa.RSAPublicKey) else MIN_EC_BITS
    if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey) and key.key_size < least:
        yield (
            f"has a key of {key.key_size} bits {which}, which is too weak; get one with at least"
            f" {least}"
        )


def _match_faults(chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> Iterator[str]:
    own = _encoded(key.public_key())
    matching = [
        number
        for number, certificate in enumerate(chain, 1)
        if _encoded(certificate.public_key()) == own
    ]
    if not matching:
        yield (
            f"is not the key of the certificate ({_name(chain[0])}); the two must be made together"
        )
    elif matching[0] != 1:
        yield (
            f"is the key of certificate number {matching[0]}; the server's own certificate must be"
            " the first in its file"
        )


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "without a name"


class TlsContexts:
    """The TLS contexts of the server.

    `context` stays; connections made after `load` have the new pair.
    """

    def __init__(self, pair: CertificateFiles) -> None:
        self._pair = pair
        self.watch = FileWatch(*pair)
        self._current, self.ends_at = self._read()
        self.context, _ = self._read()
        # A connection that begins with any context is given the current one before a certificate is
        # sent.
        self.context.sni_callback = self._choose

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._current

    def load(self, now: datetime) -> None:
        """Load the present files.

        Raise `SettingsError` with every fault, and keep the previous pair.
        """
        problems = list(certificate_faults(self._pair, now))
        if problems:
            raise SettingsError(problems=problems)
        try:
            self._current, self.ends_at = self._read()
        # The files have changed in between, or OpenSSL is stricter.
        except (OSError, ValueError) as error:
            raise SettingsError(problems=[Problem(CERTIFICATE, str(error))]) from error

    def _read(self) -> tuple[ssl.SSLContext, datetime]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.load_cert_chain(*self._pair, password="")
        return context, min(
            certificate.not_valid_after_utc for certificate in read_chain(self._pair.certificate)
        )

    def ending_soon(self, now: datetime) -> str | None:
        """Return a warning when a certificate ends within two weeks."""
        left = self.ends_at - now
        if left > SOON:
            return None
        ends = f"{max(left.days, 0)} days, on {self.ends_at:%Y-%m-%d %H:%M} UTC"
        return f"The TLS certificate in {self._pair.certificate!r} ends in {ends}; renew it."
