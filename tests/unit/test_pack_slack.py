"""What the Slack pack does, with Slack's official client between it and a stand-in for Slack on the loopback."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flyteops.errors import ForbiddenError, SettingsError
from flyteops.packs.slack import create, intake
from flyteops.packs.slack.pack import LONGEST_TEXT
from flyteops.packs.slack.voice import plain
from flyteops.sdk import Event, fatal
from flyteops.sdk.health import run_checks
from flyteops.sdk.testing import PackTester
from tests.slack import APP_TOKEN, BOT_TOKEN, Slack

ANN = {"id": "U1", "name": "ann", "email": "ann@test", "title": "Dr", "firstName": "Ann", "lastName": "Lee"}
BOB = {**ANN, "id": "U2", "name": "bob", "email": "bob@test", "firstName": "Bob"}
HELLO = {"type": "message", "channel": "C1", "user": "U1", "text": "hello", "ts": "1700000001.000100"}


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as slack:
        yield slack


@asynccontextmanager
async def running(slack: Slack, **variables: str) -> AsyncIterator[PackTester]:
    async with PackTester(create(slack.environ(**variables))) as tester:
        await slack.connected()
        yield tester


def payloads(tester: PackTester, name: str) -> list[Any]:
    return [event.payload for event in tester.sent if event.name == name]


# ----------------------------------------------------------------------------------------------------------- commands


async def test_it_registers_the_commands_and_events_of_the_original_and_their_schemas(slack: Slack) -> None:
    async with running(slack) as tester:
        (registration,) = tester.server.registrations
    commands = {command["name"]: command for command in registration["commands"]}
    assert {name: command["events"] for name, command in commands.items()} == {
        "SendMessage": ["MessageSent", "SendMessageFailed"],
        "SendRichMessage": ["RichMessageSent", "SendRichMessageFailed"],
        "UpdateMessage": ["MessageUpdated", "UpdateMessageFailed"],
        "GetChannelInfo": ["GetChannelInfoSuccess", "GetChannelInfoFail"],
    }
    events = {event["name"]: event for event in registration["events"]}
    assert {"ReceivedMessage", "ReactionAdded", "ButtonPressed", "SlashCommand"} <= set(events)
    asked = commands["SendMessage"]["inputSchema"]["$defs"]["SendMessage"]["properties"]
    told = events["ReceivedMessage"]["payloadSchema"]["$defs"]["ReceivedMessage"]
    assert set(asked) == {"message", "channelId", "threadTimestamp"}
    assert {"channelId", "user", "message", "timestamp", "threadTimestamp"} == set(told["required"])


async def test_a_message_goes_into_the_thread_and_the_answer_says_where_it_is(slack: Slack) -> None:
    given = {"message": "Grüße 🚀 & <@U1>", "channelId": "C1", "threadTimestamp": "1.2"}
    async with running(slack) as tester:
        assert await tester.run("SendMessage", given) == Event("MessageSent", {**given, "timestamp": "1700000000.000001"})
    assert slack.called("chat.postMessage") == [{"channel": "C1", "text": "Grüße 🚀 & <@U1>", "thread_ts": "1.2"}]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"message": "a"}, "missing channel id field"),
        ({"channelId": "C1"}, "missing message field"),
        (None, "missing message field, missing channel id field"),
        ({"message": "a", "channelId": "C9"}, "channel_not_found"),
    ],
)
async def test_a_message_that_cannot_be_sent_fails_with_the_reason(slack: Slack, given: Any, error: str) -> None:
    async with running(slack) as tester:
        event = await tester.run("SendMessage", given)
    asked = {"message": "", "channelId": "", "threadTimestamp": "", **(given or {})}
    assert event == Event("SendMessageFailed", {**asked, "error": error})


async def test_input_that_cannot_be_read_is_fatal_as_with_the_original(slack: Slack) -> None:
    async with running(slack) as tester:
        assert await tester.run("SendMessage", {"message": 5}) == fatal(
            "input is not valid: Expected `str | null`, got `int` - at `$.message`"
        )
        assert await tester.run("SendRichMessage", []) == fatal("invalid input: Expected `object`, got `array`")
        event = await tester.run("GetChannelInfo", [])
    assert event == Event("GetChannelInfoFail", {"channelName": "", "reason": "Expected `object`, got `array`"})


async def test_a_text_beyond_what_slack_keeps_is_cut_and_says_so(slack: Slack) -> None:
    text = "é" * (LONGEST_TEXT + 1)
    async with running(slack) as tester:
        exact = await tester.run("SendMessage", {"message": text[:-1], "channelId": "C1"})
        cut = await tester.run("SendMessage", {"message": text, "channelId": "C1"})
    assert (exact.name, cut.name, cut.payload["message"]) == ("MessageSent", "MessageSent", text)
    first, second = (call["text"] for call in slack.called("chat.postMessage"))
    assert first == text[:-1]
    assert len(second) == LONGEST_TEXT
    assert second.endswith("é\n[cut: the first 40000 of 40001 characters]")


async def test_a_rich_message_is_posted_with_the_defaults_of_the_original(slack: Slack) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*hi*"}}]
    async with running(slack) as tester:
        event = await tester.run("SendRichMessage", {"channel": "#general", "text": "a<b", "thread_ts": "1.2", "blocks": blocks})
        assert event == Event("RichMessageSent", {"channelId": "C1", "threadTimestamp": "1700000000.000001"})
        await tester.run(
            "SendRichMessage",
            {
                "Channel": "C2",
                "text": "a<b",
                "username": "ci",
                "icon_emoji": ":robot_face:",
                "attachments": [{"color": "good", "text": "ok"}],
                "escape_text": "true",
                "mrkdwn": True,
                "link_names": 1,
                "reply_broadcast": True,
            },
        )
    assert slack.called("chat.postMessage") == [
        {
            "channel": "#general",
            "text": "a<b",
            "thread_ts": "1.2",
            "blocks": blocks,
            "unfurl_links": False,
            "unfurl_media": False,
            "mrkdwn": False,
        },
        {
            "channel": "C2",
            "text": "a&lt;b",
            "username": "ci",
            "icon_emoji": ":robot_face:",
            "attachments": [{"color": "good", "text": "ok"}],
            "unfurl_media": False,
            "mrkdwn": True,
            "link_names": True,
            "reply_broadcast": True,
        },
    ]


async def test_a_rich_message_that_fails_echoes_its_input_and_says_what_slack_says(slack: Slack) -> None:
    said = {"messages": ["[ERROR] must be less than 3001 characters [json-pointer:/blocks/0/text/text]"]}
    slack.refuse("chat.postMessage", "invalid_blocks", response_metadata=said)
    async with running(slack) as tester:
        event = await tester.run("SendRichMessage", {"channel": "C1", "text": "hi", "blocks": [{"type": "section"}]})
    assert event.name == "SendRichMessageFailed"
    assert event.payload["error"] == f"cannot send rich message='hi': invalid_blocks: {said['messages'][0]}"
    assert event.payload["inputMessage"]["blocks"] == [{"type": "section"}]
    assert {"channel", "text", "username", "thread_ts", "link_names", "attachments"} < set(event.payload["inputMessage"])


async def test_a_message_can_become_another(slack: Slack) -> None:
    place = {"channelId": "C1", "timestamp": "1700000000.000001"}
    async with running(slack) as tester:
        event = await tester.run("UpdateMessage", {**place, "message": "2 of 2"})
        assert event == Event("MessageUpdated", {**place, "message": "2 of 2"})
        slack.refuse("chat.update", "cant_update_message")
        event = await tester.run("UpdateMessage", {**place, "message": "3"})
        assert event == Event("UpdateMessageFailed", {**place, "message": "3", "error": "cant_update_message"})
    assert slack.called("chat.update")[0] == {
        "channel": "C1",
        "ts": "1700000000.000001",
        "text": "2 of 2",
        "attachments": [],
        "blocks": [],
    }


async def test_channels_are_listed_once_and_again_when_the_list_is_old_or_lacks_the_name(slack: Slack) -> None:
    async with running(slack, RENEW_CONVERSATION_LIST="1") as tester:
        event = await tester.run("GetChannelInfo", {"channelName": "general"})
        conversation = {"id": "C1", "name": "general", "topic": "all of us"}
        assert event == Event("GetChannelInfoSuccess", {"channelName": "general", "conversation": conversation})
        await tester.run("GetChannelInfo", {"channelName": "deploys"})
        assert len(slack.called("conversations.list")) == 2  # its pages
        slack.channels.append({"id": "C3", "name": "new"})
        event = await tester.run("GetChannelInfo", {"channelName": "new"})
        assert event == Event("GetChannelInfoFail", {"channelName": "new", "reason": "can't find channel with such name"})
        await tester.advance(61)
        event = await tester.run("GetChannelInfo", {"channelName": "new"})
        assert event.payload["conversation"] == {"id": "C3", "name": "new", "topic": ""}
        assert len(slack.called("conversations.list")) == 5
        await tester.advance(3601)
        await tester.run("GetChannelInfo", {"channelName": "general"})
    assert len(slack.called("conversations.list")) == 8


@pytest.mark.slow
async def test_without_the_scope_for_private_channels_public_ones_are_found_and_without_any_the_scope_is_named(
    slack: Slack,
) -> None:
    async with running(slack) as tester:
        slack.refuse("conversations.list", "missing_scope", needed="groups:read")
        assert (await tester.run("GetChannelInfo", {"channelName": "general"})).name == "GetChannelInfoSuccess"
        assert [call["types"] for call in slack.called("conversations.list")][:2] == [
            "public_channel,private_channel",
            "public_channel",
        ]
        await tester.advance(25 * 3600)
        slack.refuse("conversations.list", "missing_scope", times=2, needed="channels:read")
        event = await tester.run("GetChannelInfo", {"channelName": "general"})
    assert event == Event("GetChannelInfoFail", {"channelName": "general", "reason": "missing_scope: channels:read"})


# ------------------------------------------------------------------------------------------------------------ trouble


async def test_a_rate_limit_is_waited_for(slack: Slack) -> None:
    async with running(slack) as tester:
        slack.prepare("chat.postMessage", {"ok": False, "error": "ratelimited"}, status=429, Retry_After="0")
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
    assert event.name == "MessageSent"
    assert len(slack.called("chat.postMessage")) == 2


async def test_a_rate_limit_that_is_too_long_is_an_error_at_once(slack: Slack) -> None:
    async with running(slack) as tester:
        slack.prepare("chat.postMessage", {"ok": False, "error": "ratelimited"}, status=429, Retry_After="3600")
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
    assert (event.name, event.payload["error"]) == ("SendMessageFailed", "ratelimited")


async def test_an_answer_that_is_none_is_an_error_that_says_so(slack: Slack) -> None:
    async with running(slack) as tester:
        slack.prepare("chat.postMessage", "<html>Bad Gateway</html>", status=502)
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
    assert event.payload["error"] == "the answer of Slack is no use (HTTP 502)"


@pytest.mark.parametrize(
    ("method", "variable"), [("auth.test", "FLYTE_SLACK_TOKEN"), ("apps.connections.open", "FLYTE_SLACK_APP_TOKEN")]
)
async def test_a_token_that_slack_does_not_accept_ends_the_pack_and_says_which(slack: Slack, method: str, variable: str) -> None:
    slack.refuse(method, "invalid_auth")

    async def run_until_the_end() -> None:
        async with PackTester(create(slack.environ())) as tester:
            await tester.next_sent()

    with pytest.raises(ForbiddenError, match=f"Slack refuses {variable}: invalid_auth"):
        await run_until_the_end()


async def test_it_waits_for_slack_to_come_back(slack: Slack, caplog: pytest.LogCaptureFixture) -> None:
    slack.refuse("auth.test", "internal_error", times=3)
    slack.refuse("apps.connections.open", "service_unavailable", times=3)
    async with running(slack) as tester:
        await slack.happen(HELLO)
        assert len(tester.sent) == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "Slack failed: internal_error; trying again until it works",
        "the connection to Slack failed: service_unavailable; trying again until it works",
    ]


async def test_no_token_is_ever_in_the_log_whatever_its_level(slack: Slack, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    slack.refuse("chat.postMessage", "invalid_arguments")
    async with running(slack) as tester:
        await slack.happen(HELLO)
        await (await slack.connected()).close()
        await slack.connected(2)
        await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
        slack.refuse("chat.postMessage", "invalid_auth")
        await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
    assert BOT_TOKEN in slack.tokens
    assert APP_TOKEN in slack.tokens
    assert caplog.records
    for secret in (BOT_TOKEN, APP_TOKEN, "secret-ticket", "verification"):
        assert secret not in caplog.text
    assert BOT_TOKEN not in repr(create(slack.environ()))


# ------------------------------------------------------------------------------------------------------------- events


async def test_what_somebody_says_becomes_a_received_message(slack: Slack) -> None:
    async with running(slack) as tester:
        await slack.happen(HELLO)
        answers = [{"user": "U2", "ts": "1.3"}]
        await slack.happen(HELLO | {"ts": "1.4", "thread_ts": "1.2", "text": "ä 🚀", "reply_count": 1, "replies": answers})
    message = {"channelId": "C1", "user": ANN, "message": "hello", "timestamp": "1700000001.000100"}
    assert tester.sent == [
        Event("ReceivedMessage", {**message, "threadTimestamp": "1700000001.000100", "replyCount": 0, "replies": None}),
        Event(
            "ReceivedMessage",
            {**message, "message": "ä 🚀", "timestamp": "1.4", "threadTimestamp": "1.2", "replyCount": 1, "replies": answers},
        ),
    ]


async def test_a_reaction_tells_who_reacted_to_whose_message(slack: Slack) -> None:
    item = {"type": "message", "channel": "C1", "ts": "1.2"}
    reaction = {"type": "reaction_added", "user": "U2", "item_user": "U1", "reaction": "wave", "item": item, "event_ts": "1.5"}
    async with running(slack) as tester:
        await slack.happen(reaction)
        await slack.happen({key: value for key, value in reaction.items() if key != "item_user"} | {"event_ts": "1.6"})
    payload = {
        "type": "reaction_added",
        "user": BOB,
        "itemUser": ANN,
        "item": {"type": "message", "timestamp": "1.2", "channel": "C1"},
        "reaction": "wave",
        "eventTimestamp": "1.5",
    }
    nobody = dict.fromkeys(ANN, "")
    assert payloads(tester, "ReactionAdded") == [payload, {**payload, "itemUser": nobody, "eventTimestamp": "1.6"}]


@pytest.mark.parametrize(
    "event",
    [
        {"type": "message", "subtype": "message_changed", "channel": "C1", "hidden": True, "ts": "1.9", "message": HELLO},
        {"type": "message", "subtype": "message_deleted", "channel": "C1", "ts": "1.9", "deleted_ts": "1.2", "user": "U1"},
        {"type": "message", "subtype": "bot_message", "channel": "C1", "ts": "1.9", "text": "hi", "bot_id": "B2"},
        {**HELLO, "user": "UBOT", "ts": "1.9"},
        {**HELLO, "bot_id": "BBOT", "ts": "1.9"},
        {"type": "reaction_added", "user": "UBOT", "reaction": "a", "item": {"type": "message"}, "event_ts": "1.5"},
        {"type": "channel_rename", "channel": {"id": "C1"}},
        {"type": "message", "user": "U1", "text": "no channel"},
        {"type": "message", "channel": {"id": "C1"}, "user": "U1", "ts": 5},
        {},
    ],
)
async def test_what_is_no_message_of_somebody_else_is_acknowledged_and_nothing_more(slack: Slack, event: dict[str, Any]) -> None:
    async with running(slack) as tester:
        await slack.happen(event)
        await slack.happen(HELLO)
    assert [payload["message"] for payload in payloads(tester, "ReceivedMessage")] == ["hello"]
    assert len(tester.sent) == 1


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
        assert tester.server.keys == {"message.C1.1700000001.000100"}  # what a server knows it by after the pack was started anew


async def test_slack_hears_in_time_that_an_event_is_in_hand_while_flyte_is_away(
    slack: Slack, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert intake.ACKNOWLEDGE_WITHIN < 3
    monkeypatch.setattr(intake, "ACKNOWLEDGE_WITHIN", 0.05)
    async with running(slack) as tester:
        release = tester.server.hold(on="/events")
        await slack.happen(HELLO)
        await slack.happen(HELLO, retry=1)
        await slack.happen({**HELLO, "ts": "1700000002.000100", "text": "and more"})
        assert tester.sent == []
        release.set()
        await tester.server.until(lambda: len(tester.sent) == 2)
    assert [payload["message"] for payload in payloads(tester, "ReceivedMessage")] == ["hello", "and more"]


async def test_what_is_in_hand_when_the_pack_stops_still_arrives(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "ACKNOWLEDGE_WITHIN", 0.05)
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


async def test_when_too_much_is_in_hand_slack_is_asked_to_come_again(slack: Slack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "ACKNOWLEDGE_WITHIN", 0.05)
    monkeypatch.setattr(intake, "_MOST_AT_ONCE", 1)
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
    assert "Flyte does not take message.C1.1700000001.000100: The input is not valid." in caplog.text


# -------------------------------------------------------------------------------------------- buttons, slash commands


async def test_a_pressed_button_becomes_an_event(slack: Slack) -> None:
    action = {"type": "button", "action_id": "approve", "block_id": "b1", "value": "app:1.0", "action_ts": "1.7"}
    chosen = {"type": "static_select", "action_id": "pick", "selected_option": {"value": "eu"}, "action_ts": "1.8"}
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
    typed = {"command": "/flyte", "text": "deploy app 1.0", "user_id": "U1", "channel_id": "C1", "trigger_id": "T1"}
    async with running(slack) as tester:
        await slack.interact("slash_commands", typed)
        await slack.interact("slash_commands", typed)
    assert payloads(tester, "SlashCommand") == [{"channelId": "C1", "user": ANN, "command": "/flyte", "text": "deploy app 1.0"}]


# ----------------------------------------------------------------------------------------------------------- chat-ops


DEPLOY = {"pattern": "deploy {app}", "allow": {"users": ["ann@test", "U2"]}, "confirm": {}}


def press(action_id: str, by: str, question: dict[str, Any]) -> dict[str, Any]:
    value = next(each["value"] for each in question["blocks"][1]["elements"] if each["action_id"] == action_id)
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
        assert slack.called("chat.postMessage")[1]["text"] == "ann, you cannot approve what you asked for yourself."
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
    assert tester.server.keys >= {"message.C1.1700000001.000100", "message.C1.1700000001.000100.command"}


async def test_a_button_of_a_question_that_is_no_longer_known_says_so_in_its_place(slack: Slack) -> None:
    gone = {"blocks": [{}, {"elements": [{"action_id": "flyte.approve", "value": "beef"}]}]}
    async with running(slack) as tester:
        await slack.interact("interactive", press("flyte.approve", "U2", gone))
        assert slack.called("chat.update")[0]["text"].startswith("This question counts no longer:")
        assert tester.sent == []


@pytest.mark.parametrize(
    ("text", "channel"),
    [("<@UBOT> deploy a", "C1"), ("<@UBOT|flyte>: deploy a", "C1"), ("deploy a", "D1"), ("flyte deploy a", "C1")],
)
async def test_what_is_said_to_the_bot_needs_no_prefix(slack: Slack, text: str, channel: str) -> None:
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"prefix": "flyte", "commands": [{"pattern": "deploy {app}"}]}
        await slack.happen({**HELLO, "text": "deploy a", "ts": "1.1"})
        await slack.happen({**HELLO, "text": text, "channel": channel})
    assert [payload["arguments"] for payload in payloads(tester, "CommandReceived")] == [{"app": "a"}]


async def test_a_slash_command_is_a_command_too(slack: Slack) -> None:
    typed = {"command": "/flyte", "user_id": "U1", "channel_id": "C1"}
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"prefix": "flyte", "commands": [{"pattern": "deploy {app}"}]}
        await slack.interact("slash_commands", {**typed, "text": "deploy <http://shop.test|shop.test>", "trigger_id": "T1"})
        await slack.interact("slash_commands", {**typed, "text": "help", "trigger_id": "T2"})
    (payload,) = payloads(tester, "CommandReceived")
    assert (payload["arguments"], payload["threadTimestamp"]) == ({"app": "shop.test"}, "")
    assert slack.called("chat.postMessage") == [{"channel": "C1", "text": "`flyte deploy {app}`"}]


async def test_people_are_meant_by_what_they_cannot_choose_and_channels_by_name(slack: Slack) -> None:
    slack.users["U3"] = {"id": "U3", "name": "ann@test", "profile": {"email": "eve@test", "display_name": "U1"}}
    allow = {"users": ["ann@test"], "channels": ["general"]}
    async with running(slack) as tester:
        tester.server.data["chatops"] = {"commands": [{"pattern": "deploy {app}", "allow": allow}]}
        for number, (user_id, channel) in enumerate([("U3", "C1"), ("U1", "C2"), ("U1", "C1")]):
            await slack.happen({**HELLO, "user": user_id, "channel": channel, "text": "deploy a", "ts": f"6.{number}"})
    assert [payload["reason"] for payload in payloads(tester, "CommandRefused")] == ["person", "channel"]
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
        ("<http://shop.test|shop.test> <https://x.test/?a=1&amp;b=2>", "shop.test https://x.test/?a=1&b=2"),
        ("<mailto:ann@test|ann@test> <#C1|general> <!channel> <@U1|ann>", "ann@test #general @channel <@U1>"),
        ("1 &lt; 2 &gt; &lt;", "1 < 2 > <"),
    ],
)
def test_what_slack_writes_is_read_as_it_was_typed(text: str, expected: str) -> None:
    assert plain(text) == expected


# --------------------------------------------------------------------------------------------------------- connection


async def test_a_connection_that_drops_is_made_again(slack: Slack) -> None:
    async with running(slack) as tester:
        for number in range(3):
            socket = await slack.connected(number + 1)
            await slack.happen({**HELLO, "ts": f"4.{number}"})
            await socket.close()
        await slack.connected(4)
        await slack.happen({**HELLO, "ts": "4.9"})
    assert len(tester.sent) == 4


@pytest.mark.slow
async def test_a_connection_that_is_cut_without_a_word_is_made_again(slack: Slack) -> None:
    async with running(slack) as tester:
        slack.cut()
        await slack.connected(2)
        await slack.happen(HELLO)
    assert len(tester.sent) == 1


async def test_the_next_connection_is_there_before_the_one_that_slack_announces_to_end_is_left(slack: Slack) -> None:
    async with running(slack) as tester:
        old = await slack.connected()
        await old.send_json({"type": "disconnect", "reason": "refresh_requested", "debug_info": {}})
        await slack.connected(2)
        await slack.happen(HELLO)
        assert len(tester.sent) == 1
        assert len(slack.sockets) == 2
        await slack.until(lambda: old.closed)


async def test_a_lost_connection_makes_the_pack_unhealthy(slack: Slack) -> None:
    pack = create(slack.environ())
    async with PackTester(pack):
        await slack.connected()
        await slack.happen(HELLO)
        checks = pack.declaration().checks
        outcome = (await run_checks(checks, 5))["Slack"]
        assert (outcome.healthy, outcome.status) == (True, "connected to Acme as flyte")
        slack.refuse("apps.connections.open", "service_unavailable", times=1_000)
        opened = len(slack.called("apps.connections.open"))
        await (await slack.connected()).close()
        await slack.until(lambda: len(slack.called("apps.connections.open")) > opened + 1)
        outcome = (await run_checks(checks, 5))["Slack"]
        assert (outcome.healthy, outcome.status) == (False, "service_unavailable")


# ------------------------------------------------------------------------------------------------- settings and check


def test_the_settings_are_all_looked_at() -> None:
    with pytest.raises(SettingsError) as failed:
        create({"FLYTE_SLACK_APP_TOKEN": "xoxb-1", "RENEW_CONVERSATION_LIST": "often", "FLYTE_SLACK_OWN_MESSAGES": "perhaps"})
    assert [str(problem) for problem in failed.value.problems] == [
        "FLYTE_SLACK_TOKEN: is not set: the bot token of the Slack app, which begins with xoxb-",
        "FLYTE_SLACK_APP_TOKEN: is not an app-level token; those begin with xapp-",
        "RENEW_CONVERSATION_LIST: 'often' is not a number of whole hours",
        "FLYTE_SLACK_OWN_MESSAGES: 'perhaps' is neither true nor false",
    ]
    with pytest.raises(SettingsError, match="that one belongs into FLYTE_SLACK_APP_TOKEN"):
        create({"FLYTE_SLACK_TOKEN": "xapp-1"})
    with pytest.raises(SettingsError, match="FLYTE_SLACK_API_URL"):
        create({"FLYTE_SLACK_TOKEN": "xoxb-1", "FLYTE_SLACK_API_URL": "slack.com"})


async def checked(slack: Slack, **variables: str) -> str:
    pack = create(slack.environ(**variables))
    health = (await run_checks(pack.declaration().checks, 10))["Slack"]
    return ("well: " if health.healthy else "not well: ") + health.status


async def test_the_check_says_in_one_line_what_is_wrong(slack: Slack) -> None:
    assert await checked(slack) == "well: connected to Acme as flyte"
    assert [method for method, _ in slack.calls] == ["auth.test", "apps.connections.open"]
    no_events = "; no events, for FLYTE_SLACK_APP_TOKEN is not set"
    assert await checked(slack, FLYTE_SLACK_APP_TOKEN="") == f"well: connected to Acme as flyte{no_events}"
    assert await checked(slack, FLYTE_SLACK_TOKEN="xoxb-no") == "not well: Slack refuses FLYTE_SLACK_TOKEN: invalid_auth"
    assert await checked(slack, FLYTE_SLACK_APP_TOKEN="xapp-no") == "not well: Slack refuses FLYTE_SLACK_APP_TOKEN: invalid_auth"
    slack.refuse("apps.connections.open", "missing_scope", needed="connections:write")
    assert await checked(slack) == "not well: Slack refuses FLYTE_SLACK_APP_TOKEN: missing_scope: connections:write"
    slack.scopes = "chat:write"
    add_it = "add it to the Slack app, and install the app again"
    assert await checked(slack) == f"not well: missing_scope: channels:read, users:read: {add_it}"


@pytest.mark.slow
async def test_the_check_says_that_slack_cannot_be_reached() -> None:
    async with Slack() as slack:
        environ = slack.environ()
    pack = create(environ)
    health = (await run_checks(pack.declaration().checks, 10))["Slack"]
    assert not health.healthy
    assert health.status.startswith("Slack cannot be reached: Cannot connect to host 127.0.0.1")


async def test_without_an_app_token_there_are_commands_and_a_warning(slack: Slack, caplog: pytest.LogCaptureFixture) -> None:
    async with PackTester(create(slack.environ(FLYTE_SLACK_APP_TOKEN=""))) as tester:
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
        assert event.name == "MessageSent"
        await slack.until(lambda: bool(slack.called("auth.test")))
    assert "set FLYTE_SLACK_APP_TOKEN" in caplog.text
    assert slack.called("apps.connections.open") == []
