"""What the Slack pack tells flows, with Slack's official client between it and a stand-in for
Slack on the loopback.
"""

import asyncio
import logging
import shutil
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flyteops.packs.slack import deduplicator
from flyteops.packs.slack.messenger import plain
from flyteops.sdk import Event
from tests.slack import ANN, BOB, HELLO, Slack, payloads, running


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as slack:
        yield slack


# ------------------------------------------------------------------------------------------- events


async def test_what_somebody_says_becomes_a_received_message(slack: Slack) -> None:
    async with running(slack) as tester:
        await slack.happen(HELLO)
        answers = [{"user": "U2", "ts": "1.3"}]
        await slack.happen(
            HELLO
            | {
                "ts": "1.4",
                "thread_ts": "1.2",
                "text": "ä 🚀",
                "reply_count": 1,
                "replies": answers,
            }
        )
    message = {"channelId": "C1", "user": ANN, "message": "hello", "timestamp": "1700000001.000100"}
    assert tester.sent == [
        Event(
            "ReceivedMessage",
            {**message, "threadTimestamp": "1700000001.000100", "replyCount": 0, "replies": None},
        ),
        Event(
            "ReceivedMessage",
            {
                **message,
                "message": "ä 🚀",
                "timestamp": "1.4",
                "threadTimestamp": "1.2",
                "replyCount": 1,
                "replies": answers,
            },
        ),
    ]


async def test_a_reaction_tells_who_reacted_to_whose_message(slack: Slack) -> None:
    item = {"type": "message", "channel": "C1", "ts": "1.2"}
    reaction = {
        "type": "reaction_added",
        "user": "U2",
        "item_user": "U1",
        "reaction": "wave",
        "item": item,
        "event_ts": "1.5",
    }
    async with running(slack) as tester:
        await slack.happen(reaction)
        await slack.happen(
            {key: value for key, value in reaction.items() if key != "item_user"}
            | {"event_ts": "1.6"}
        )
    payload = {
        "type": "reaction_added",
        "user": BOB,
        "itemUser": ANN,
        "item": {"type": "message", "timestamp": "1.2", "channel": "C1"},
        "reaction": "wave",
        "eventTimestamp": "1.5",
    }
    nobody = dict.fromkeys(ANN, "")
    assert payloads(tester, "ReactionAdded") == [
        payload,
        {**payload, "itemUser": nobody, "eventTimestamp": "1.6"},
    ]


@pytest.mark.parametrize(
    "event",
    [
        {
            "type": "message",
            "subtype": "message_changed",
            "channel": "C1",
            "hidden": True,
            "ts": "1.9",
            "message": HELLO,
        },
        {
            "type": "message",
            "subtype": "message_deleted",
            "channel": "C1",
            "ts": "1.9",
            "deleted_ts": "1.2",
            "user": "U1",
        },
        {
            "type": "message",
            "subtype": "bot_message",
            "channel": "C1",
            "ts": "1.9",
            "text": "hi",
            "bot_id": "BBOT",
        },
        {
            "type": "message",
            "subtype": "message_replied",
            "channel": "C1",
            "ts": "1.9",
            "message": HELLO,
        },
        {
            "type": "message",
            "subtype": "message_changed",
            "channel": "C1",
            "ts": "1.9",
            "message": HELLO,
            "previous_message": HELLO,
        },
        {**HELLO, "user": "UBOT", "ts": "1.9"},
        {**HELLO, "bot_id": "BBOT", "ts": "1.9"},
        {
            "type": "reaction_added",
            "user": "UBOT",
            "reaction": "a",
            "item": {"type": "message"},
            "event_ts": "1.5",
        },
        {"type": "channel_rename", "channel": {"id": "C1"}},
        {"type": "message", "user": "U1", "text": "no channel"},
        {"type": "message", "channel": {"id": "C1"}, "user": "U1", "ts": 5},
        {},
    ],
)
async def test_what_is_no_message_of_somebody_else_is_acknowledged_and_nothing_more(
    slack: Slack, event: dict[str, Any]
) -> None:
    async with running(slack) as tester:
        await slack.happen(event)
        await slack.happen(HELLO)
    assert [payload["message"] for payload in payloads(tester, "ReceivedMessage")] == ["hello"]
    assert len(tester.sent) == 1


