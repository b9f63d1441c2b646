"""Real certificates for tests, made in a moment."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)


class Certificate:
    """A certificate with its key, signed by `issuer` or by itself."""

    def __init__(
        self,
        name="localhost",
        *,
        issuer=None,
        is_ca=False,
        begins=-1,
        ends=90,
        key=None,
        addresses=("127.0.0.1",),
    ):
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        names = [
            x509.DNSName("localhost"),
            *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
        ]
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW + begins * DAY)
            .not_valid_after(NOW + ends * DAY)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.BasicConstraints(ca=is_ca or issuer is None, path_length=None), critical=True
            )
            .sign((issuer or self).key, hashes.SHA256())
        )

    @property
    def pem(self):
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password=None):
        encryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


def write_pair(folder: Path, *chain, key=None, password=None, names=("cert.pem", "key.pem")):
    """Write a chain and the key of its first certificate; return the two paths as text."""
    certificate, key_file = folder / names[0], folder / names[1]
    certificate.write_bytes(b"".join(each.pem for each in chain))
    key_file.write_bytes((key or chain[0]).key_pem(password))
    return str(certificate), str(key_file)


def server_context(folder: Path, certificate: Certificate) -> ssl.SSLContext:
    """Return what a server shows a certificate with, which is `cert.pem` in the folder."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*write_pair(folder, certificate))
    return context
