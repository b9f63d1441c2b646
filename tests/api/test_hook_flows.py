"""The flows on the page about webhooks do what they say, with calls such as each vendor makes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from flyteops.document import parse_yaml
from flyteops.service import Service
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from tests.api.conftest import BASE
from tests.api.test_hooks import JSON, by_standard, signed_by
from tests.docs.blocks import blocks_of

ROOT = Path(__file__).parents[2]
FLOWS = {
    flow["steps"][0]["event"]["name"]: flow
    for block in blocks_of(ROOT / "docs/howto/receive-webhooks.md")
    if block.language == "yaml" and block.text.startswith("name:")
    for flow in [parse_yaml(block.text.encode()).value]
}

SAID = {
    "github": "ann pushed to ours/shop",
    "gitlab": "Ann merged Show prices with tax",
    "alertmanager": "db1:9100: 2% left. db2:9100: 1% left. ",
    "grafana": "[FIRING:1] Slow checkout (shop)",
    "jira": "SHOP-17: Prices lack tax",
    "backup": "The backup of shop failed: no space left",
}


@pytest.fixture
async def api(service: Service, options: Options) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(service, options)), base_url=BASE
    ) as client:
        yield client


def test_the_page_has_a_flow_for_each() -> None:
    assert set(FLOWS) == set(SAID)


@pytest.mark.parametrize("name", SAID)
async def test_the_flow_for_a_vendor_reacts_to_its_call(
    name: str, api: httpx2.AsyncClient, service: Service
) -> None:
    vendor = "generic" if name == "backup" else name
    body = (ROOT / "tests/data/hooks" / f"{vendor}.json").read_bytes()
    hook = (await api.post("/v1/hooks", json={"name": name, "vendor": vendor})).json()
    assert (await api.post("/v1/flows", json=FLOWS[name])).status_code == 201
    await api.post("/v1/packs", json={"name": "Chat"})
    headers = await signed_by(vendor, hook, body, int(service.now().timestamp()))
    answer = await api.post(f"/v1/hooks/{name}", content=body, headers=headers)
    assert answer.status_code == 202
    action = (await api.post("/v1/packs/Chat/actions/take")).json()
    assert action["input"] == {"channelId": "ops", "message": SAID[name]}
    other = json.dumps(
        {"nothing": "of that", "ok": True, "status": "resolved", "object_kind": "build"}
    ).encode()
    again = await signed_by(vendor, hook, other, int(service.now().timestamp()))
    again = (
        by_standard(hook["secret"], other, "another", int(service.now().timestamp()))
        if vendor == "gitlab"
        else again
    )
    again |= {
        "X-GitHub-Delivery": "2",
        "X-Atlassian-Webhook-Identifier": "2",
        "Idempotency-Key": "2",
        **JSON,
    }
    assert (await api.post(f"/v1/hooks/{name}", content=other, headers=again)).status_code == 202
    assert (await api.post("/v1/packs/Chat/actions/take")).status_code == 204
