"""Hooks: calls of others become events, once, if those who call are who they say; and why not is
told to those who may know.
"""

import asyncio
import hmac
import json
import logging
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from cryptography.fernet import Fernet

from flyteops.service import Service, TokenRequest
from flyteops.service.auditlog.snapshot import take_snapshot
from flyteops.service.encryption import Encryptor
from flyteops.service.hook.record import KEPT
from flyteops.service.hook.registry import PACK
from flyteops.storage.base import Store
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from flyteops.web.auth.authenticator import Authenticator
from flyteops.web.auth.policyfile import read_policy
from tests.api.conftest import BASE, Server
from tests.support.clock import Clock

JSON = {"Content-Type": "application/json"}
PUSH = b'{"ref": "refs/heads/main", "repository": {"full_name": "ours/shop"}}'

Create = Callable[..., Awaitable[dict[str, Any]]]


def sealed(store: Store, clock: Clock) -> Service:
    return Service(store, clock=clock, encryptor=Encryptor([Fernet.generate_key().decode()]))


@pytest.fixture
async def service(store: Store, clock: Clock) -> Service:
    service = sealed(store, clock)
    await service.start()
    return service


@pytest.fixture
def create(api: httpx2.AsyncClient) -> Create:
    async def create(name: str, vendor: str = "generic", **more: Any) -> dict[str, Any]:
        answer = await api.post("/v1/hooks", json={"name": name, "vendor": vendor, **more})
        assert answer.status_code == 201, answer.text
        hook: dict[str, Any] = answer.json()
        return hook

    return create


async def calls(api: httpx2.AsyncClient, name: str) -> list[dict[str, Any]]:
    answer = await api.get(f"/v1/hooks/{name}/calls")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["calls"]
    return found


async def events(api: httpx2.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (
        await api.get("/v1/audit/events", params={"packName": PACK})
    ).json()["events"]
    return found


def hex_of(secret: str, signed: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), signed, algorithm).hexdigest()


def by_github(
    secret: str, body: bytes, delivery: str = "72d3162e-cc78-11e3-81ab-4c9367dc0958"
) -> dict[str, str]:
    signature = f"sha256={hex_of(secret, body)}"
    return {
        **JSON,
        "X-Hub-Signature-256": signature,
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": delivery,
    }


def by_standard(secret: str, body: bytes, number: str, at: int) -> dict[str, str]:
    from base64 import b64decode  # noqa: PLC0415

    key = b64decode(secret.removeprefix("whsec_"))
    signature = b64encode(hmac.digest(key, f"{number}.{at}.".encode() + body, "sha256")).decode()
    return {
        **JSON,
        "webhook-id": number,
        "webhook-timestamp": str(at),
        "webhook-signature": f"v1,AAAA v1,{signature}",
    }


async def test_a_call_of_github_becomes_an_event_that_flows_react_to(
    api: httpx2.AsyncClient, create: Create, save_flow: Any, register: Any, step: Any
) -> None:
    hook = await create("github", "github")
    assert hook["url"] == f"{BASE}/v1/hooks/github"
    await register("Deployer")
    where = {
        "criteria": "{{ Event.Payload.event|match:'^push$' }}",
        "input": "{{ Event.Payload.body.repository.full_name }}",
    }
    await save_flow("deploy", step("Webhook/github", "Deployer/Deploy", **where))
    answer = await api.post(
        "/v1/hooks/github?a=1&b=2&b=3", content=PUSH, headers=by_github(hook["secret"], PUSH)
    )
    assert (answer.status_code, answer.content) == (202, b"")
    taken = (await api.post("/v1/packs/Deployer/actions/take")).json()
    assert taken["input"] == "ours/shop"
    (event,) = await events(api)
    assert answer.headers["location"].endswith(event["id"])
    payload = event["payload"]
    headers = payload.pop("headers")
    assert headers.pop("user-agent")
    assert headers == {
        "content-type": "application/json",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-github-event": "push",
    }
    assert payload == {
        "hook": "github",
        "vendor": "github",
        "event": "push",
        "deliveryId": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "receivedAt": "2026-03-01T12:30:00.25Z",
        "contentType": "application/json",
        "query": {"a": "1", "b": ["2", "3"]},
        "body": json.loads(PUSH),
    }
    (call,) = await calls(api, "github")
    assert (call["outcome"], call["eventId"], call["body"]) == (
        "accepted",
        event["id"],
        PUSH.decode(),
    )
    assert call["headers"]["x-hub-signature-256"] == "***"


