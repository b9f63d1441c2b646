"""Which results mean that a command has failed."""

from datetime import UTC, datetime

import msgspec
import pytest

from flyteops.engine.failure import has_failed, is_failure
from flyteops.model import Event, EventDeclaration, NewEvent, PackDeclaration, PackRef

OUTPUT = {"stdout": "", "stderr": ""}
RESPONSE = {
    "headers": {},
    "body": None,
    "bodyType": "text",
    "url": "http://x.example",
    "elapsed": 0.1,
}
AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
PACK = PackDeclaration(
    "P", events=(EventDeclaration("Broken", failure=True), EventDeclaration("Fine"))
).seen(AT)


def a_result(event, payload=None, failure=msgspec.UNSET):
    return Event("e1", event, PackRef("P", "P"), msgspec.json.encode(payload), AT, failure=failure)


@pytest.mark.parametrize(
    ("event", "payload", "is_failure"),
    [
        ("FATAL", None, True),
        ("SendMessageFailed", {}, True),
        ("GetChannelInfoFail", {}, True),
        ("FailedToStartStage", {}, True),
        ("Broken", None, False),
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
def test_a_result_from_before_marks_were_stored_is_judged_by_its_name_and_the_payload_of_our_packs(
    event, payload, is_failure
):
    assert has_failed(a_result(event, payload)) == is_failure


@pytest.mark.parametrize(
    ("event", "mark", "expected"),
    [
        ("Fine", False, False),
        ("Fine", True, True),
        ("Broken", False, True),
        ("Undeclared", False, False),
        ("SendMessageFailed", False, True),
        ("FATAL", False, True),
        ("Output", False, False),
    ],
)
def test_a_command_has_failed_by_the_mark_of_its_result_its_name_or_the_declaration_of_its_pack(
    event, mark, expected
):
    payload = msgspec.json.encode(OUTPUT | {"exit_code": 1})
    assert is_failure(NewEvent(event, payload, failure=mark), PACK) is expected


@pytest.mark.parametrize("failure", [True, False])
def test_what_was_stored_with_a_result_decides(failure):
    assert has_failed(a_result("Output", OUTPUT | {"exit_code": 1}, failure)) is failure


def test_a_damaged_payload_is_no_failure():
    assert not has_failed(Event("e1", "Output", PackRef("P", "P"), b"{", AT))
