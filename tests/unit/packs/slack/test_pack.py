"""What the Slack pack does for flows, with Slack's official client between it and a stand-in for
Slack on the loopback.
"""

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from flyteops.errors import ForbiddenError, SettingsError
from flyteops.packs.slack import create
from flyteops.packs.slack.pack import MAX_TEXT_LENGTH
from flyteops.sdk import Event, fatal
from flyteops.sdk.health import run_checks
from flyteops.sdk.testing import PackTester
from tests.slack import APP_TOKEN, BOT_TOKEN, HELLO, Slack, running


@pytest.fixture
async def slack() -> AsyncIterator[Slack]:
    async with Slack() as slack:
        yield slack


# ----------------------------------------------------------------------------------------- commands


async def test_it_registers_the_commands_and_events_of_the_original_and_their_schemas(
    slack: Slack,
) -> None:
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
    assert set(asked) == {"message", "channelId", "threadTimestamp", "markup"}
    assert {"channelId", "user", "message", "timestamp", "threadTimestamp"} == set(told["required"])


async def test_a_message_goes_into_the_thread_and_the_answer_says_where_it_is(slack: Slack) -> None:
    given = {"message": "Grüße 🚀 & <@U1>", "channelId": "C1", "threadTimestamp": "1.2"}
    async with running(slack) as tester:
        assert await tester.run("SendMessage", given) == Event(
            "MessageSent", {**given, "timestamp": "1700000000.000001"}
        )
    assert slack.called("chat.postMessage") == [
        {"channel": "C1", "text": "Grüße 🚀 & <@U1>", "thread_ts": "1.2"}
    ]


MANY = [
    ("<!channel> look", "&lt;!channel> look"),
    ("<!here|label>, <!everyone>", "&lt;!here|label>, &lt;!everyone>"),
    ("<!Channel> <!EVERYONE>", "&lt;!Channel> &lt;!EVERYONE>"),
    (
        "<!group> <!subteam^S1> <!subteam^S1|@ops>",
        "&lt;!group> &lt;!subteam^S1> &lt;!subteam^S1|@ops>",
    ),
    (
        "<\u200b!channel> < !channel> <\x00!channel>",
        "&lt;\u200b!channel> &lt; !channel> &lt;\x00!channel>",
    ),
    ("<<!channel>> <!channel", "<&lt;!channel>> &lt;!channel"),
    ("<!date^0^{date}|<!channel>>", "<!date^0^{date}|&lt;!channel>>"),
]
LEFT = "<@U1> <#C1> <https://x.example|y> &lt;!channel&gt; <!date^0^{date}|then> *a* @channel"


@pytest.mark.parametrize(("text", "shown"), MANY)
async def test_mentions_of_many_are_text_unless_the_flow_says_markup(
    slack: Slack, text: str, shown: str
) -> None:
    async with running(slack) as tester:
        event = await tester.run("SendMessage", {"message": text, "channelId": "C1"})
        await tester.run("SendMessage", {"message": text, "channelId": "C1", "markup": "true"})
        await tester.run("SendRichMessage", {"text": text, "channel": "C1"})
        await tester.run("SendRichMessage", {"text": text, "channel": "C1", "markup": True})
        await tester.run("UpdateMessage", {"message": text, "channelId": "C1", "timestamp": "1.2"})
        await tester.run(
            "UpdateMessage",
            {"message": text, "channelId": "C1", "timestamp": "1.2", "markup": True},
        )
    assert (event.name, event.payload["message"]) == ("MessageSent", text)
    assert [call["text"] for call in slack.called("chat.postMessage")] == [shown, text, shown, text]
    assert slack.called("chat.update")[1]["text"] == text
    assert "<!c" not in slack.called("chat.update")[0]["text"]


async def test_mentions_of_people_and_links_are_left_as_they_are(slack: Slack) -> None:
    async with running(slack) as tester:
        await tester.run("SendMessage", {"message": LEFT, "channelId": "C1"})
        await tester.run("SendRichMessage", {"text": LEFT, "channel": "C1"})
    assert [call["text"] for call in slack.called("chat.postMessage")] == [LEFT, LEFT]


