"""A caller that knows the secret of a hook is let in by every scheme, and no other."""

from datetime import UTC, datetime, timedelta

import pytest

from flyteops.service.hook.scheme import sign, verify
from flyteops.service.hook.signing import HookRequest, Proof, Rejection, Signing

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
BODY = b'{"event": "push"}'
SECRET = "a-secret-of-the-hook"
SCHEMES = {
    "hmac": Signing(scheme="hmac", header="X-Signature", prefix="sha256="),
    "hmac-time": Signing(scheme="hmac", header="X-Signature", timestamp_header="X-Time"),
    "hmac-base64": Signing(
        scheme="hmac", header="X-Signature", encoding="base64", algorithm="sha512"
    ),
    "standard": Signing(scheme="standard"),
    "gitlab": Signing(scheme="gitlab"),
    "bearer": Signing(scheme="authorization"),
    "basic": Signing(scheme="authorization", username="ann"),
    "header": Signing(scheme="header", header="X-Token", prefix="Token "),
}
each_scheme = pytest.mark.parametrize("signing", SCHEMES.values(), ids=SCHEMES)
TIMED = ("hmac-time", "standard")
IN_HEADER = ("bearer", "basic", "header")


def request(headers: dict[str, str], body: bytes = BODY) -> HookRequest:
    return HookRequest({name.lower(): value for name, value in headers.items()}, b"", body)


def call(signing: Signing, secret: str = SECRET, at: datetime = NOW) -> dict[str, str]:
    return sign(signing, secret, BODY, at, "call-1")


@each_scheme
def test_who_knows_the_secret_is_let_in(signing):
    assert isinstance(verify(signing, [SECRET], request(call(signing)), NOW), Proof)


@each_scheme
def test_during_a_rotation_either_secret_lets_in(signing):
    assert isinstance(
        verify(signing, ["the-new-secret-of-it", SECRET], request(call(signing)), NOW), Proof
    )


@each_scheme
def test_another_secret_does_not_let_in(signing):
    refusal = verify(signing, ["the-new-secret-of-it"], request(call(signing)), NOW)
    assert isinstance(refusal, Rejection)
    assert refusal.code == "bad-signature"


@each_scheme
def test_a_call_without_its_header_is_refused(signing):
    refusal = verify(signing, [SECRET], request({}), NOW)
    assert isinstance(refusal, Rejection)
    assert refusal.code == "no-signature"


@pytest.mark.parametrize("name", [name for name in SCHEMES if name not in (*IN_HEADER,)])
def test_a_signature_of_another_body_does_not_let_in(name):
    headers = call(SCHEMES[name])
    assert isinstance(verify(SCHEMES[name], [SECRET], request(headers, b"{}"), NOW), Rejection)


@pytest.mark.parametrize("name", TIMED)
@pytest.mark.parametrize("away", [timedelta(minutes=6), timedelta(minutes=-6)])
def test_a_signature_from_another_time_does_not_let_in(name, away):
    refusal = verify(SCHEMES[name], [SECRET], request(call(SCHEMES[name], at=NOW + away)), NOW)
    assert isinstance(refusal, Rejection)
    assert refusal.code == "too-old"


def test_without_a_scheme_everybody_is_let_in_with_nothing_to_show():
    nothing = Signing(scheme="none")
    assert call(nothing) == {}
    assert isinstance(verify(nothing, [], request({}), NOW), Proof)


@pytest.mark.parametrize(
    ("given", "said"),
    [("Digest x", "neither Basic nor Bearer"), ("Basic ???", "Basic with the user name")],
)
def test_other_ways_of_authorization_do_not_let_in(given, said):
    refusal = verify(SCHEMES["basic"], [SECRET], request({"Authorization": given}), NOW)
    assert isinstance(refusal, Rejection)
    assert said in refusal.reason


def test_a_dot_in_the_id_of_a_standard_webhook_is_refused_though_the_signature_is_right():
    headers = sign(SCHEMES["standard"], SECRET, BODY, NOW, "call.1")
    refusal = verify(SCHEMES["standard"], [SECRET], request(headers), NOW)
    assert isinstance(refusal, Rejection)
    assert refusal.code == "bad-id"


def test_a_standard_webhook_may_have_the_names_of_its_first_service():
    signed = sign(SCHEMES["standard"], SECRET, BODY, NOW, "call-1")
    headers = {name.replace("webhook", "svix"): value for name, value in signed.items()}
    for signature in (headers["svix-signature"], f"v1,AAAA {headers['svix-signature']}"):
        found = verify(
            SCHEMES["standard"],
            [SECRET],
            request({**headers, "svix-signature": signature}),
            NOW,
        )
        assert found == Proof("call-1")
    forged = verify(SCHEMES["standard"], [SECRET], request(headers, b"{}"), NOW)
    assert isinstance(forged, Rejection)
    assert "svix-signature" in forged.reason


def test_the_names_of_two_services_are_not_mixed():
    signed = sign(SCHEMES["standard"], SECRET, BODY, NOW, "call-1")
    headers = {**signed, "svix-id": "call-2", "svix-timestamp": "1", "svix-signature": "v1,AAAA"}
    assert verify(SCHEMES["standard"], [SECRET], request(headers), NOW) == Proof("call-1")
    mixed = {**headers, "webhook-signature": "", "svix-signature": signed["webhook-signature"]}
    assert isinstance(verify(SCHEMES["standard"], [SECRET], request(mixed), NOW), Rejection)


@pytest.mark.parametrize(
    "written",
    [
        lambda signature: f"v1,AAAA v1,{signature}",
        lambda signature: f"v1,{signature} v1a,AAAA",
        lambda signature: f"v1,{signature.replace('+', '-').replace('/', '_')}",
        lambda signature: f"v1,{signature.rstrip('=')}",
    ],
    ids=["second", "first", "urlsafe", "without-padding"],
)
def test_signatures_in_base64_are_found_and_read_as_senders_write_them(written):
    signing = Signing(scheme="hmac", header="X-Signature", prefix="v1,", encoding="base64")
    for number in range(20):  # some of these have the characters in which the alphabets differ
        body = str(number).encode()
        signature = sign(signing, SECRET, body, NOW, "call-1")["X-Signature"].removeprefix("v1,")
        headers = {"X-Signature": written(signature)}
        assert isinstance(verify(signing, [SECRET], request(headers, body), NOW), Proof)
        forged = {"X-Signature": written(signature[:-3] + "A==")}
        assert isinstance(verify(signing, [SECRET], request(forged, b"other"), NOW), Rejection)
