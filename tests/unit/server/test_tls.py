"""What can be wrong with a TLS certificate and its key is told at once, with how to mend it."""

import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from flyteops.errors import SettingsError
from flyteops.server.tls import CERTIFICATE, KEY, CertificateFiles, TlsContexts, certificate_faults
from tests.certificate import DAY, NOW, Certificate, write_pair


def faults(pair, now=NOW):
    return [
        (problem.path, problem.message)
        for problem in certificate_faults(CertificateFiles(*pair), now)
    ]


@pytest.fixture(scope="module")
def root():
    return Certificate("Our root", is_ca=True)


@pytest.fixture(scope="module")
def middle(root):
    return Certificate("Our issuer", issuer=root, is_ca=True)


@pytest.fixture(scope="module")
def own(middle):
    return Certificate("flyte.example.com", issuer=middle)


def test_a_chain_in_order_is_fine_with_its_root_or_without(tmp_path, own, middle, root):
    assert faults(write_pair(tmp_path, own, middle)) == []
    assert faults(write_pair(tmp_path, own, middle, root)) == []


def test_a_certificate_that_is_its_own_issuer_is_fine(tmp_path):
    assert faults(write_pair(tmp_path, Certificate())) == []


def test_a_chain_in_the_wrong_order_is_told_with_the_names(tmp_path, own, middle, root):
    ((where, message),) = faults(write_pair(tmp_path, own, root, middle))[:1]
    assert where == CERTIFICATE
    assert (
        "wrong order: number 2 (CN=Our root) did not issue number 1 (CN=flyte.example.com)"
        in message
    )


def test_a_key_of_another_certificate_in_the_file_is_told_as_such(tmp_path, own, middle):
    told = faults(write_pair(tmp_path, middle, own, key=own))
    assert [where for where, _ in told] == [CERTIFICATE, KEY]
    assert (
        "is the key of certificate number 2; the server's own certificate must be the first"
        in told[1][1]
    )


def test_a_key_of_no_certificate_in_the_file_is_told(tmp_path, own, middle):
    ((where, message),) = faults(write_pair(tmp_path, own, middle, key=Certificate()))
    assert where == KEY
    assert "is not the key of the certificate (CN=flyte.example.com)" in message


def test_an_encrypted_key_is_told_with_how_to_decrypt_it(tmp_path, own):
    ((where, message),) = faults(write_pair(tmp_path, own, password=b"secret"))
    assert where == KEY
    assert "is encrypted; decrypt it with `openssl pkey -in FILE -out NEW`" in message


@pytest.mark.parametrize(
    ("begins", "ends", "message"),
    [
        (-9, -1, "has expired (CN=late, number 1), on "),
        (1, 9, "is not valid yet (CN=late, number 1)"),
    ],
)
def test_a_certificate_out_of_its_time_is_refused(tmp_path, begins, ends, message):
    ((where, text),) = faults(write_pair(tmp_path, Certificate("late", begins=begins, ends=ends)))
    assert where == CERTIFICATE
    assert message in text


def test_an_issuer_that_has_expired_is_refused(tmp_path, root):
    middle = Certificate("Our issuer", issuer=root, is_ca=True, ends=0)
    ((_, message),) = faults(
        write_pair(tmp_path, Certificate(issuer=middle), middle), NOW + timedelta(hours=1)
    )
    assert "has expired (CN=Our issuer, number 2)" in message


@pytest.mark.parametrize(
    ("key", "bits"),
    [
        (lambda: rsa.generate_private_key(65537, 1024), "1024 bits"),
        (lambda: ec.generate_private_key(ec.SECP192R1()), "192 bits"),
    ],
)
def test_a_weak_key_is_refused(tmp_path, key, bits):
    weak = Certificate(key=key())
    ((_, message),) = faults(write_pair(tmp_path, weak))
    assert f"has a key of {bits} (CN=localhost, number 1), which is too weak" in message


def test_a_signature_with_sha_1_is_refused(tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=old",
        "-days",
        "9",
    ]
    command = ["openssl", "req", "-x509", "-sha1", *curve, "-out", cert, "-keyout", key]
    subprocess.run(command, check=True, capture_output=True)
    # Openssl begins now.
    ((_, message),) = faults((str(cert), str(key)), datetime.now(UTC) + timedelta(minutes=5))
    assert "is signed with SHA1 (CN=old, number 1)" in message


def test_files_that_are_none_are_told_both_at_once(tmp_path):
    (tmp_path / "cert.pem").write_text(
        "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"
    )
    told = faults((str(tmp_path / "cert.pem"), str(tmp_path / "missing.pem")))
    assert [where for where, _ in told] == [CERTIFICATE, KEY]
    assert "holds no certificate in PEM format" in told[0][1]
    assert "cannot be read: No such file or directory" in told[1][1]
    told = faults((str(tmp_path), str(tmp_path / "cert.pem")))
    assert "cannot be read: Is a directory" in told[0][1]
    assert "holds no private key in PEM format" in told[1][1]


def test_an_end_within_two_weeks_is_warned_about(tmp_path):
    tls = TlsContexts(CertificateFiles(*write_pair(tmp_path, Certificate(ends=20))))
    assert tls.ending_soon(NOW + 5 * DAY) is None
    assert "ends in 10 days, on " in (tls.ending_soon(NOW + 10 * DAY) or "")
    assert "ends in 0 days" in (tls.ending_soon(NOW + 21 * DAY) or "")


def test_a_bad_new_pair_changes_nothing(tmp_path):
    first = Certificate(ends=20)
    tls = TlsContexts(CertificateFiles(*write_pair(tmp_path, first)))
    write_pair(tmp_path, Certificate(ends=40), key=first)
    with pytest.raises(SettingsError) as caught:
        tls.load(NOW)
    assert [problem.path for problem in caught.value.problems] == [KEY]
    assert tls.ends_at == NOW + 20 * DAY
    write_pair(tmp_path, Certificate(ends=40))
    tls.load(NOW)
    assert tls.ends_at == NOW + 40 * DAY