ALERT = {
    "type": "message",
    "subtype": "bot_message",
    "channel": "C1",
    "ts": "1.9",
    "bot_id": "B2",
    "username": "alerts",
    "text": "",
}
RICH = {
    "type": "rich_text",
    "elements": [
        {
            "type": "rich_text_section",
            "elements": [
                {"type": "text", "text": "disk full on "},
                {"type": "link", "url": "https://x.test/1", "text": "host1"},
                {"type": "emoji", "name": "fire"},
                {"type": "user", "user_id": "U1"},
            ],
        },
        {
            "type": "rich_text_list",
            "elements": [
                {"type": "rich_text_section", "elements": [{"type": "text", "text": "sda"}]}
            ],
        },
    ],
}
RICH_CELL = {
    "type": "rich_text",
    "elements": [{"type": "rich_text_section", "elements": [{"type": "text", "text": "sda"}]}],
}


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


FIELDS = [{"title": "host", "value": "host1"}, {"title": "use", "value": "99%"}]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"text": "disk full"}, "disk full"),
        (
            {"attachments": [{"fallback": "[FIRING:1] disk full", "text": "host1"}]},
            "[FIRING:1] disk full\nhost1",
        ),
        (
            {
                "attachments": [
                    {"fallback": "disk full", "title": "disk full", "title_link": "https://x.test"}
                ]
            },
            "disk full <https://x.test>",
        ),
        (
            {"attachments": [{"pretext": "Alert", "fields": FIELDS, "fallback": "other"}]},
            "Alert\nhost: host1\nuse: 99%",
        ),
        (
            {
                "attachments": [
                    {"blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "*full*"}}]}
                ]
            },
            "*full*",
        ),
        (
            {"text": "Alert", "attachments": [{"text": "disk full"}, {"text": "host1"}]},
            "Alert\ndisk full\nhost1",
        ),
        (
            {
                "blocks": [
                    {"type": "header", "text": {"text": "Disk"}},
                    {"type": "section", "fields": [{"text": "full"}]},
                ]
            },
            "Disk\nfull",
        ),
        ({"blocks": [RICH]}, "disk full on host1 <https://x.test/1>:fire:<@U1>\n• sda"),
        (
            {
                "blocks": [
                    {
                        "type": "context",
                        "elements": [{"type": "image", "alt_text": "!"}, {"text": "low"}],
                    }
                ]
            },
            "! low",
        ),
        (
            {"files": [{"name": "df.txt", "permalink": "https://x.test/f"}]},
            "df.txt <https://x.test/f>",
        ),
        ({"text": "disk full", "blocks": [RICH]}, "disk full"),
        (
            {"text": "Alert: disk full", "blocks": [section("disk full"), section("on host1")]},
            "Alert: disk full\non host1",
        ),
        (
            {
                "blocks": [
                    {
                        "type": "table",
                        "rows": [
                            [
                                {"type": "raw_text", "text": "host"},
                                {"type": "raw_text", "text": "use"},
                            ],
                            [RICH_CELL, {"type": "raw_text", "text": "99%"}],
                        ],
                    }
                ]
            },
            "host | use\nsda | 99%",
        ),
        (
            {
                "blocks": [
                    {"type": "image", "image_url": "https://x.test/i.png"},
                    {
                        "type": "actions",
                        "elements": [
                            {"type": "button", "text": {"text": "Ack"}, "url": "https://x.test/a"},
                            {"type": "button", "text": {"text": "Snooze"}},
                        ],
                    },
                ]
            },
            "https://x.test/i.png\nAck <https://x.test/a>",
        ),
        (
            {
                "attachments": [
                    {"text": "full", "actions": [{"text": "Open", "url": "https://x.test"}]}
                ]
            },
            "full\nOpen <https://x.test>",
        ),
        ({"attachments": [{"footer": "host1"}]}, "host1"),
        ({"files": [{"id": "F1", "mode": "hidden_by_limit"}]}, "F1"),
        ({"attachments": "no list", "blocks": [{"type": 5}, 7], "files": [None]}, ""),
    ],
)
async def test_alerts_of_bots_and_webhooks_can_be_read(
    slack: Slack, parts: dict[str, Any], message: str
) -> None:
    async with running(slack) as tester:
        await slack.happen({**ALERT, **parts})
    (payload,) = payloads(tester, "ReceivedMessage")
    assert payload["message"] == message
    assert payload["user"] == {**dict.fromkeys(ANN, ""), "id": "B2", "name": "alerts"}
    if isinstance(parts.get("attachments"), list):
        assert payload["attachments"] == parts["attachments"]