async def test_names_of_many_are_text_where_slack_looks_for_names(slack: Slack) -> None:
    text = "@channel, (@Here) @everyone @ann a@channel.example"
    shown = "@\u2060channel, (@\u2060Here) @\u2060everyone @ann a@channel.example"
    async with running(slack) as tester:
        await tester.run("SendRichMessage", {"text": text, "channel": "C1", "link_names": 1})
        await tester.run("SendRichMessage", {"text": text, "channel": "C1", "parse": "full"})
        await tester.run("SendRichMessage", {"text": text, "channel": "C1", "parse": "none"})
        await tester.run(
            "SendRichMessage", {"text": text, "channel": "C1", "link_names": 1, "markup": True}
        )
        await tester.run("UpdateMessage", {"message": text, "channelId": "C1", "timestamp": "1.2"})
    assert [call["text"] for call in slack.called("chat.postMessage")] == [shown, shown, text, text]
    assert slack.called("chat.update")[0]["text"] == shown


async def test_mentions_of_many_are_text_in_blocks_and_attachments_as_well(slack: Slack) -> None:
    def blocks(loud: str, plain: str) -> list[dict[str, Any]]:
        return [
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": loud},
                "fields": [{"type": "mrkdwn", "text": loud}],
            },
            {"type": "header", "text": {"type": "plain_text", "text": plain}},
            {
                "type": "context",
                "elements": [
                    {"type": "mrkdwn", "text": loud},
                    {"type": "image", "alt_text": plain},
                ],
            },
            {"type": "markdown", "text": loud},
            {
                "type": "actions",
                "elements": [
                    {
                        "type": "button",
                        "value": plain,
                        "text": {"type": "plain_text", "text": plain},
                    }
                ],
            },
        ]

    def attachments(loud: str, plain: str) -> list[dict[str, Any]]:
        texts = dict.fromkeys(
            ("pretext", "text", "title", "fallback", "footer", "author_name"), loud
        )
        return [
            {
                **texts,
                "callback_id": plain,
                "fields": [{"title": loud, "value": loud}],
                "actions": [{"value": plain}],
            }
        ]

    many, quieted = "<!channel> <@U1>", "&lt;!channel> <@U1>"
    rich = {
        "type": "rich_text",
        "elements": [
            {"type": "broadcast", "range": "here"},
            {"type": "usergroup", "usergroup_id": "S1"},
        ],
    }
    async with running(slack) as tester:
        given = {"blocks": [*blocks(many, many), rich], "attachments": attachments(many, many)}
        await tester.run("SendRichMessage", {"channel": "C1", **given})
        await tester.run("SendRichMessage", {"channel": "C1", **given, "markup": True})
        await tester.run("UpdateMessage", {"channelId": "C1", "timestamp": "1.2", **given})
    quiet_rich = {
        "type": "rich_text",
        "elements": [{"type": "text", "text": "@here"}, {"type": "text", "text": "@S1"}],
    }
    expected = {
        "blocks": [*blocks(quieted, many), quiet_rich],
        "attachments": attachments(quieted, many),
    }
    calls = [*slack.called("chat.postMessage"), *slack.called("chat.update")]
    assert [{key: call[key] for key in given} for call in calls] == [expected, given, expected]


async def test_a_failed_rich_message_is_echoed_as_it_was_given(slack: Slack) -> None:
    async with running(slack) as tester:
        event = await tester.run("SendRichMessage", {"channel": "C9", "text": "<!channel>"})
    assert event.name == "SendRichMessageFailed"
    assert event.payload["inputMessage"]["text"] == "<!channel>"
    assert "markup" not in event.payload["inputMessage"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"message": "a"}, "missing channel id field"),
        ({"channelId": "C1"}, "missing message field"),
        (None, "missing message field, missing channel id field"),
        ({"message": "a", "channelId": "C9"}, "channel_not_found"),
    ],
)
async def test_a_message_that_cannot_be_sent_fails_with_the_reason(
    slack: Slack, given: Any, error: str
) -> None:
    async with running(slack) as tester:
        event = await tester.run("SendMessage", given)
    asked = {"message": "", "channelId": "", "threadTimestamp": "", **(given or {})}
    assert event == Event("SendMessageFailed", {**asked, "error": error})


async def test_input_that_cannot_be_read_is_fatal_as_with_the_original(slack: Slack) -> None:
    async with running(slack) as tester:
        assert await tester.run("SendMessage", {"message": 5}) == fatal(
            "input is not valid: Expected `str | null`, got `int` - at `$.message`"
        )
        assert await tester.run("SendRichMessage", []) == fatal(
            "invalid input: Expected `object`, got `array`"
        )
        event = await tester.run("GetChannelInfo", [])
    assert event == Event(
        "GetChannelInfoFail", {"channelName": "", "reason": "Expected `object`, got `array`"}
    )


