"""Which results are shown as failures."""

import msgspec
import pytest

from flyteops.cli.failure import Failures
from flyteops.web.audit import EventView, PackRefView

OUTPUT = {"stdout": "", "stderr": ""}
RESPONSE = {"headers": {}, "body": None, "bodyType": "text", "url": "http://x.example", "elapsed": 0.1}
AT = "2026-03-01T12:30:00Z"


def a_result(event, payload=None, pack="P.env.lab"):
    raw = msgspec.Raw(msgspec.json.encode(payload))
    return EventView(event=event, pack=PackRefView(id=pack, name="P"), payload=raw, created_at=AT, received_at=AT)


@pytest.mark.parametrize(
    ("event", "payload", "is_failure"),
    [
        ("FATAL", None, True),
        ("SendMessageFailed", {}, True),
        ("GetChannelInfoFail", {}, True),
        ("FailedToStartStage", {}, True),
        ("Broken", None, True),
        ("MessageSent", {}, False),
        ("Failed", None, False),
        ("Output", OUTPUT | {"exit_code": 0}, False),
        ("Output", OUTPUT | {"exit_code": 1}, True),
        ("Output", OUTPUT | {"exit_code": -1}, True),
        ("Output", {"exit_code": 1}, False),
        ("Output", "text", False),
        ("Output", [1], False),
        ("Response", RESPONSE | {"status": 399}, False),
        ("Response", RESPONSE | {"status": 400}, True),
        ("Response", RESPONSE | {"status": 503}, True),
        ("Response", {"status": 500}, False),
        ("Response", RESPONSE | {"status": "500"}, False),
        ("Response", None, False),
    ],
)
def test_a_failure_is_known_by_its_name_its_declaration_or_the_payload_of_our_packs(event, payload, is_failure):
    failures = Failures([("P.env.lab", "Broken")])
    assert failures.has(a_result(event, payload)) == is_failure


def test_a_declaration_speaks_for_its_pack_alone():
    assert not Failures([("Other", "Broken")]).has(a_result("Broken"))


def test_a_result_without_a_payload_is_judged_by_its_name():
    view = EventView(event="Output", pack=PackRefView(id="P", name="P"), created_at=AT, received_at=AT)
    assert not Failures().has(view)
