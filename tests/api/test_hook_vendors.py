"""Every vendor's calls are verified by its documented rule, its retries make no second event,
and replays get no further.
"""

import gzip
import hmac
import json
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx2
import pytest

from flyteops.service import Service
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.auth.authenticator import Authenticator
from tests.api.conftest import BASE
from tests.api.test_hooks import JSON, Create, calls, create, events, hex_of, service
from tests.support.clock import Clock

__all__ = ["create", "service"]  # fixtures

SECRET = "correct horse battery"

Sign = Callable[[str, bytes, datetime], dict[str, str]]


def base64_of(secret: str, signed: bytes) -> str:
    return b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()


def by_slack(secret: str, body: bytes, now: datetime) -> dict[str, str]:
    at = str(int(now.timestamp()))
    return {
        "X-Slack-Request-Timestamp": at,
        "X-Slack-Signature": "v0=" + hex_of(secret, f"v0:{at}:".encode() + body),
    }


def by_stripe(secret: str, body: bytes, now: datetime) -> dict[str, str]:
    at = str(int(now.timestamp()))
    old = hex_of("the secret before", f"{at}.".encode() + body)
    return {
        "Stripe-Signature": (
            f"t={at},v1={old},v1={hex_of(secret, f'{at}.'.encode() + body)},v0=6ffbb59b"
        )
    }


def by_zendesk(secret: str, body: bytes, now: datetime) -> dict[str, str]:
    at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "X-Zendesk-Webhook-Signature-Timestamp": at,
        "X-Zendesk-Webhook-Signature": base64_of(secret, at.encode() + body),
        "X-Zendesk-Webhook-Invocation-Id": "01FKZ0",
    }


def by_pagerduty(secret: str, body: bytes, now: datetime) -> dict[str, str]:
    return {
        "X-PagerDuty-Signature": f"v1={hex_of('another secret', body)},v1={hex_of(secret, body)}"
    }


def plain(header: str, prefix: str, **more: str) -> Sign:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return lambda secret, body, now: {header: prefix + hex_of(secret, body), **named}


def by_shopify(secret: str, body: bytes, now: datetime) -> dict[str, str]:
    return {
        "X-Shopify-Hmac-SHA256": base64_of(secret, body),
        "X-Shopify-Topic": "orders/create",
        "X-Shopify-Webhook-Id": "b5-1",
    }