async def test_a_text_beyond_what_slack_keeps_is_cut_and_says_so(slack: Slack) -> None:
    text = "é" * (MAX_TEXT_LENGTH + 1)
    async with running(slack) as tester:
        exact = await tester.run("SendMessage", {"message": text[:-1], "channelId": "C1"})
        cut = await tester.run("SendMessage", {"message": text, "channelId": "C1"})
    assert (exact.name, cut.name, cut.payload["message"]) == ("MessageSent", "MessageSent", text)
    first, second = (call["text"] for call in slack.called("chat.postMessage"))
    assert first == text[:-1]
    assert len(second) == MAX_TEXT_LENGTH
    assert second.endswith("é\n[cut: the first 40000 of 40001 characters]")


async def test_a_rich_message_is_posted_with_the_defaults_of_the_original(slack: Slack) -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*hi*"}}]
    async with running(slack) as tester:
        event = await tester.run(
            "SendRichMessage",
            {"channel": "#general", "text": "a<b", "thread_ts": "1.2", "blocks": blocks},
        )
        assert event == Event(
            "RichMessageSent", {"channelId": "C1", "threadTimestamp": "1700000000.000001"}
        )
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


async def test_a_rich_message_that_fails_echoes_its_input_and_says_what_slack_says(
    slack: Slack,
) -> None:
    said = {
        "messages": ["[ERROR] must be less than 3001 characters [json-pointer:/blocks/0/text/text]"]
    }
    slack.refuse("chat.postMessage", "invalid_blocks", response_metadata=said)
    async with running(slack) as tester:
        event = await tester.run(
            "SendRichMessage", {"channel": "C1", "text": "hi", "blocks": [{"type": "section"}]}
        )
    assert event.name == "SendRichMessageFailed"
    assert (
        event.payload["error"]
        == f"cannot send rich message='hi': invalid_blocks: {said['messages'][0]}"
    )
    assert event.payload["inputMessage"]["blocks"] == [{"type": "section"}]
    assert {"channel", "text", "username", "thread_ts", "link_names", "attachments"} < set(
        event.payload["inputMessage"]
    )


async def test_a_message_can_become_another(slack: Slack) -> None:
    place = {"channelId": "C1", "timestamp": "1700000000.000001"}
    async with running(slack) as tester:
        event = await tester.run("UpdateMessage", {**place, "message": "2 of 2"})
        assert event == Event("MessageUpdated", {**place, "message": "2 of 2"})
        slack.refuse("chat.update", "cant_update_message")
        event = await tester.run("UpdateMessage", {**place, "message": "3"})
        assert event == Event(
            "UpdateMessageFailed", {**place, "message": "3", "error": "cant_update_message"}
        )
    assert slack.called("chat.update")[0] == {
        "channel": "C1",
        "ts": "1700000000.000001",
        "text": "2 of 2",
        "attachments": [],
        "blocks": [],
    }


async def test_channels_are_listed_once_and_again_when_the_list_is_old_or_lacks_the_name(
    slack: Slack,
) -> None:
    async with running(slack, RENEW_CONVERSATION_LIST="1") as tester:
        event = await tester.run("GetChannelInfo", {"channelName": "general"})
        conversation = {"id": "C1", "name": "general", "topic": "all of us"}
        assert event == Event(
            "GetChannelInfoSuccess", {"channelName": "general", "conversation": conversation}
        )
        await tester.run("GetChannelInfo", {"channelName": "deploys"})
        assert len(slack.called("conversations.list")) == 2  # its pages
        slack.channels.append({"id": "C3", "name": "new"})
        event = await tester.run("GetChannelInfo", {"channelName": "new"})
        assert event == Event(
            "GetChannelInfoFail",
            {"channelName": "new", "reason": "can't find channel with such name"},
        )
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
        assert (
            await tester.run("GetChannelInfo", {"channelName": "general"})
        ).name == "GetChannelInfoSuccess"
        assert [call["types"] for call in slack.called("conversations.list")][:2] == [
            "public_channel,private_channel",
            "public_channel",
        ]
        await tester.advance(25 * 3600)
        slack.refuse("conversations.list", "missing_scope", times=2, needed="channels:read")
        event = await tester.run("GetChannelInfo", {"channelName": "general"})
    assert event == Event(
        "GetChannelInfoFail", {"channelName": "general", "reason": "missing_scope: channels:read"}
    )


# ------------------------------------------------------------------------------------------ trouble


async def test_a_rate_limit_is_waited_for(slack: Slack) -> None:
    async with running(slack) as tester:
        slack.prepare(
            "chat.postMessage", {"ok": False, "error": "ratelimited"}, status=429, Retry_After="0"
        )
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
    assert event.name == "MessageSent"
    assert len(slack.called("chat.postMessage")) == 2