async def test_an_alert_of_a_program_without_an_id_or_with_a_user_can_be_read(
    slack: Slack,
) -> None:
    old = {key: value for key, value in ALERT.items() if key != "bot_id"}
    modern = {**HELLO, "bot_id": "B3", "text": "Alert", "attachments": [{"text": "disk full"}]}
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"commands": [{"pattern": "disk {what}"}]}
        await slack.happen({**old, "text": "disk full"})
        await slack.happen(modern)
    first, second = payloads(tester, "ReceivedMessage")
    assert (first["message"], first["user"]["id"], first["user"]["name"]) == (
        "disk full",
        "",
        "alerts",
    )
    assert (second["message"], second["user"]["id"]) == ("Alert\ndisk full", "U1")
    assert [event.name for event in tester.sent] == ["ReceivedMessage"] * 2


async def test_what_a_person_writes_stays_the_message_and_files_come_along(slack: Slack) -> None:
    file = {"name": "df.txt", "permalink": "https://x.test/f"}
    async with running(slack) as tester:
        await slack.happen({**HELLO, "subtype": "file_share", "files": [file], "blocks": [RICH]})
        await slack.happen(
            {**HELLO, "text": "", "ts": "1.9", "subtype": "file_share", "files": [file]}
        )
    first, second = payloads(tester, "ReceivedMessage")
    assert (first["message"], first["files"], first.get("blocks")) == ("hello", [file], None)
    assert second["message"] == "df.txt <https://x.test/f>"


async def test_bots_and_webhooks_give_no_commands(slack: Slack) -> None:
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"commands": [{"pattern": "deploy {app}"}]}
        await slack.happen({**ALERT, "text": "deploy shop"})
        await slack.happen({**ALERT, "text": "deploy", "ts": "2.0"})
    assert [event.name for event in tester.sent] == ["ReceivedMessage"] * 2
    assert slack.called("chat.postMessage") == []


async def test_edits_and_deletions_are_events_of_their_own(slack: Slack) -> None:
    before, after = (
        {**HELLO, "text": "depoly shop", "thread_ts": "1.0"},
        {**HELLO, "text": "deploy shop", "thread_ts": "1.0"},
    )
    news = {
        "type": "message",
        "channel": "C1",
        "hidden": True,
        "ts": "1.9",
        "previous_message": before,
    }
    gone = {
        **HELLO,
        "user": "USLACKBOT",
        "subtype": "tombstone",
        "text": "This message was deleted.",
    }
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"commands": [{"pattern": "deploy {app}"}]}
        await slack.happen({**news, "subtype": "message_changed", "message": after})
        await slack.happen({**news, "subtype": "message_changed", "message": after}, retry=1)
        await slack.happen(
            {**news, "subtype": "message_deleted", "deleted_ts": HELLO["ts"], "ts": "2.0"}
        )
        await slack.happen({**news, "subtype": "message_changed", "message": gone, "ts": "2.1"})
        await slack.happen(
            {
                **news,
                "subtype": "message_changed",
                "previous_message": {**before, "bot_id": "BBOT"},
                "message": after,
            }
        )
        alert = {**ALERT, "text": "firing"}
        await slack.happen(
            {
                **news,
                "subtype": "message_changed",
                "previous_message": alert,
                "message": {**alert, "text": "resolved"},
            }
        )
    place = {"channelId": "C1", "user": ANN, "timestamp": HELLO["ts"], "threadTimestamp": "1.0"}
    edited, resolved = payloads(tester, "MessageEdited")
    assert edited == {**place, "message": "deploy shop", "previousMessage": "depoly shop"}
    assert (resolved["message"], resolved["user"]["id"]) == ("resolved", "B2")
    assert payloads(tester, "MessageDeleted") == [{**place, "message": "depoly shop"}] * 2
    assert len(tester.sent) == 4