VENDORS: dict[str, tuple[Sign, dict[str, Any], str, str]] = {
    "slack": (
        by_slack,
        {"type": "event_callback", "event_id": "Ev08", "event": {"type": "app_mention"}},
        "app_mention",
        "Ev08",
    ),
    "stripe": (by_stripe, {"id": "evt_1", "type": "charge.failed"}, "charge.failed", "evt_1"),
    "zendesk": (
        by_zendesk,
        {"type": "zen:event-type:ticket.created"},
        "zen:event-type:ticket.created",
        "01FKZ0",
    ),
    "pagerduty": (
        by_pagerduty,
        {"event": {"id": "01BVK", "event_type": "incident.triggered"}},
        "incident.triggered",
        "01BVK",
    ),
    "gitea": (
        plain("X-Gitea-Signature", "", X_Gitea_Delivery="g-1", X_Gitea_Event="push"),
        {},
        "push",
        "g-1",
    ),
    "bitbucket": (
        plain(
            "X-Hub-Signature",
            "sha256=",
            X_Request_UUID="b-1",
            X_Event_Key="repo:push",
            X_Attempt_Number="1",
        ),
        {},
        "repo:push",
        "b-1",
    ),
    "linear": (
        plain("Linear-Signature", "", Linear_Delivery="l-1", Linear_Event="Issue"),
        {},
        "Issue",
        "l-1",
    ),
    "sentry": (
        plain("Sentry-Hook-Signature", "", Request_ID="s-1", Sentry_Hook_Resource="issue"),
        {},
        "issue",
        "s-1",
    ),
    "shopify": (by_shopify, {"id": 820982911946154508}, "orders/create", "b5-1"),
}
TIMED = ("slack", "stripe", "zendesk")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_calls_are_verified_named_and_taken_once_however_often_the_vendor_tries(
    vendor: str, api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    sign, value, event, delivery = VENDORS[vendor]
    body = json.dumps(value).encode()
    hook = await create("h", vendor, secret=SECRET)
    assert "warnings" not in hook

    async def call(secret: str = SECRET, content: bytes = body) -> int:
        return (
            await api.post(
                "/v1/hooks/h", content=content, headers={**JSON, **sign(secret, body, clock.now)}
            )
        ).status_code

    assert [await call(secret="another secret!"), await call(content=body + b" ")] == [401, 401]
    assert await call() == 202
    clock.move(timedelta(minutes=20))
    assert await call() == 202  # tried again, signed anew
    (found,) = await events(api)
    assert (found["payload"]["event"], found["payload"]["deliveryId"]) == (event, delivery)
    signed = [
        value
        for name, value in sign(SECRET, body, clock.now).items()
        if "ignature" in name or "Hmac" in name
    ]
    shown = json.dumps([await calls(api, "h"), found])
    assert not any(value in shown for value in signed)


@pytest.mark.parametrize(
    ("vendor", "headers"),
    [
        ("shopify", {"Shopify-Topic": "orders/create", "Shopify-Webhook-Id": "n-1"}),
        ("gitea", {"X-Forgejo-Event": "push", "X-Forgejo-Delivery": "n-1"}),
    ],
)
async def test_the_newer_names_of_a_vendors_headers_count(
    vendor: str, headers: dict[str, str], api: httpx2.AsyncClient, create: Create
) -> None:
    await create("h", vendor, secret=SECRET)
    signature = {
        "X-Shopify-Hmac-SHA256": base64_of(SECRET, b"{}"),
        "X-Gitea-Signature": hex_of(SECRET, b"{}"),
    }
    for _ in range(2):
        answer = await api.post(
            "/v1/hooks/h", content=b"{}", headers={**JSON, **signature, **headers}
        )
        assert answer.status_code == 202
    (found,) = await events(api)
    assert (found["payload"]["event"], found["payload"]["deliveryId"]) == (
        headers.get("Shopify-Topic", "push"),
        "n-1",
    )


async def test_a_time_that_is_signed_must_be_near(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    for vendor in TIMED:
        sign, value, *_ = VENDORS[vendor]
        body = json.dumps(value).encode()
        await create(vendor, vendor, secret=SECRET)
        for away in (-301, 302):
            headers = {**JSON, **sign(SECRET, body, clock.now + timedelta(seconds=away))}
            assert (
                await api.post(f"/v1/hooks/{vendor}", content=body, headers=headers)
            ).status_code == 401
        assert {call["code"] for call in await calls(api, vendor)} == {"too-old"}


BAD_PROOFS = [
    ("slack", {"X-Slack-Request-Timestamp": "soon"}),
    ("slack", {"X-Slack-Request-Timestamp": ""}),
    ("slack", {"X-Slack-Signature": "v0="}),
    ("stripe", {"Stripe-Signature": "v1=00"}),
    ("stripe", {"Stripe-Signature": "t=1,t=2,v1=00"}),
    ("stripe", {"Stripe-Signature": "t=1772368200"}),
    ("stripe", {"Stripe-Signature": ",;  ,"}),
    ("stripe", {"Stripe-Signature": "t=1772368200,v1="}),
    ("zendesk", {"X-Zendesk-Webhook-Signature-Timestamp": "1772368200"}),
    ("pagerduty", {"X-PagerDuty-Signature": "v1=,v1=,"}),
    ("pagerduty", {"X-PagerDuty-Signature": "v1=00," * 3000}),
]


async def test_proofs_that_are_cut_short_empty_or_doubled_let_nobody_in(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    for number, (vendor, changed) in enumerate(BAD_PROOFS):
        sign, value, *_ = VENDORS[vendor]
        body = json.dumps(value).encode()
        await create(f"h{number}", vendor, secret=SECRET)
        headers = {**JSON, **sign(SECRET, body, clock.now), **changed}
        answer = await api.post(f"/v1/hooks/h{number}", content=body, headers=headers)
        assert answer.status_code == 401, changed
    assert await events(api) == []


async def test_linears_time_is_in_the_body_and_counts_when_it_is_there(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    await create("h", "linear", secret=SECRET)

    async def status(delivery: str, at: datetime) -> int:
        body = json.dumps({"webhookTimestamp": int(at.timestamp() * 1000)}).encode()
        headers = {**JSON, "Linear-Signature": hex_of(SECRET, body), "Linear-Delivery": delivery}
        return (await api.post("/v1/hooks/h", content=body, headers=headers)).status_code

    assert [await status("1", clock.now), await status("2", clock.now - timedelta(minutes=6))] == [
        202,
        401,
    ]
    assert [call["code"] for call in await calls(api, "h") if "code" in call] == ["too-old"]


async def test_the_delivery_header_of_any_known_vendor_counts_for_a_generic_hook(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("open", scheme="none")
    names = (
        "X-Gitea-Delivery",
        "X-Request-UUID",
        "Linear-Delivery",
        "Request-ID",
        "X-Shopify-Webhook-Id",
    )
    for name in names:
        for proxy in ("1", "2"):  # a proxy numbers each attempt
            await api.post(
                "/v1/hooks/open",
                content=b"{}",
                headers={**JSON, name: f"{name}-1", "X-Request-Id": proxy},
            )
    assert len(await events(api)) == len(names)


async def test_all_of_a_signature_is_a_setting(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    key = bytes(range(32))
    hook = await create(
        "h",
        header="X-Sig",
        prefix="s=",
        algorithm="sha512",
        encoding="base64",
        timestampHeader="X-Sig",
        timestampPrefix="ts=",
        timestampFormat="milliseconds",
        signed="{id}/{timestamp}/{body}",
        secretEncoding="hex",
        deliveryHeader="X-Call",
        secretLimit=3,
        secret=key.hex(),
    )
    at = int(clock.now.timestamp() * 1000)
    signature = b64encode(hmac.digest(key, f"c-1/{at}/".encode() + b"[1]", "sha512")).decode()
    headers = {**JSON, "X-Sig": f"ts={at};s={signature}", "X-Call": "c-1"}
    assert (await api.post("/v1/hooks/h", content=b"[1]", headers=headers)).status_code == 202
    assert (
        await api.post("/v1/hooks/h", content=b"[1]", headers=headers | {"X-Call": "c-2"})
    ).status_code == 401
    assert (
        await api.post("/v1/hooks/h", content=b"[1]", headers=headers | {"X-Call": f"c-1/{at}"})
    ).status_code == 401
    (event,) = await events(api)
    assert event["payload"]["deliveryId"] == "c-1"
    tried = await api.post("/v1/hooks/h/test", content=b"[2]", headers=JSON)
    assert tried.json()["outcome"] == "accepted"
    shown = (await api.get("/v1/hooks/h")).json()
    assert shown["signed"] == hook["signed"] == "{id}/{timestamp}/{body}"
    assert (await api.put("/v1/hooks/h", json=shown)).json() == shown


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"signed": "{timestamp}{body}"}, "signed"),
    ({"signed": "v0"}, "signed"),
    ({"signed": "{body}{secret}"}, "signed"),
    ({"signed": "{body"}, "signed"),
    ({"signed": "{id}.{body}"}, "signed"),
    ({"signed": "{id}{body}", "deliveryHeader": "X-Id"}, "signed"),
    ({"timestampHeader": "X-T", "signed": "{body}"}, "signed"),
    ({"timestampPrefix": "t="}, "timestampPrefix"),
    ({"timestampHeader": "X-T", "timestampFormat": "days"}, "timestampFormat"),
    ({"scheme": "header", "header": "X", "signed": "{body}"}, "signed"),
    ({"scheme": "standard", "deliveryHeader": "X"}, "deliveryHeader"),
    ({"deliveryField": "a..b"}, "deliveryField"),
    ({"deliveryHeader": "no such"}, "deliveryHeader"),
    ({"secretLimit": 0}, "secretLimit"),
    ({"secretLimit": 11}, "secretLimit"),
    ({"secretEncoding": "hex", "secret": "not hex at all"}, "secret"),
]


async def test_settings_that_make_no_sense_are_refused(api: httpx2.AsyncClient) -> None:
    for order, path in BAD_SETTINGS:
        answer = await api.post("/v1/hooks", json={"name": "h", **order})
        assert answer.status_code == 400, order
        assert path in {problem["path"] for problem in answer.json()["problems"]}, order


async def test_several_senders_have_a_secret_each_and_no_more_than_the_limit(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    await create("h", "pagerduty", secret="the first one")
    assert (
        await api.post("/v1/hooks/h/secret", json={"secret": "the second one", "add": True})
    ).status_code == 200
    refused = await api.post("/v1/hooks/h/secret", json={"secret": "the third one", "add": True})
    assert (refused.status_code, "secretLimit" in refused.json()["detail"]) == (409, True)
    assert (await api.put("/v1/hooks/h", json={"secretLimit": 3})).status_code == 200
    assert (
        await api.post("/v1/hooks/h/secret", json={"secret": "the third one", "add": True})
    ).status_code == 200
    clock.move(timedelta(days=400))
    secrets = ("the first one", "the second one", "the third one", "the fourth one")

    async def statuses() -> list[int]:
        found = []
        for secret in secrets:
            body = json.dumps({"event": {"id": f"{secret} {clock.now}"}}).encode()
            headers = {**JSON, "X-PagerDuty-Signature": f"v1={hex_of(secret, body)}"}
            found.append((await api.post("/v1/hooks/h", content=body, headers=headers)).status_code)
        return found

    assert await statuses() == [202, 202, 202, 401]
    await api.post("/v1/hooks/h/secret", json={"secret": "the fourth one", "keepOldFor": "0s"})
    assert await statuses() == [401, 401, 401, 202]


async def test_a_secret_that_the_settings_cannot_read_is_refused_when_they_change(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("h", secret="not base64 !")
    answer = await api.put("/v1/hooks/h", json={"secretEncoding": "base64"})
    assert answer.status_code == 400
    assert "secretEncoding" not in (await api.get("/v1/hooks/h")).json()


async def test_whose_vendor_makes_the_secret_is_told_what_to_do(
    api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("h", "stripe")
    assert "flyte hooks rotate h --secret-file" in hook["warnings"][0]


async def test_slacks_question_whether_the_address_is_ours_is_answered_and_no_event(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    await create("h", "slack", secret=SECRET)
    body = b'{"type": "url_verification", "challenge": "3eZbrw1a"}'
    answer = await api.post(
        "/v1/hooks/h", content=body, headers={**JSON, **by_slack(SECRET, body, clock.now)}
    )
    assert (answer.status_code, answer.json()) == (200, {"challenge": "3eZbrw1a"})
    assert (
        await api.post(
            "/v1/hooks/h", content=body, headers={**JSON, **by_slack("x" * 8, body, clock.now)}
        )
    ).status_code == 401
    assert await events(api) == []
    await create("other", scheme="none")
    assert (await api.post("/v1/hooks/other", content=body, headers=JSON)).status_code == 202


# ---------------------------------------------------------------------------------------- resending


async def test_a_call_can_be_resent_after_a_flow_was_corrected_which_the_vendor_cannot(
    api: httpx2.AsyncClient, create: Create, save_flow: Any, register: Any, step: Any
) -> None:
    hook = await create("github", "github")
    await register("Deployer")
    body = b'{"n": 12345678901234567890123}'
    headers = {
        **JSON,
        "X-Hub-Signature-256": "sha256=" + hex_of(hook["secret"], body),
        "X-GitHub-Delivery": "d-1",
    }
    for _ in range(2):
        assert (
            await api.post("/v1/hooks/github", content=body, headers=headers)
        ).status_code == 202
    (first,) = await events(api)
    await save_flow(
        "deploy", step("Webhook/github", "Deployer/Deploy", input="{{ Event.Payload.resentFrom }}")
    )
    answer = await api.post(f"/v1/hooks/github/calls/{first['id']}/resend")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["outcome"], answer.json()["reason"]) == (
        "accepted",
        f"resent from event {first['id']}",
    )
    assert (await api.post("/v1/packs/Deployer/actions/take")).json()["input"] == first["id"]
    again = next(each for each in await events(api) if each["id"] != first["id"])
    assert again["id"] == answer.json()["eventId"]
    assert again["payload"] == {**first["payload"], "resentFrom": first["id"]}
    assert "flyte hooks resend" in {call["peer"] for call in await calls(api, "github")}
    assert (
        (await api.post("/v1/hooks/github", content=body, headers=headers))
        .headers["location"]
        .endswith(first["id"])
    )


async def test_only_events_of_that_hook_can_be_resent(
    api: httpx2.AsyncClient, create: Create, register: Any
) -> None:
    await create("a", scheme="none")
    await create("b", scheme="none")
    await register("P")
    await api.post("/v1/packs/P/events", json={"event": "a", "payload": {}})
    await api.post("/v1/packs/Webhook/events", json={"event": "a", "payload": [1]})
    await api.post("/v1/hooks/b", content=b"{}", headers=JSON)
    for event in (await api.get("/v1/audit/events")).json()["events"]:
        assert (await api.post(f"/v1/hooks/a/calls/{event['id']}/resend")).status_code == 404
    assert (await api.post("/v1/hooks/a/calls/nothing/resend")).status_code == 404
    assert (await api.post("/v1/hooks/nowhere/calls/nothing/resend")).status_code == 404
    assert len((await api.get("/v1/audit/events")).json()["events"]) == 3


# ------------------------------------------------------------------------------------------- bodies


BODIES = [
    ("application/xml", "<a>ü</a>".encode(), "<a>ü</a>"),
    (
        "application/xml",
        '<?xml version="1.0" encoding="ISO-8859-1"?><a>ü</a>'.encode("latin-1"),
        None,
    ),
    ("application/atom+xml; charset=utf-8", "<a>ü</a>".encode(), "<a>ü</a>"),
    ("text/xml", "<a>ü</a>".encode("utf-16"), "<a>ü</a>"),
    (
        "application/x-ndjson",
        b'{"a": 1}\r\n\n[12345678901234567890123]\n',
        [{"a": 1}, [12345678901234567890123]],
    ),
    ("application/jsonl; charset=utf-8", b"1", [1]),
    ("application/json-seq", b"\x1e1\n\x1e2\n", [1, 2]),
    ("application/ndjson", b"\n", []),
]


async def test_xml_and_lines_of_json_are_read(api: httpx2.AsyncClient, create: Create) -> None:
    await create("open", scheme="none")
    for content_type, body, expected in BODIES:
        answer = await api.post(
            "/v1/hooks/open", content=body, headers={"Content-Type": content_type}
        )
        assert answer.status_code == 202, answer.text
        event = (await api.get(answer.headers["location"])).json()
        assert event["payload"]["body"] == (
            body.decode("latin-1") if expected is None else expected
        )


@pytest.mark.parametrize(
    ("charset", "content"),
    [
        ("koi8-r", "диск".encode("koi8-r")),
        ("windows-1251", "диск".encode("cp1251")),
        ("iso-8859-2", "łódź".encode("iso8859-2")),
        ("gb2312", "陳總 镕".encode("gbk")),
        ("Shift_JIS", "①髙".encode("cp932")),
        ("utf-16le", "é".encode("utf-16le")),
    ],
)
async def test_text_and_xml_are_read_in_the_charset_that_they_name(
    api: httpx2.AsyncClient, create: Create, charset: str, content: bytes
) -> None:
    await create("open", scheme="none")
    declared = f'<?xml version="1.0" encoding="{charset}"?>'.encode()
    calls_ = [(content, f"text/plain; charset={charset}")]
    if "16" not in charset:
        calls_.append((declared + content, "application/xml"))
    for body, content_type in calls_:
        answer = await api.post(
            "/v1/hooks/open", content=body, headers={"Content-Type": content_type}
        )
        assert answer.status_code == 202, answer.text
        event = (await api.get(answer.headers["location"])).json()
        assert event["payload"]["body"].rpartition("?>")[2] in (
            "диск",
            "łódź",
            "陳總 镕",
            "①髙",
            "é",
        )


async def test_a_wrong_line_is_named(api: httpx2.AsyncClient, create: Create) -> None:
    await create("open", scheme="none")
    answer = await api.post(
        "/v1/hooks/open", content=b"1\n\n{", headers={"Content-Type": "application/x-ndjson"}
    )
    assert (answer.status_code, "Line 3" in answer.json()["detail"]) == (400, True)


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


CODINGS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("X-GZIP", lambda data: gzip.compress(data[:3]) + gzip.compress(data[3:])),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


async def test_compressed_bodies_are_read_whichever_form_is_signed(
    api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("h")
    body = b'{"a": [1, 2]}'
    for coding, compress in CODINGS:
        sent = compress(body)
        for signed in (sent, body):
            headers = {
                **JSON,
                "Content-Encoding": coding,
                "X-Signature-256": f"sha256={hex_of(hook['secret'], signed)}",
            }
            answer = await api.post("/v1/hooks/h", content=sent, headers=headers)
            assert answer.status_code == 202, answer.text
            assert (await api.get(answer.headers["location"])).json()["payload"]["body"] == {
                "a": [1, 2]
            }
            assert (
                await api.post("/v1/hooks/h", content=compress(b"{}"), headers=headers)
            ).status_code == 401


async def test_a_small_body_that_becomes_huge_is_refused(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("open", scheme="none")
    await create("closed")
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}
    bomb = gzip.compress(b"x" * 5_000_000, 9)
    assert len(bomb) < 100_000
    answer = await api.post("/v1/hooks/open", content=bomb, headers=headers)
    assert (answer.status_code, "decompressed" in answer.json()["detail"]) == (413, True)
    assert (await calls(api, "open"))[0]["code"] == "too-large"
    signed = {**headers, "X-Signature-256": "sha256=00"}
    assert (await api.post("/v1/hooks/closed", content=bomb, headers=signed)).status_code == 401
    whole = gzip.compress(b"x" * 99_999)
    assert (await api.post("/v1/hooks/open", content=whole, headers=headers)).status_code == 202


BAD_COMPRESSION = [
    ("gzip", b"plain", "not valid gzip"),
    ("gzip", gzip.compress(b"[1]")[:-4], "not valid gzip"),
    ("gzip", gzip.compress(b"[1]") + b"and more", "not valid gzip"),
    ("gzip", gzip.compress(b"") * 101, "more than 100"),
    ("deflate", b"\xff\xff", "not valid deflate"),
    ("br", b"\x0b", "gzip and deflate"),
    ("gzip, gzip", gzip.compress(gzip.compress(b"[1]")), "gzip and deflate"),
]


async def test_compression_that_cannot_be_undone_is_refused(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("open", scheme="none")
    for coding, body, why in BAD_COMPRESSION:
        answer = await api.post(
            "/v1/hooks/open", content=body, headers={**JSON, "Content-Encoding": coding}
        )
        assert answer.status_code == 400, why
        assert why in answer.json()["detail"]


async def test_with_auth_only_admins_resend(
    service: Service, options: Options, api: httpx2.AsyncClient, create: Create
) -> None:

    await create("open", scheme="none")
    await api.post("/v1/hooks/open", content=b"{}", headers=JSON)
    (event,) = await events(api)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(service, options, Authenticator(service.tokens))),
        base_url=BASE,
    ) as vendor:
        assert (await vendor.post(f"/v1/hooks/open/calls/{event['id']}/resend")).status_code == 401
    assert len(await events(api)) == 1