async def test_a_rate_limit_that_is_too_long_is_an_error_at_once(slack: Slack) -> None:
    async with running(slack) as tester:
        slack.prepare(
            "chat.postMessage",
            {"ok": False, "error": "ratelimited"},
            status=429,
            Retry_After="3600",
        )
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
    assert (event.name, event.payload["error"]) == ("SendMessageFailed", "ratelimited")


async def test_an_answer_that_is_none_is_an_error_that_says_so(slack: Slack) -> None:
    async with running(slack) as tester:
        slack.prepare("chat.postMessage", "<html>Bad Gateway</html>", status=502)
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
    assert event.payload["error"] == "unexpected response of Slack (HTTP 502)"


@pytest.mark.parametrize(
    ("method", "variable"),
    [("auth.test", "FLYTE_SLACK_TOKEN"), ("apps.connections.open", "FLYTE_SLACK_APP_TOKEN")],
)
async def test_a_token_that_slack_does_not_accept_ends_the_pack_and_says_which(
    slack: Slack, method: str, variable: str
) -> None:
    slack.refuse(method, "invalid_auth")

    async def run_until_the_end() -> None:
        async with PackTester(create(slack.environ())) as tester:
            await tester.next_sent()

    with pytest.raises(ForbiddenError, match=f"Slack refuses {variable}: invalid_auth"):
        await run_until_the_end()


async def test_it_waits_for_slack_to_come_back(
    slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
    slack.refuse("auth.test", "internal_error", times=3)
    slack.refuse("apps.connections.open", "service_unavailable", times=3)
    async with running(slack) as tester:
        await slack.happen(HELLO)
        assert len(tester.sent) == 1
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "Slack failed: internal_error; retrying until it succeeds",
        "the connection to Slack failed: service_unavailable; retrying until it succeeds",
    ]


async def test_no_token_is_ever_in_the_log_whatever_its_level(
    slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
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


# --------------------------------------------------------------------------------------- connection


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


async def test_the_next_connection_is_there_before_the_one_that_slack_announces_to_end_is_left(
    slack: Slack,
) -> None:
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


# ------------------------------------------------------------------------------- settings and check


def test_the_settings_are_all_looked_at() -> None:
    with pytest.raises(SettingsError) as failed:
        create(
            {
                "FLYTE_SLACK_APP_TOKEN": "xoxb-1",
                "RENEW_CONVERSATION_LIST": "often",
                "FLYTE_SLACK_OWN_MESSAGES": "perhaps",
            }
        )
    assert [str(problem) for problem in failed.value.problems] == [
        "FLYTE_SLACK_TOKEN: is not set: the bot token of the Slack app, which begins with xoxb-",
        "FLYTE_SLACK_APP_TOKEN: is not an app-level token; those begin with xapp-",
        "RENEW_CONVERSATION_LIST: 'often' is not a number of whole hours",
        "FLYTE_SLACK_OWN_MESSAGES: 'perhaps' is neither true nor false",
    ]
    with pytest.raises(SettingsError, match="set it in FLYTE_SLACK_APP_TOKEN"):
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
    no_events = "; no events, as FLYTE_SLACK_APP_TOKEN is not set"
    assert (
        await checked(slack, FLYTE_SLACK_APP_TOKEN="")
        == f"well: connected to Acme as flyte{no_events}"
    )
    assert (
        await checked(slack, FLYTE_SLACK_TOKEN="xoxb-no")
        == "not well: Slack refuses FLYTE_SLACK_TOKEN: invalid_auth"
    )
    assert (
        await checked(slack, FLYTE_SLACK_APP_TOKEN="xapp-no")
        == "not well: Slack refuses FLYTE_SLACK_APP_TOKEN: invalid_auth"
    )
    slack.refuse("apps.connections.open", "missing_scope", needed="connections:write")
    assert (
        await checked(slack)
        == "not well: Slack refuses FLYTE_SLACK_APP_TOKEN: missing_scope: connections:write"
    )
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


async def test_without_an_app_token_there_are_commands_and_a_warning(
    slack: Slack, caplog: pytest.LogCaptureFixture
) -> None:
    async with PackTester(create(slack.environ(FLYTE_SLACK_APP_TOKEN=""))) as tester:
        event = await tester.run("SendMessage", {"message": "hi", "channelId": "C1"})
        assert event.name == "MessageSent"
        await slack.until(lambda: bool(slack.called("auth.test")))
    assert "set FLYTE_SLACK_APP_TOKEN" in caplog.text
    assert slack.called("apps.connections.open") == []