async def signed_by(vendor: str, hook: dict[str, Any], body: bytes, now: int) -> dict[str, str]:
    secret = hook["secret"]
    match vendor:
        case "github":
            return by_github(secret, body)
        case "gitlab":
            return {
                **by_standard(secret, body, "f5e5f430-f57b-4e6e-9fac-d9128cd7232f", now),
                "X-Gitlab-Event": "Push Hook",
            }
        case "alertmanager":
            return {**JSON, "Authorization": f"Bearer {secret}"}
        case "grafana":
            return {**JSON, "X-Grafana-Alerting-Signature": hex_of(secret, body)}
        case "jira":
            return {
                **JSON,
                "X-Hub-Signature": f"sha256={hex_of(secret, body)}",
                "X-Atlassian-Webhook-Identifier": "4711",
            }
        case _:
            return {
                **JSON,
                "X-Signature-256": f"sha256={hex_of(secret, body)}",
                "Idempotency-Key": "k-1",
            }


@pytest.mark.parametrize(
    "vendor", ["github", "gitlab", "alertmanager", "grafana", "jira", "generic"]
)
async def test_who_does_not_know_the_secret_or_changes_the_body_is_refused_and_why_is_noted(
    vendor: str, api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    hook = await create("h", vendor)
    headers = await signed_by(vendor, hook, PUSH, int(clock.now.timestamp()))
    other = await signed_by(
        vendor, hook | {"secret": "whsec_AAAA"}, PUSH, int(clock.now.timestamp())
    )
    for wrong in (JSON, other):
        answer = await api.post("/v1/hooks/h", content=PUSH, headers=wrong)
        assert answer.status_code == 401
    if vendor != "alertmanager":  # which shows its secret, and signs nothing
        assert (
            await api.post("/v1/hooks/h", content=PUSH + b" ", headers=headers)
        ).status_code == 401
    assert (await api.post("/v1/hooks/h", content=PUSH, headers=headers)).status_code == 202
    codes = {call.get("code", call["outcome"]) for call in await calls(api, "h")}
    assert codes == {"accepted", "bad-signature", "no-signature"}
    assert len(await events(api)) == 1
    shown = (
        json.dumps(await calls(api, "h"))
        + json.dumps((await api.get("/v1/hooks/h")).json())
        + json.dumps(await events(api))
    )
    assert hook["secret"] not in shown
    assert not any(
        value.removeprefix("sha256=") in shown
        for name, value in headers.items()
        if "ignature" in name
    )


async def test_an_unknown_hook_is_answered_as_a_wrong_signature_is(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("known", "github")
    answers = [
        await api.post(f"/v1/hooks/{name}", content=PUSH, headers=by_github("x" * 20, PUSH))
        for name in ("known", "not")
    ]
    assert answers[0].status_code == 401
    assert answers[0].content == answers[1].content
    assert answers[0].headers == answers[1].headers


@pytest.mark.parametrize("vendor", ["github", "gitlab", "jira", "generic"])
async def test_a_call_that_comes_again_makes_no_second_event_and_gets_the_same_answer(
    vendor: str, api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    hook = await create("h", vendor)
    first = await api.post(
        "/v1/hooks/h",
        content=PUSH,
        headers=await signed_by(vendor, hook, PUSH, int(clock.now.timestamp())),
    )
    clock.move(timedelta(hours=3))
    again = await api.post(
        "/v1/hooks/h",
        content=PUSH,
        headers=await signed_by(vendor, hook, PUSH, int(clock.now.timestamp())),
    )
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.headers["location"] == again.headers["location"]
    assert len(await events(api)) == 1
    assert [call["outcome"] for call in await calls(api, "h")] == ["repeated", "accepted"]


@pytest.mark.parametrize(("seconds", "status"), [(299, 202), (-299, 202), (301, 401), (-301, 401)])
async def test_what_was_signed_long_ago_or_is_from_the_future_is_refused(
    seconds: int, status: int, api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    hook = await create("h", scheme="standard")
    headers = by_standard(hook["secret"], PUSH, "msg_1", int(clock.now.timestamp()) - seconds)
    assert (await api.post("/v1/hooks/h", content=PUSH, headers=headers)).status_code == status
    (call,) = await calls(api, "h")
    assert call.get("code") == (None if status == 202 else "too-old")
    assert (
        status == 202
        or "301 s" in call["reason"]
        or "300 s" in call["reason"]
        or "302 s" in call["reason"]
    )


async def test_no_dot_in_an_id_moves_the_border_between_what_is_signed(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    hook = await create("h", scheme="standard")
    at = int(clock.now.timestamp())
    text = {"Content-Type": "text/plain"}
    body = f"{at + 200}.later".encode()
    first = by_standard(hook["secret"], body, "msg_1", at)
    assert (
        await api.post("/v1/hooks/h", content=body, headers={**first, **text})
    ).status_code == 202
    # The very same bytes are signed, but another id and another time, as if it were another call.
    moved = {**first, **text, "webhook-id": f"msg_1.{at}", "webhook-timestamp": str(at + 200)}
    assert (await api.post("/v1/hooks/h", content=b"later", headers=moved)).status_code == 401
    dotted = by_standard(hook["secret"], PUSH, "msg.2", at)
    assert (await api.post("/v1/hooks/h", content=PUSH, headers=dotted)).status_code == 401
    assert [call.get("code") for call in await calls(api, "h")].count("bad-id") == 2


async def test_grafana_may_sign_the_time_which_then_must_be_there_and_lets_nobody_replay(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    hook = await create("g", "grafana", timestampHeader="X-Grafana-Alerting-Timestamp", window="1m")
    at = str(int(clock.now.timestamp()))
    signature = hex_of(hook["secret"], f"{at}:".encode() + PUSH)
    headers = {
        **JSON,
        "X-Grafana-Alerting-Signature": signature,
        "X-Grafana-Alerting-Timestamp": at,
    }
    first = await api.post("/v1/hooks/g", content=PUSH, headers=headers)
    again = await api.post("/v1/hooks/g", content=PUSH, headers=headers)
    assert (first.status_code, first.headers["location"]) == (202, again.headers["location"])
    # The same bytes with the time moved into the body are no other call.
    clock.move(timedelta(seconds=1))
    moved = {"Content-Type": "text/plain", "X-Grafana-Alerting-Signature": signature}
    assert (
        await api.post("/v1/hooks/g", content=f"{at}:".encode() + PUSH, headers=moved)
    ).status_code == 401
    clock.move(timedelta(minutes=2))
    assert (await api.post("/v1/hooks/g", content=PUSH, headers=headers)).status_code == 401
    assert [call.get("code", call["outcome"]) for call in await calls(api, "g")][:2] == [
        "too-old",
        "no-signature",
    ]


async def test_gitlab_may_show_its_token_instead_of_signing(
    api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("gitlab", "gitlab")
    headers = {
        **JSON,
        "X-Gitlab-Token": hook["secret"],
        "X-Gitlab-Event": "Push Hook",
        "X-Gitlab-Event-UUID": "e-1",
    }
    assert (await api.post("/v1/hooks/gitlab", content=PUSH, headers=headers)).status_code == 202
    # Without a number of their own, two calls about the same event are two if they say different
    # things.
    assert (
        await api.post("/v1/hooks/gitlab", content=b'{"n": 2}', headers=headers)
    ).status_code == 202
    assert (await api.post("/v1/hooks/gitlab", content=PUSH, headers=headers)).status_code == 202
    assert len(await events(api)) == 2
    assert hook["secret"] not in json.dumps([await events(api), await calls(api, "gitlab")])


async def test_alertmanager_may_show_a_password_and_a_user_name_counts_if_there_is_one(
    api: httpx2.AsyncClient, create: Create
) -> None:
    basic = {
        name: "Basic " + b64encode(f"{name}:correct horse".encode()).decode()
        for name in ("flyte", "other")
    }
    await create("any", "alertmanager", secret="correct horse")
    await create("one", "alertmanager", secret="correct horse", username="flyte")
    body = b'{"status": "firing", "alerts": []}'

    async def status(hook: str, authorization: str) -> int:
        return (
            await api.post(
                f"/v1/hooks/{hook}", content=body, headers={**JSON, "Authorization": authorization}
            )
        ).status_code

    assert [
        await status("any", each)
        for each in (basic["other"], "Bearer correct horse", "Basic ???", "Digest x")
    ] == [
        202,
        202,
        401,
        401,
    ]
    assert [
        await status("one", each)
        for each in (basic["flyte"], basic["other"], "Bearer correct horse")
    ] == [202, 401, 401]
    assert {event["payload"]["event"] for event in await events(api)} == {"firing"}


async def test_any_header_algorithm_and_encoding_will_do(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("sha1", header="X-Sig", prefix="", algorithm="sha1", secret="correct horse")
    await create(
        "sha512",
        header="X-Sig",
        prefix="v=",
        algorithm="sha512",
        encoding="base64",
        secret="correct horse",
    )
    await create("token", scheme="header", header="X-Pass", prefix="Token ", secret="correct horse")
    await create("open", scheme="none")
    digest = b64encode(hmac.digest(b"correct horse", PUSH, "sha512")).decode()
    for name, headers in {
        "sha1": {"X-Sig": hex_of("correct horse", PUSH, "sha1").upper()},
        "sha512": {"X-Sig": f"v={digest}"},
        "token": {"X-Pass": "Token correct horse"},
        "open": {},
    }.items():
        answer = await api.post(f"/v1/hooks/{name}", content=PUSH, headers={**JSON, **headers})
        assert answer.status_code == 202, name
    assert "correct horse" not in json.dumps([await events(api), await calls(api, "token")])


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        (
            "application/vnd.api+json",
            b'{"big": 12345678901234567890123}',
            {"big": 12345678901234567890123},
        ),
        ("application/json; charset=iso-8859-1", '"ä"'.encode("latin-1"), "ä"),
        ("application/json", b"\xef\xbb\xbf[1]", [1]),
        ("", b"[2]", [2]),
        ("application/json", b"", None),
        (
            "application/x-www-form-urlencoded",
            b"a=1&b=x%20y&b=&c",
            {"a": "1", "b": ["x y", ""], "c": ""},
        ),
        (
            "application/x-www-form-urlencoded",
            b"payload=%7B%22action%22%3A%22opened%22%7D",
            {"action": "opened"},
        ),
        ("text/plain; charset=UTF-8", "Grüße\n".encode(), "Grüße\n"),
        ("text/plain; charset=windows-1252", b"\x80", "€"),
    ],
)
async def test_json_forms_and_text_are_read(
    content_type: str, body: bytes, expected: Any, api: httpx2.AsyncClient, create: Create
) -> None:
    await create("open", scheme="none")
    headers = {"Content-Type": content_type} if content_type else {}
    answer = await api.post("/v1/hooks/open", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    (event,) = await events(api)
    assert event["payload"]["body"] == expected


@pytest.mark.parametrize(
    ("headers", "body", "why"),
    [
        ({"Content-Type": "application/json"}, b"{", "not valid JSON"),
        ({"Content-Type": "application/json"}, b"[" * 300 + b"]" * 300, "deep"),
        ({"Content-Type": "application/json"}, b'"\xff"', "not text in utf-8"),
        (
            {"Content-Type": "application/json", "Content-Encoding": "gzip"},
            b"\x1f\x8b",
            "compressed",
        ),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--", "send JSON"),
        ({"Content-Type": "application/octet-stream"}, b"x", "send JSON"),
        ({"Content-Type": "text/plain; charset=unicode_escape"}, b"x", "charset"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a=%ff", "not UTF-8"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"a&" * 2000, "more than"),
    ],
)
async def test_what_cannot_be_read_is_refused_and_told_to_a_genuine_caller_only(
    headers: dict[str, str], body: bytes, why: str, api: httpx2.AsyncClient, create: Create
) -> None:
    await create("open", scheme="none")
    await create("closed", "github")
    answer = await api.post("/v1/hooks/open", content=body, headers=headers)
    assert answer.status_code == 400
    (call,) = await calls(api, "open")
    assert call["code"] == "unreadable"
    assert why in call["reason"]
    assert (await api.post("/v1/hooks/closed", content=body, headers=headers)).status_code == 401
    assert await events(api) == []


async def test_a_body_that_is_too_large_is_refused_and_noted(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("open", scheme="none")
    answer = await api.post(
        "/v1/hooks/open", content=b"x" * 100_001, headers={"Content-Type": "text/plain"}
    )
    assert answer.status_code == 413
    (call,) = await calls(api, "open")
    assert (call["code"], "size" in call) == ("too-large", False)
    assert (
        await api.post(
            "/v1/hooks/open", content=b"x" * 99_999, headers={"Content-Type": "text/plain"}
        )
    ).status_code == 202


async def test_with_auth_others_may_call_and_nothing_else(
    service: Service, options: Options, api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("github", "github")
    transport = httpx2.ASGITransport(create_app(service, options, Authenticator(service.tokens)))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as vendor:
        headers = by_github(hook["secret"], PUSH)
        assert (
            await vendor.post("/v1/hooks/github", content=PUSH, headers=headers)
        ).status_code == 202
        for path in ("/hooks", "/hooks/hooks.js", "/hooks/hooks.css"):
            answer = await vendor.get(path)
            assert answer.status_code == 200
            assert "unsafe" not in answer.headers["content-security-policy"]
        assert (await vendor.get("/hooks/other.js")).status_code == 404
        refused = [
            ("GET", "/v1/hooks"),
            ("POST", "/v1/hooks"),
            ("GET", "/v1/hooks/github"),
            ("PUT", "/v1/hooks/github"),
        ]
        refused += [("DELETE", "/v1/hooks/github"), ("GET", "/v1/hooks/github/calls")]
        refused += [
            ("POST", "/v1/hooks/github/secret"),
            ("POST", "/v1/hooks/github/test"),
            ("POST", "/v1/hooks/github/"),
        ]
        for method, path in refused[:-1]:
            answer = await vendor.request(method, path, content=PUSH, headers=headers)
            assert answer.status_code == 401, (method, path)
            assert "token is required" in answer.json()["detail"]
        _, text = await service.tokens.create(TokenRequest(pack_name="Webhook"))
        answer = await vendor.get("/v1/hooks", headers={"Authorization": f"Bearer {text}"})
        assert answer.status_code == 401


async def test_a_policy_file_decides_about_calls_as_about_everything(
    service: Service, options: Options, api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("github", "github")
    for policy, status in (
        (b"- path: /v1\n", 401),
        (b"- path: /v1/hooks/:hook\n  methods: [POST]\n", 202),
    ):
        transport = httpx2.ASGITransport(
            create_app(service, options, Authenticator(service.tokens, read_policy(policy)))
        )
        async with httpx2.AsyncClient(transport=transport, base_url=BASE) as vendor:
            answer = await vendor.post(
                "/v1/hooks/github", content=PUSH, headers=by_github(hook["secret"], PUSH)
            )
            assert answer.status_code == status


async def test_the_page_of_another_site_may_not_call(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("open", scheme="none")
    headers = {**JSON, "Origin": "https://evil.example.com"}
    assert (await api.post("/v1/hooks/open", content=PUSH, headers=headers)).status_code == 403


async def test_a_secret_is_shown_once_and_kept_encrypted(
    api: httpx2.AsyncClient, create: Create, store: Store
) -> None:
    answer = await api.post("/v1/hooks", json={"name": "github", "vendor": "github"})
    assert answer.headers["cache-control"] == "no-store"
    hook = answer.json()
    assert "warnings" not in hook
    for path in (
        "/v1/hooks",
        "/v1/hooks/github",
        "/v1/hooks/github/calls",
        "/v1/audit/changes",
        "/v1/packs/Webhook",
    ):
        assert hook["secret"] not in (await api.get(path)).text
    assert all(hook["secret"].encode() not in note.value for note in await store.list_notes("hook"))
    given = await api.post(
        "/v1/hooks", json={"name": "other", "vendor": "github", "secret": "correct horse"}
    )
    assert "secret" not in given.json()


async def test_without_a_key_the_secret_is_kept_as_it_is_with_a_warning_and_encrypted_once_there_is_a_key(
    store: Store, clock: Clock, options: Options
) -> None:
    bare = Service(store, clock=clock)
    await bare.start()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(bare, options)), base_url=BASE
    ) as api:
        hook = (await api.post("/v1/hooks", json={"name": "github", "vendor": "github"})).json()
    assert "no key" in hook["warnings"][0]
    later = sealed(store, clock)
    await later.start()
    (note,) = await store.list_notes("hook")
    assert hook["secret"].encode() not in note.value
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(later, options)), base_url=BASE
    ) as api:
        answer = await api.post(
            "/v1/hooks/github", content=PUSH, headers=by_github(hook["secret"], PUSH)
        )
        assert answer.status_code == 202
        said = [
            f"{each['name']} {each['action']}"
            for each in (await api.get("/v1/audit/changes?kind=hook")).json()["changes"]
        ]
        assert said == ["github rotated", "github created"]


async def test_a_hook_whose_secret_no_key_opens_lets_nobody_in_and_says_so(
    api: httpx2.AsyncClient,
    create: Create,
    store: Store,
    clock: Clock,
    options: Options,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hook = await create("github", "github")
    with caplog.at_level(logging.WARNING, logger="flyte.hooks"):
        other = sealed(store, clock)
        await other.start()
    assert "cannot be decrypted" in caplog.text
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(other, options)), base_url=BASE
    ) as client:
        answer = await client.post(
            "/v1/hooks/github", content=PUSH, headers=by_github(hook["secret"], PUSH)
        )
        assert answer.status_code == 401
        (call,) = await calls(client, "github")
        assert call["code"] == "no-secret"


async def test_while_a_secret_is_rotated_both_are_good_and_then_the_new_one_only(
    api: httpx2.AsyncClient, create: Create, clock: Clock
) -> None:
    old = (await create("github", "github"))["secret"]
    new = (await api.post("/v1/hooks/github/secret", json={"keepOldFor": "1h"})).json()["secret"]

    async def status(secret: str) -> int:
        headers = by_github(secret, PUSH, delivery=f"{secret}{clock.now}")
        return (await api.post("/v1/hooks/github", content=PUSH, headers=headers)).status_code

    assert [await status(old), await status(new)] == [202, 202]
    clock.move(timedelta(hours=1))
    assert [await status(old), await status(new)] == [401, 202]
    newest = (
        await api.post(
            "/v1/hooks/github/secret", json={"keepOldFor": "0s", "secret": "correct horse"}
        )
    ).json()
    assert "secret" not in newest
    assert [await status(new), await status("correct horse")] == [401, 202]


async def test_who_made_rotated_and_removed_a_hook_is_kept_and_the_store_is_as_that_says(
    api: httpx2.AsyncClient, create: Create, store: Store
) -> None:
    hook = await create("github", "github")
    assert (
        await api.put("/v1/hooks/github", json={"vendor": "github", "description": "shop"})
    ).json()["description"] == "shop"
    await api.post("/v1/hooks/github/secret", json={})
    surveyed = await take_snapshot(store)
    assert ("hook", "github") in surveyed.states
    assert surveyed.differences() == []
    assert (await api.delete("/v1/hooks/github")).status_code == 204
    found = (await api.get("/v1/audit/changes?kind=hook")).json()["changes"]
    assert [each["action"] for each in found] == ["removed", "rotated", "updated", "created"]
    assert hook["secret"] not in str(found)
    for answer in (await api.delete("/v1/hooks/github"), await api.get("/v1/hooks/github/calls")):
        assert answer.status_code == 404
    assert (await api.get("/v1/packs/Webhook")).status_code == 404


async def test_the_pack_has_an_event_for_each_hook_and_comes_back_when_somebody_removes_it(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("b", scheme="none")
    await create("a", scheme="none")
    pack = (await api.get("/v1/packs/Webhook")).json()
    assert [event["name"] for event in pack["events"]] == ["a", "b"]
    assert pack["events"][0]["payloadSchema"]["properties"]["deliveryId"]
    await api.delete("/v1/packs/Webhook")
    assert (await api.post("/v1/hooks/a", content=PUSH, headers=JSON)).status_code == 202
    assert (await api.get("/v1/packs/Webhook")).json()["status"] == "live"


@pytest.mark.parametrize(
    ("order", "paths"),
    [
        ({}, ["name"]),
        ({"name": "a/b", "description": "x" * 300}, ["name", "description"]),
        ({"name": "FATAL"}, ["name"]),
        ({"name": "a", "vendor": "githug"}, ["vendor"]),
        ({"name": "a", "vendor": "github", "scheme": "none"}, ["scheme"]),
        ({"name": "a", "scheme": "header"}, ["header"]),
        (
            {"name": "a", "scheme": "none", "header": "X", "secret": "correct horse"},
            ["header", "secret"],
        ),
        ({"name": "a", "header": "no such: header", "algorithm": "md5"}, ["header", "algorithm"]),
        ({"name": "a", "window": "soon"}, ["window"]),
        ({"name": "a", "window": "0s", "secret": "short"}, ["window", "secret"]),
        ({"name": "a", "vendor": "gitlab", "secret": "whsec_???"}, ["secret"]),
    ],
)
async def test_a_hook_that_cannot_be_is_refused(
    api: httpx2.AsyncClient, order: dict[str, Any], paths: list[str]
) -> None:
    answer = await api.post("/v1/hooks", json=order)
    assert answer.status_code == 400, answer.text
    assert [problem["path"] for problem in answer.json()["problems"]] == paths


async def test_there_are_not_two_hooks_of_a_name(api: httpx2.AsyncClient, create: Create) -> None:
    await create("a")
    assert (await api.post("/v1/hooks", json={"name": "a"})).status_code == 409


@pytest.mark.parametrize(
    "vendor", ["github", "gitlab", "alertmanager", "grafana", "jira", "generic"]
)
async def test_a_hook_can_be_tried_without_its_vendor(
    vendor: str, api: httpx2.AsyncClient, create: Create
) -> None:
    await create("h", vendor)
    answer = await api.post("/v1/hooks/h/test?event=push", content=PUSH, headers=JSON)
    assert answer.status_code == 200, answer.text
    assert answer.json()["outcome"] == "accepted"
    (event,) = await events(api)
    assert event["payload"]["body"] == json.loads(PUSH)
    assert (await api.post("/v1/hooks/nowhere/test", content=PUSH)).status_code == 404


async def test_no_call_is_kept_of_a_hook_that_another_server_has_deleted(
    api: httpx2.AsyncClient, create: Create, store: Store, service: Service
) -> None:
    await create("github", "github")
    await api.post("/v1/hooks/github", content=PUSH, headers=JSON)
    await store.delete_note("hook", "github")
    await service.hooks.refresh()
    await service.run_maintenance()
    assert await store.list_notes("hook-call") == []


async def test_the_last_calls_are_kept_and_no_more_and_refused_ones_push_out_no_accepted_ones(
    api: httpx2.AsyncClient, create: Create, store: Store, clock: Clock, service: Service
) -> None:
    hook = await create("github", "github")
    for number in range(3):
        await api.post(
            "/v1/hooks/github", content=PUSH, headers=by_github(hook["secret"], PUSH, str(number))
        )
    for _ in range(2):
        for _ in range(KEPT + 5):
            clock.move(timedelta(milliseconds=1))
            await api.post(
                "/v1/hooks/github", content=PUSH, headers={**JSON, "x" * 5000: "y" * 5000}
            )
        await service.run_maintenance()
    found = await calls(api, "github")
    assert [call["outcome"] for call in found] == ["refused"] * KEPT + ["accepted"] * 3
    assert (
        max(len(text) for call in found for header in call["headers"].items() for text in header)
        == 200
    )
    assert len(await store.list_notes("hook-call")) == KEPT + 3
    await api.delete("/v1/hooks/github")
    assert await store.list_notes("hook-call") == []


async def test_many_calls_at_once_are_all_taken_in(
    server: Server, api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("github", "github")
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as vendor:
        headers = [by_github(hook["secret"], PUSH, str(number // 2)) for number in range(40)]
        answers = await asyncio.gather(
            *(vendor.post("/v1/hooks/github", content=PUSH, headers=each) for each in headers)
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len(await events(api)) == 20


async def test_before_the_store_is_there_callers_are_told_to_come_again(
    store: Store, options: Options
) -> None:
    starting = Service(store)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(starting, options)), base_url=BASE
    ) as vendor:
        answer = await vendor.post("/v1/hooks/github", content=PUSH, headers=JSON)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_two_servers_show_the_calls_of_both(
    service: Service,
    store: Store,
    clock: Clock,
    options: Options,
    api: httpx2.AsyncClient,
    create: Create,
) -> None:
    await create("open", scheme="none")
    other = Service(store, clock=clock)
    await other.start()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(other, options)), base_url=BASE
    ) as second:
        await second.post("/v1/hooks/open", content=b"1", headers=JSON)
        clock.move(timedelta(seconds=1))
        await api.post("/v1/hooks/open", content=b"2", headers=JSON)
        await other.run_maintenance()
        assert [call["body"] for call in await calls(api, "open")] == ["2", "1"]


@pytest.fixture
async def api(service: Service, options: Options) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(service, options)), base_url=BASE
    ) as client:
        yield client


# ------------------------------------------------------------------------------------------- by PUT

GRAFANA_ALERT = json.dumps(
    {
        "receiver": "flyte",
        "status": "firing",
        "alerts": [{"status": "firing", "labels": {"alertname": "Disk full"}}],
        "version": "1",
        "title": "[FIRING:1] Disk full",
        "state": "alerting",
        "message": "Disk full on web-1",
    }
).encode()


async def shown(api: httpx2.AsyncClient, name: str) -> dict[str, Any]:
    answer = await api.get(f"/v1/hooks/{name}")
    assert answer.status_code == 200, answer.text
    hook: dict[str, Any] = answer.json()
    return hook


async def test_a_genuine_delivery_by_put_is_a_call_and_changes_nothing_about_the_hook(
    api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("g", "grafana", description="alerts")
    before = await shown(api, "g")
    signed = {**JSON, "X-Grafana-Alerting-Signature": hex_of(hook["secret"], GRAFANA_ALERT)}
    answer = await api.put("/v1/hooks/g", content=GRAFANA_ALERT, headers=signed)
    assert answer.status_code == 202, answer.text
    (event,) = await events(api)
    assert answer.headers["location"].endswith(event["id"])
    assert await shown(api, "g") == before


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (GRAFANA_ALERT, "application/json"),
        (b"status: firing\ntitle: Disk full\n", "application/yaml"),
        (b"vendor=generic&scheme=none", "application/x-www-form-urlencoded"),
        (b"{}", "application/json"),
        (b"null", "application/json"),
        (b"", "application/json"),
        (b'["vendor"]', "application/json"),
        (b'{"vendor": "generic"', "application/json"),
        (b'{"vendor": "generic", "status": "firing"}', "application/json"),
        (b'{"links": []}', "application/json"),
        (b'{"vendor": "generic", "description": "' + b"x" * 70_000 + b'"}', "application/json"),
        (b"\xff\xfe", "text/plain"),
    ],
)
async def test_a_put_that_is_neither_a_definition_nor_genuine_is_refused_noted_and_changes_nothing(
    body: bytes, content_type: str, api: httpx2.AsyncClient, create: Create
) -> None:
    await create("g", "grafana", description="alerts")
    before = await shown(api, "g")
    answer = await api.put("/v1/hooks/g", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 401
    assert "A PUT updates a hook only if" in answer.json()["detail"]
    assert (
        await api.put("/v1/hooks/nobody", content=body, headers={"Content-Type": content_type})
    ).json() == answer.json()
    assert await shown(api, "g") == before
    assert not await events(api)
    assert [call["code"] for call in await calls(api, "g")] == ["no-signature"]


async def test_a_genuine_call_that_looks_like_a_definition_is_a_call(
    api: httpx2.AsyncClient, create: Create
) -> None:
    body = b'{"vendor": "generic", "description": "a product of this vendor"}'
    hook = await create("shop", "github")
    before = await shown(api, "shop")
    answer = await api.put("/v1/hooks/shop", content=body, headers=by_github(hook["secret"], body))
    assert answer.status_code == 202
    assert await shown(api, "shop") == before


async def test_an_update_that_does_not_name_the_vendor_keeps_what_it_leaves_out(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("g", "grafana", timestampHeader="X-Time", window="1m", description="alerts")
    before = await shown(api, "g")
    answer = await api.put("/v1/hooks/g", json={"description": "alerts of the shop"})
    assert answer.status_code == 200, answer.text
    assert await shown(api, "g") == {**before, "description": "alerts of the shop"}
    answer = await api.put("/v1/hooks/g", json={"window": "2m"})
    assert await shown(api, "g") == {**before, "description": "alerts of the shop", "window": "2m"}
    answer = await api.put("/v1/hooks/g", json={"scheme": "authorization", "vendor": None})
    changed = await shown(api, "g")
    assert (changed["vendor"], changed["scheme"], changed["description"]) == (
        "grafana",
        "authorization",
        "alerts of the shop",
    )
    assert "timestampHeader" not in changed


async def test_an_update_that_names_the_vendor_is_the_whole_definition(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("g", "grafana", timestampHeader="X-Time", window="1m", description="alerts")
    answer = await api.put("/v1/hooks/g", json={"vendor": "github", "name": "g"})
    assert answer.status_code == 200
    changed = await shown(api, "g")
    assert (changed["vendor"], changed["header"], changed["window"]) == (
        "github",
        "X-Hub-Signature-256",
        "5m",
    )
    assert "description" not in changed


async def test_a_hook_may_be_put_back_as_it_was_answered(
    api: httpx2.AsyncClient, create: Create
) -> None:
    await create("g", "grafana", timestampHeader="X-Time", window="1m", description="alerts")
    before = await shown(api, "g")
    answer = await api.put("/v1/hooks/g", json={**before, "description": "others"})
    assert answer.status_code == 200, answer.text
    assert await shown(api, "g") == {**before, "description": "others"}
    # To leave a hook as it is, is no change that the log has.
    changes = (await api.get("/v1/audit/changes")).json()["changes"]
    assert (await api.put("/v1/hooks/g", json=await shown(api, "g"))).status_code == 200
    assert (await api.get("/v1/audit/changes")).json()["changes"] == changes


async def test_with_auth_a_put_needs_an_admin_whatever_it_says_and_other_methods_are_not_allowed(
    service: Service, options: Options, api: httpx2.AsyncClient, create: Create
) -> None:
    hook = await create("g", "grafana")
    before = await shown(api, "g")
    _, admin = await service.tokens.create(TokenRequest(is_admin=True))
    transport = httpx2.ASGITransport(create_app(service, options, Authenticator(service.tokens)))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as client:
        signed = {**JSON, "X-Grafana-Alerting-Signature": hex_of(hook["secret"], GRAFANA_ALERT)}
        assert (
            await client.put("/v1/hooks/g", content=GRAFANA_ALERT, headers=signed)
        ).status_code == 401
        assert (await client.put("/v1/hooks/g", json={"vendor": "generic"})).status_code == 401
        may = {"Authorization": f"Bearer {admin}"}
        assert (
            await client.put("/v1/hooks/g", content=GRAFANA_ALERT, headers=may)
        ).status_code == 401
        assert await shown(api, "g") == before
        assert (
            await client.put("/v1/hooks/g", json={"description": "x"}, headers=may)
        ).status_code == 200
        assert (
            await client.patch("/v1/hooks/g", json={"description": "y"}, headers=may)
        ).status_code == 405
    assert await shown(api, "g") == {**before, "description": "x"}