async def test_an_edit_whose_former_message_slack_leaves_out_is_an_event(
    slack: Slack,
) -> None:
    news = {"type": "message", "channel": "C1", "hidden": True, "ts": "1.9"}
    preview = {**HELLO, "attachments": [{"text": "a preview that Slack adds"}]}
    async with running(slack) as tester:
        await slack.happen({**news, "subtype": "message_changed", "message": preview})
        edited = {**HELLO, "edited": {"user": "U1", "ts": "1.8"}}
        await slack.happen({**news, "subtype": "message_changed", "message": edited})
    (change,) = payloads(tester, "MessageEdited")
    assert (change["message"], change["previousMessage"]) == ("hello", "")
    assert change["user"] == ANN


async def test_what_the_app_itself_says_is_an_event_where_that_is_wanted(slack: Slack) -> None:
    slack.users["UBOT"] = {"id": "UBOT", "name": "flyte"}
    async with running(slack, FLYTE_SLACK_OWN_MESSAGES="true") as tester:
        await slack.happen({**HELLO, "user": "UBOT", "bot_id": "BBOT"})
    assert [payload["user"]["name"] for payload in payloads(tester, "ReceivedMessage")] == ["flyte"]


async def test_people_are_looked_up_once_an_hour(slack: Slack) -> None:
    async with running(slack) as tester:
        for number in range(5):
            await slack.happen({**HELLO, "ts": f"2.{number}"})
        assert len(slack.called("users.info")) == 1
        await tester.advance(3601)
        await slack.happen({**HELLO, "ts": "2.9"})
    assert len(slack.called("users.info")) == 2


async def test_a_message_of_somebody_who_cannot_be_looked_up_is_not_lost(slack: Slack) -> None:
    async with running(slack) as tester:
        await slack.happen({**HELLO, "user": "U9"})
    (payload,) = payloads(tester, "ReceivedMessage")
    assert payload["user"] == {**dict.fromkeys(ANN, ""), "id": "U9"}


async def test_what_slack_sends_again_is_one_event(slack: Slack) -> None:
    async with running(slack) as tester:
        await slack.happen(HELLO)
        await slack.happen(HELLO, retry=1)
        await slack.happen({**HELLO, "type": "app_mention"})
        assert len(tester.sent) == 1
        assert tester.server.requests.count("POST /v1/packs/Slack/events") == 1
        # What a server knows it by after the pack was started anew.
        assert tester.server.keys == {"message.C1.1700000001.000100"}


async def test_slack_hears_in_time_that_an_event_is_in_hand_while_flyte_is_away(
    slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert deduplicator.ACKNOWLEDGE_WITHIN < 3
    monkeypatch.setattr(deduplicator, "ACKNOWLEDGE_WITHIN", 0.05)
    async with running(slack) as tester:
        release = tester.server.hold(on="/events")
        await slack.happen(HELLO)
        await slack.happen(HELLO, retry=1)
        await slack.happen({**HELLO, "ts": "1700000002.000100", "text": "and more"})
        assert tester.sent == []
        release.set()
        await tester.server.until(lambda: len(tester.sent) == 2)
    assert [payload["message"] for payload in payloads(tester, "ReceivedMessage")] == [
        "hello",
        "and more",
    ]


async def test_what_slack_was_told_is_in_hand_survives_that_the_pack_is_killed(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deduplicator, "ACKNOWLEDGE_WITHIN", 0.05)
    typed = {
        "command": "/flyte",
        "text": "x",
        "user_id": "U1",
        "channel_id": "C1",
        "trigger_id": "T1",
        "token": "verification",
    }
    spool, left = tmp_path / "spool", tmp_path / "left"
    async with running(slack, FLYTE_SLACK_SPOOL=str(spool)) as tester:
        release = tester.server.hold(on="/events")
        for number in range(3):
            await slack.happen({**HELLO, "ts": f"2.{number}"})
        await slack.happen({**HELLO, "ts": "2.0"}, retry=1)
        await slack.interact(
            "slash_commands", {**typed, "response_url": "https://hooks.test/secret"}
        )
        shutil.copytree(spool, left)  # as it is when the pack is killed now
        release.set()
        await tester.server.until(lambda: len(tester.sent) == 4)
    assert list(spool.iterdir()) == []
    assert [stat.S_IMODE(path.stat().st_mode) for path in (spool, *left.iterdir())] == [
        0o700,
        *[0o600] * 4,
    ]
    assert not any(
        b"secret" in path.read_bytes() or b"verification" in path.read_bytes()
        for path in left.iterdir()
    )
    (left / "0-broken.json").write_text("{")
    async with running(slack, FLYTE_SLACK_SPOOL=str(left)) as tester:
        await tester.server.until(lambda: len(tester.sent) == 4)
        assert [payload["timestamp"] for payload in payloads(tester, "ReceivedMessage")] == [
            "2.0",
            "2.1",
            "2.2",
        ]
        assert len(payloads(tester, "SlashCommand")) == 1
        assert "message.C1.2.0" in tester.server.keys
    assert [path.name for path in left.iterdir()] == ["0-broken.json"]


def spooled_below(folder: Path) -> list[Path]:
    return list(folder.rglob("flyte/slack-*/*.json"))


async def test_the_spool_is_below_the_home_of_the_user_unless_it_is_off(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deduplicator, "ACKNOWLEDGE_WITHIN", 0)
    state = tmp_path / "state"
    for variables in (
        {"HOME": str(tmp_path), "FLYTE_SLACK_SPOOL": "off"},
        {"HOME": str(tmp_path), "XDG_STATE_HOME": str(state)},
    ):
        async with running(slack, **variables) as tester:
            release = tester.server.hold(on="/events")
            await slack.happen(HELLO)
            kept = spooled_below(tmp_path)
            release.set()
            await tester.server.until(lambda: len(tester.sent) == 1)
        assert len(kept) == (0 if "FLYTE_SLACK_SPOOL" in variables else 1)


@asynccontextmanager
async def logged(words: str) -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set when the pack logs a message with these words."""
    seen, handler, loop = asyncio.Event(), logging.Handler(), asyncio.get_running_loop()
    handler.emit = lambda record: loop.call_soon(seen.set) if words in record.msg else None  # type: ignore[method-assign]
    logging.getLogger("flyte.slack").addHandler(handler)
    try:
        yield seen
    finally:
        logging.getLogger("flyte.slack").removeHandler(handler)


async def test_what_cannot_be_written_down_is_not_acknowledged(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deduplicator, "ACKNOWLEDGE_WITHIN", 0.05)
    (tmp_path / "file").write_text("")
    spool = str(tmp_path / "file" / "spool")
    async with running(slack, FLYTE_SLACK_SPOOL=spool) as tester, logged("cannot be kept") as kept:
        release = tester.server.hold(on="/events")
        envelope_id = await slack.tell("events_api", {"type": "event_callback", "event": HELLO})
        await kept.wait()
        assert envelope_id not in slack.acknowledged
        release.set()
        await tester.server.until(lambda: len(tester.sent) == 1)
        await slack.happen(HELLO, retry=1)
    assert len(tester.sent) == 1


async def test_what_flyte_refuses_for_a_reason_that_may_pass_is_kept_for_the_next_start(
    slack: Slack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deduplicator, "ACKNOWLEDGE_WITHIN", 0)
    spool = tmp_path / "spool"
    async with running(slack, FLYTE_SLACK_SPOOL=str(spool)) as tester:
        release = tester.server.hold(on="/events")
        await slack.happen(HELLO)
        tester.server.fail(status=403, on="/events")
        release.set()
        await slack.happen({**HELLO, "ts": "1.9"})
        await tester.server.until(lambda: len(tester.sent) == 1)
    assert len(list(spool.iterdir())) == 1


async def test_what_flyte_refuses_at_once_for_a_reason_that_may_pass_is_kept_as_well(
    slack: Slack, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    async with running(slack, FLYTE_SLACK_SPOOL=str(spool)) as tester:
        tester.server.fail(status=403, on="/events")
        await slack.happen(HELLO)
        assert len(list(spool.iterdir())) == 1
    async with running(slack, FLYTE_SLACK_SPOOL=str(spool)) as tester:
        await tester.server.until(lambda: len(tester.sent) == 1)
    assert list(spool.iterdir()) == []


async def test_without_a_spool_what_flyte_refuses_is_taken_when_slack_sends_it_again(
    slack: Slack,
) -> None:
    async with running(slack, FLYTE_SLACK_SPOOL="off") as tester, logged("Flyte rejected") as seen:
        tester.server.fail(status=403, on="/events")
        payload = {"type": "event_callback", "event": HELLO}
        envelope_id = await slack.tell("events_api", payload)
        await seen.wait()
        await slack.happen({**HELLO, "ts": "3.0"})
        assert envelope_id not in slack.acknowledged
        await slack.happen(HELLO, retry=1)
    assert len(tester.sent) == 2


async def test_what_is_in_hand_when_the_pack_stops_still_arrives(
    slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deduplicator, "ACKNOWLEDGE_WITHIN", 0.05)
    async with running(slack) as tester:
        slack.may_answer.clear()
        for number in range(3):
            await slack.happen({**HELLO, "ts": f"2.{number}"})
        stopping = asyncio.create_task(tester.stop())
        stopped, _ = await asyncio.wait({stopping}, timeout=0.8)
        assert not stopped
        slack.may_answer.set()
        await stopping
    assert len(tester.sent) == 3


async def test_when_too_much_is_in_hand_slack_is_asked_to_come_again(
    slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deduplicator, "ACKNOWLEDGE_WITHIN", 0.05)
    monkeypatch.setattr(deduplicator, "_MAX_AT_ONCE", 1)
    async with running(slack) as tester:
        release = tester.server.hold(on="/events")
        await slack.happen(HELLO)
        payload = {"type": "event_callback", "event": {**HELLO, "ts": "3.0"}}
        envelope_id = await slack.tell("events_api", payload)
        await slack.happen(HELLO, retry=1)
        assert envelope_id not in slack.acknowledged
        release.set()
        await tester.server.until(lambda: len(tester.sent) == 1)
        await slack.happen({**HELLO, "ts": "3.0"}, retry=1)
    assert len(tester.sent) == 2


async def test_an_event_that_flyte_refuses_is_told_in_the_log_and_stops_nothing(
    slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(slack) as tester:
        tester.server.fail(status=400, on="/events")
        await slack.happen(HELLO)
        await slack.happen({**HELLO, "ts": "1.9"})
        assert len(tester.sent) == 1
    assert "Flyte rejected message.C1.1700000001.000100: The input is not valid." in caplog.text


# -------------------------------------------------------------------------- buttons, slash commands


async def test_a_pressed_button_becomes_an_event(slack: Slack) -> None:
    action = {
        "type": "button",
        "action_id": "approve",
        "block_id": "b1",
        "value": "app:1.0",
        "action_ts": "1.7",
    }
    chosen = {
        "type": "static_select",
        "action_id": "pick",
        "selected_option": {"value": "eu"},
        "action_ts": "1.8",
    }
    pressed = {
        "type": "block_actions",
        "token": "verification",
        "user": {"id": "U1", "username": "ann"},
        "channel": {"id": "C1", "name": "general"},
        "container": {"type": "message", "message_ts": "1.2", "channel_id": "C1"},
        "message": {"ts": "1.2", "thread_ts": "1.1", "text": "sure?"},
        "response_url": "https://hooks.test/secret",
        "actions": [action, chosen],
    }
    async with running(slack) as tester:
        await slack.interact("interactive", pressed)
        await slack.interact("interactive", pressed)
    place = {"channelId": "C1", "user": ANN, "timestamp": "1.2", "threadTimestamp": "1.1"}
    assert payloads(tester, "ButtonPressed") == [
        {**place, "actionId": "approve", "blockId": "b1", "value": "app:1.0"},
        {**place, "actionId": "pick", "blockId": "", "value": "eu"},
    ]


async def test_a_button_of_an_attachment_becomes_the_same_event(slack: Slack) -> None:
    pressed = {
        "type": "interactive_message",
        "actions": [{"name": "approve", "type": "button", "value": "yes"}],
        "callback_id": "deploy",
        "channel": {"id": "C1"},
        "user": {"id": "U1"},
        "action_ts": "1.7",
        "message_ts": "1.2",
    }
    async with running(slack) as tester:
        await slack.interact("interactive", pressed)
        await slack.interact("interactive", {"type": "view_submission", "user": {"id": "U1"}})
    assert payloads(tester, "ButtonPressed") == [
        {
            "channelId": "C1",
            "user": ANN,
            "actionId": "approve",
            "blockId": "deploy",
            "value": "yes",
            "timestamp": "1.2",
            "threadTimestamp": "1.2",
        }
    ]


async def test_a_slash_command_becomes_an_event(slack: Slack) -> None:
    typed = {
        "command": "/flyte",
        "text": "deploy app 1.0",
        "user_id": "U1",
        "channel_id": "C1",
        "trigger_id": "T1",
    }
    async with running(slack) as tester:
        await slack.interact("slash_commands", typed)
        await slack.interact("slash_commands", typed)
    assert payloads(tester, "SlashCommand") == [
        {"channelId": "C1", "user": ANN, "command": "/flyte", "text": "deploy app 1.0"}
    ]


# ----------------------------------------------------------------------------------------- chat-ops


DEPLOY = {"pattern": "deploy {app}", "allow": {"users": ["ann@test", "U2"]}, "confirm": {}}


def press(action_id: str, by: str, question: dict[str, Any]) -> dict[str, Any]:
    value = next(
        each["value"]
        for each in question["blocks"][1]["elements"]
        if each["action_id"] == action_id
    )
    action = {"type": "button", "action_id": action_id, "value": value, "action_ts": f"5.{by}"}
    place = {"channel": {"id": "C1"}, "message": {"ts": "1700000000.000001"}, "user": {"id": by}}
    return {"type": "block_actions", **place, "actions": [action]}


async def test_a_command_is_approved_by_a_button_which_then_goes_away(slack: Slack) -> None:
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"commands": [DEPLOY]}
        await slack.happen({**HELLO, "text": "deploy &lt;shop&gt;&amp;co"})
        (question,) = slack.called("chat.postMessage")
        assert (question["channel"], question["thread_ts"]) == ("C1", HELLO["ts"])
        assert question["text"].startswith("ann asks for: deploy &lt;shop&gt;&amp;co\n")
        await slack.interact("interactive", press("flyte.approve", "U1", question))
        assert (
            slack.called("chat.postMessage")[1]["text"]
            == "ann, you cannot approve what you asked for yourself."
        )
        assert payloads(tester, "CommandReceived") == []
        await slack.interact("interactive", press("flyte.approve", "U2", question))
        assert slack.called("chat.update") == [
            {
                "channel": "C1",
                "ts": "1700000000.000001",
                "text": "Approved by bob: deploy &lt;shop&gt;&amp;co",
                "blocks": [],
            }
        ]
    (payload,) = payloads(tester, "CommandReceived")
    assert (payload["arguments"], payload["approvedBy"]) == ({"app": "<shop>&co"}, BOB)
    assert payloads(tester, "ButtonPressed") == []
    assert tester.server.keys >= {
        "message.C1.1700000001.000100",
        "message.C1.1700000001.000100.command",
    }


async def test_a_button_of_a_question_that_is_no_longer_known_says_so_in_its_place(
    slack: Slack,
) -> None:
    gone = {"blocks": [{}, {"elements": [{"action_id": "flyte.approve", "value": "beef"}]}]}
    async with running(slack) as tester:
        await slack.interact("interactive", press("flyte.approve", "U2", gone))
        assert slack.called("chat.update")[0]["text"].startswith("This question is closed:")
        assert tester.sent == []


@pytest.mark.parametrize(
    ("text", "channel"),
    [
        ("<@UBOT> deploy a", "C1"),
        ("<@UBOT|flyte>: deploy a", "C1"),
        ("deploy a", "D1"),
        ("flyte deploy a", "C1"),
    ],
)
async def test_what_is_said_to_the_bot_needs_no_prefix(
    slack: Slack, text: str, channel: str
) -> None:
    async with running(slack) as tester:
        tester.server.data["chatops"] = {
            "prefix": "flyte",
            "commands": [{"pattern": "deploy {app}"}],
        }
        await slack.happen({**HELLO, "text": "deploy a", "ts": "1.1"})
        await slack.happen({**HELLO, "text": text, "channel": channel})
    assert [payload["arguments"] for payload in payloads(tester, "CommandReceived")] == [
        {"app": "a"}
    ]


async def test_a_slash_command_is_a_command_too(slack: Slack) -> None:
    typed = {"command": "/flyte", "user_id": "U1", "channel_id": "C1"}
    async with running(slack) as tester:
        tester.server.data["chatops"] = {
            "prefix": "flyte",
            "commands": [{"pattern": "deploy {app}"}],
        }
        await slack.interact(
            "slash_commands",
            {**typed, "text": "deploy <http://shop.test|shop.test>", "trigger_id": "T1"},
        )
        await slack.interact("slash_commands", {**typed, "text": "help", "trigger_id": "T2"})
    (payload,) = payloads(tester, "CommandReceived")
    assert (payload["arguments"], payload["threadTimestamp"]) == ({"app": "shop.test"}, "")
    assert slack.called("chat.postMessage") == [{"channel": "C1", "text": "`flyte deploy {app}`"}]


async def test_people_are_meant_by_what_they_cannot_choose_and_channels_by_name(
    slack: Slack,
) -> None:
    slack.users["U3"] = {
        "id": "U3",
        "name": "ann@test",
        "profile": {"email": "eve@test", "display_name": "U1"},
    }
    allow = {"users": ["ann@test"], "channels": ["general"]}
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"commands": [{"pattern": "deploy {app}", "allow": allow}]}
        for number, (user_id, channel) in enumerate([("U3", "C1"), ("U1", "C2"), ("U1", "C1")]):
            await slack.happen(
                {
                    **HELLO,
                    "user": user_id,
                    "channel": channel,
                    "text": "deploy a",
                    "ts": f"6.{number}",
                }
            )
    assert [payload["reason"] for payload in payloads(tester, "CommandRefused")] == [
        "person",
        "channel",
    ]
    assert len(payloads(tester, "CommandReceived")) == 1


async def test_a_command_counts_although_slack_does_not_take_the_answer(slack: Slack) -> None:
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"commands": [DEPLOY]}
        await slack.happen({**HELLO, "text": "deploy a"})
        (question,) = slack.called("chat.postMessage")
        slack.refuse("chat.update", "message_not_found")
        await slack.interact("interactive", press("flyte.approve", "U2", question))
        assert len(payloads(tester, "CommandReceived")) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a &amp;&lt;b&gt;", "a &<b>"),
        (
            "<http://shop.test|shop.test> <https://x.test/?a=1&amp;b=2>",
            "shop.test https://x.test/?a=1&b=2",
        ),
        (
            "<mailto:ann@test|ann@test> <#C1|general> <!channel> <@U1|ann>",
            "ann@test #general @channel <@U1>",
        ),
        ("1 &lt; 2 &gt; &lt;", "1 < 2 > <"),
        (
            "page <!subteam^S1|@oncall> <!subteam^S1|oncall> <!subteam^S1>",
            "page @oncall @oncall @S1",
        ),
        ("<!here|@here> <!here> <!date^1^{date}|3 May> <#C1|> <#C1>", "@here @here 3 May #C1 #C1"),
    ],
)
def test_what_slack_writes_is_read_as_it_was_typed(text: str, expected: str) -> None:
    assert plain(text) == expected
