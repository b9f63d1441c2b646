"""What the Chat pack and its room do; flows must not notice that it is not Slack."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flyteops.errors import InputError, NotFoundError, SettingsError
from flyteops.packs import chat
from flyteops.packs.chat import Console, Message, Room, User, pack_for, plain_lines
from flyteops.sdk import Event, fatal
from flyteops.sdk.testing import PackTester, settle

ANN = User(id="U1", name="ann", email="ann@test", title="Dr", first_name="Ann", last_name="Lee")
ANN_SEEN = {
    "id": "U1",
    "name": "ann",
    "email": "ann@test",
    "title": "Dr",
    "firstName": "Ann",
    "lastName": "Lee",
}


def standing_room() -> Room:
    return Room(
        user=ANN,
        channels=["general", "deploys"],
        now=lambda: datetime.fromtimestamp(1_700_000_000, UTC),
    )


def console_with(
    room: Room, tmp_path: Path, text: str
) -> tuple[Console, list[str], Callable[[], None]]:
    file = tmp_path / "input"
    file.write_text(text)
    fd, lines = os.open(file, os.O_RDONLY), list[str]()
    return Console(room, input_fd=fd, write=lines.append), lines, lambda: os.close(fd)


# ------------------------------------------------------------------------------------------- events


async def test_help_in_the_room_is_answered_with_and_without_commands() -> None:
    room = standing_room()
    async with PackTester(pack_for(room)) as tester:
        await room.say("help")
        assert "No commands are declared yet" in room.messages[-1].text
        tester.server.data["chatops"] = {
            "prefix": "flyte",
            "commands": [{"pattern": "deploy {app}"}],
        }
        await tester.advance(10)
        await room.say("Help")
        assert room.messages[-1].text == "`flyte deploy {app}`"


async def test_what_people_say_becomes_a_received_message() -> None:
    room = standing_room()
    async with PackTester(pack_for(room)) as tester:
        message = await room.say("hello")
        assert tester.sent == [
            Event(
                "ReceivedMessage",
                {
                    "channelId": room.channel("general").id,
                    "user": ANN_SEEN,
                    "message": "hello",
                    "timestamp": "1700000000.000000",
                    "threadTimestamp": "1700000000.000000",
                    "replyCount": 0,
                    "replies": None,
                },
            )
        ]
        assert message.timestamp == "1700000000.000000"


async def test_an_answer_in_a_thread_carries_the_timestamp_of_its_question() -> None:
    room = standing_room()
    async with PackTester(pack_for(room)) as tester:
        question = await room.say("why?", channel="#deploys")
        await room.say("because", channel="deploys", thread=question.timestamp)
        payload = tester.sent[1].payload
    assert (payload["timestamp"], payload["threadTimestamp"]) == (
        "1700000000.000001",
        "1700000000.000000",
    )
    assert payload["channelId"] == room.channel("deploys").id


async def test_a_reaction_tells_who_reacted_to_whose_message() -> None:
    room = standing_room()
    async with PackTester(pack_for(room)) as tester:
        message = await room.say("hello")
        await room.react(":wave:", message.timestamp, user=User(id="U2", name="bob"))
        assert tester.sent[1] == Event(
            "ReactionAdded",
            {
                "type": "reaction_added",
                "user": {
                    "id": "U2",
                    "name": "bob",
                    "email": "",
                    "title": "",
                    "firstName": "",
                    "lastName": "",
                },
                "itemUser": ANN_SEEN,
                "item": {
                    "type": "message",
                    "timestamp": message.timestamp,
                    "channel": room.channel("general").id,
                },
                "reaction": "wave",
                "eventTimestamp": "1700000000.000001",
            },
        )


async def test_saying_returns_once_the_server_knows_or_raises_what_it_says() -> None:
    room = standing_room()
    async with PackTester(pack_for(room)) as tester:
        release = tester.server.hold(on="/events")
        saying = asyncio.create_task(room.say("hello"))
        await settle()
        assert not saying.done()
        release.set()
        await saying
        tester.server.fail(status=400, on="/events")
        with pytest.raises(InputError, match="The input is not valid"):
            await room.say("refused")
        await room.say("goes on")


async def test_nobody_can_react_to_nothing_or_talk_nowhere() -> None:
    room = standing_room()
    with pytest.raises(NotFoundError, match=r"there is no message 1\.0"):
        await room.react("wave", "1.0")
    with pytest.raises(
        NotFoundError, match="there is no channel 'nowhere'; there are: general, deploys"
    ):
        await room.say("hello", channel="nowhere")


# ----------------------------------------------------------------------------------------- commands


async def run(room: Room, command: str, command_input: Any) -> Event:
    async with PackTester(pack_for(room)) as tester:
        return await tester.run(command, command_input)


async def test_the_registration_names_the_commands_and_events_of_slack() -> None:
    async with PackTester(pack_for(standing_room())) as tester:
        (registration,) = tester.server.registrations
    assert {command["name"]: command["events"] for command in registration["commands"]} == {
        "SendMessage": ["MessageSent", "SendMessageFailed"],
        "SendRichMessage": ["RichMessageSent", "SendRichMessageFailed"],
        "UpdateMessage": ["MessageUpdated", "UpdateMessageFailed"],
        "GetChannelInfo": ["GetChannelInfoSuccess", "GetChannelInfoFail"],
    }
    assert {"ReceivedMessage", "ReactionAdded"} <= {
        event["name"] for event in registration["events"]
    }


async def test_a_message_of_a_flow_is_posted_to_whoever_listens() -> None:
    room = standing_room()
    posted, channel = room.posted(), room.channel("deploys")
    event = await run(
        room,
        "SendMessage",
        {"message": "done", "channelId": channel.id, "threadTimestamp": "1700000000.000000"},
    )
    sent = {
        "message": "done",
        "threadTimestamp": "1700000000.000000",
        "channelId": channel.id,
        "timestamp": "1700000000.000000",
    }
    assert event == Event("MessageSent", sent)
    async for message in posted:
        assert message == Message(
            "1700000000.000000", channel, room.bot, "done", "1700000000.000000"
        )
        break


async def test_keys_are_read_whatever_their_case_and_null_counts_as_absent() -> None:
    event = await run(
        standing_room(), "SendMessage", {"Message": "a", "channelID": "C1", "threadTimestamp": None}
    )
    sent = {
        "message": "a",
        "threadTimestamp": "",
        "channelId": "C1",
        "timestamp": "1700000000.000000",
    }
    assert event == Event("MessageSent", sent)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"message": "a"}, "missing channel id field"),
        ({"channelId": "C1"}, "missing message field"),
        (None, "missing message field, missing channel id field"),
    ],
)
async def test_a_message_without_text_or_channel_fails(given: Any, error: str) -> None:
    event = await run(standing_room(), "SendMessage", given)
    assert event.name == "SendMessageFailed"
    assert event.payload["error"] == error
    assert set(event.payload) == {"message", "threadTimestamp", "channelId", "error"}


async def test_input_of_the_wrong_type_is_fatal_as_in_slack() -> None:
    room = standing_room()
    assert await run(room, "SendMessage", {"message": 5}) == fatal(
        "input is not valid: Expected `str | null`, got `int` - at `$.message`"
    )
    assert await run(room, "SendRichMessage", []) == fatal(
        "invalid input: Expected `object`, got `array`"
    )


async def test_a_rich_message_is_posted_with_its_attachments() -> None:
    room = standing_room()
    posted, channel = room.posted(), room.channel("general")
    attachments = [
        {"title": "Build 7", "fields": [{"title": "state", "value": "green", "short": True}]}
    ]
    given = {"channel": channel.id, "text": "done", "username": "ci", "attachments": attachments}
    assert await run(room, "SendRichMessage", given) == Event(
        "RichMessageSent", {"channelId": channel.id, "threadTimestamp": "1700000000.000000"}
    )
    message = await anext(posted)
    assert (message.user.name, message.attachments) == ("ci", tuple(attachments))


@pytest.mark.parametrize("channel", ["general", "#general", "C0123ABC", "nowhere", "#nowhere"])
async def test_both_ways_to_send_show_a_channel_whether_the_room_knows_it_or_not(
    channel: str,
) -> None:
    room = standing_room()
    async with PackTester(pack_for(room)) as tester:
        plain = await tester.run("SendMessage", {"channelId": channel, "message": "hi"})
        rich = await tester.run("SendRichMessage", {"channel": channel, "text": "hi"})
    assert (plain.name, rich.name) == ("MessageSent", "RichMessageSent")
    assert len({message.channel for message in room.messages}) == 1


async def test_a_rich_message_that_fails_echoes_its_input_with_every_field() -> None:
    event = await run(standing_room(), "SendRichMessage", {"channel": "", "text": "hi"})
    assert event == Event(
        "SendRichMessageFailed",
        {
            "inputMessage": {
                "channel": "",
                "text": "hi",
                "username": "",
                "icon_url": "",
                "icon_emoji": "",
                "parse": "",
                "thread_ts": "",
                "reply_broadcast": False,
                "unfurl_links": False,
                "unfurl_media": False,
                "escape_text": False,
                "link_names": 0,
                "attachments": None,
            },
            "error": "cannot send rich message='hi': channel_not_found",
        },
    )
    event = await run(standing_room(), "SendRichMessage", {"channel": "general", "mrkdwn": True})
    assert event.payload["error"].endswith("no_text")
    assert event.payload["inputMessage"]["mrkdwn"] is True


async def test_a_message_of_a_flow_can_become_another_and_shows_it() -> None:
    room = standing_room()
    posted, channel = room.posted(), room.channel("general")
    async with PackTester(pack_for(room)) as tester:
        sent = await tester.run("SendMessage", {"message": "1 of 2", "channelId": channel.id})
        place = {"channelId": channel.id, "timestamp": sent.payload["timestamp"]}
        assert await tester.run("UpdateMessage", {**place, "message": "done"}) == Event(
            "MessageUpdated", {**place, "message": "done"}
        )
    assert [list(plain_lines(await anext(posted))) for _ in range(2)] == [
        ["[#general 1700000000.000000] flyte: 1 of 2"],
        ["[#general 1700000000.000000] flyte (edited): done"],
    ]
    assert [message.text for message in room.messages] == ["done"]


BLOCKS = [
    {"type": "header", "text": {"type": "plain_text", "text": "Deploy"}},
    {
        "type": "section",
        "text": {"type": "mrkdwn", "text": "*shop*\n1.2"},
        "fields": [{"type": "mrkdwn", "text": "live"}],
    },
    {"type": "divider"},
    {"type": "context", "elements": [{"type": "mrkdwn", "text": "asked by ann"}]},
    {
        "type": "actions",
        "block_id": "b1",
        "elements": [
            {
                "type": "button",
                "action_id": "go",
                "value": "shop:1.2",
                "text": {"type": "plain_text", "text": "Go on"},
            },
            {"type": "button", "action_id": "stop", "text": {"type": "plain_text", "text": "Stop"}},
        ],
    },
    {"type": "rich_text", "elements": "not a list"},
]


async def test_blocks_are_shown_in_the_place_of_the_text_and_their_buttons_can_be_pressed() -> None:
    room = standing_room()
    posted, channel = room.posted(), room.channel("general")
    async with PackTester(pack_for(room)) as tester:
        await tester.run(
            "SendRichMessage", {"channel": channel.id, "text": "Deploy shop", "blocks": BLOCKS}
        )
        message = await anext(posted)
        assert list(plain_lines(message)) == [
            "[#general 1700000000.000000] flyte: Deploy",
            *(
                "    *shop*",
                "    1.2",
                "    live",
                "    ---",
                "    asked by ann",
                "    [Go on] [Stop]",
            ),
        ]
        for name in ("go ON", "go"):
            await room.press(name, message.timestamp)
        with pytest.raises(
            NotFoundError, match="that message has no button 'wait'; it has: Go on, Stop"
        ):
            await room.press("wait", message.timestamp)
    pressed = {
        "channelId": channel.id,
        "user": ANN_SEEN,
        "actionId": "go",
        "blockId": "b1",
        "value": "shop:1.2",
    }
    place = {"timestamp": message.timestamp, "threadTimestamp": message.timestamp}
    assert tester.sent == [Event("ButtonPressed", {**pressed, **place})] * 2


async def test_only_messages_of_flows_can_become_others() -> None:
    room = standing_room()
    async with PackTester(pack_for(room)) as tester:
        said = await room.say("mine")
        place = {"channelId": said.channel.id, "timestamp": said.timestamp}
        event = await tester.run("UpdateMessage", {**place, "message": "yours"})
        assert event == Event(
            "UpdateMessageFailed", {**place, "message": "yours", "error": "message_not_found"}
        )
        event = await tester.run("UpdateMessage", {"channelId": "C1"})
        assert event.payload["error"] == "missing message field, missing timestamp field"


async def test_a_channel_is_found_by_its_name() -> None:
    room = standing_room()
    assert await run(room, "GetChannelInfo", {"channelName": "deploys"}) == Event(
        "GetChannelInfoSuccess",
        {
            "channelName": "deploys",
            "conversation": {"id": room.channel("deploys").id, "name": "deploys", "topic": ""},
        },
    )
    assert await run(room, "GetChannelInfo", {"channelName": "nowhere"}) == Event(
        "GetChannelInfoFail",
        {"channelName": "nowhere", "reason": "can't find channel with such name"},
    )
    assert (await run(room, "GetChannelInfo", "deploys")).name == "GetChannelInfoFail"


# ----------------------------------------------------------------------------------------- the room


def test_ids_are_the_same_in_every_run() -> None:
    assert (
        Room(channels=["general"]).channel("general").id
        == Room(channels=["general"]).channel("general").id
    )
    assert User.named("ann").id == User.named("ann").id != User.named("bob").id


def test_timestamps_are_unique_and_increase_even_when_the_clock_goes_back() -> None:
    moments = iter([10.5, 10.5, 9.0, 11.0])
    room = Room(user=ANN, now=lambda: datetime.fromtimestamp(next(moments), UTC))
    stamps = [room.post("x", channel=room.channels[0]).timestamp for _ in range(4)]
    assert stamps == ["10.500000", "10.500001", "10.500002", "11.000000"]


# -------------------------------------------------------------------------------------- the console


async def test_lines_are_said_and_commands_obeyed(tmp_path: Path) -> None:
    room = standing_room()
    text = (
        "hello\n\n/channel #new\nthere\n/thread 1700000000.000000 yes\n/react 1700000000.000000"
        " :wave:\n"
        "/press 1700000000.000000 Go\n/dance\nlast"
    )
    console, lines, close = console_with(room, tmp_path, text)
    async with PackTester(pack_for(room)) as tester:
        await console.listen()
        said = [
            (event.payload["message"], event.payload["channelId"])
            for event in tester.sent
            if event.name == "ReceivedMessage"
        ]
        assert [
            event.payload["reaction"] for event in tester.sent if event.name == "ReactionAdded"
        ] == ["wave"]
    general, new = room.channel("general").id, room.channel("new").id
    assert said == [("hello", general), ("there", new), ("yes", new), ("last", new)]
    assert lines[0] == "! that message has no button 'Go'; it has: none"
    assert lines[1:] == ["! unknown command /dance; see /help"]
    close()


async def test_quoted_texts_are_shown_as_slack_shows_them_and_steer_no_terminal(
    tmp_path: Path,
) -> None:
    room = standing_room()
    console, lines, close = console_with(room, tmp_path, "")
    showing = asyncio.create_task(console.show())
    room.post("a &lt;!channel&gt; &amp;lt; b\x1b]0;x\x07\r\x9b2J", channel=room.channel("general"))
    await settle()
    assert lines[0].endswith(": a <!channel> &lt; b\ufffd]0;x\ufffd\ufffd\ufffd2J")
    showing.cancel()
    close()


async def test_posts_are_shown_as_plain_text() -> None:
    room = standing_room()
    message = room.post(
        "two\nlines",
        channel=room.channel("deploys"),
        thread="1.000000",
        attachments=[
            {
                "title": "Build 7",
                "text": "is\nfine",
                "fields": [{"title": "state", "value": "green"}],
            },
            {"fallback": "plain"},
        ],
    )
    assert list(plain_lines(message)) == [
        "[#deploys 1700000000.000000 in 1.000000] flyte: two",
        "    lines",
        "  | Build 7",
        "  | is",
        "  | fine",
        "  | state: green",
        "  | plain",
    ]


def test_channels_come_from_the_environment() -> None:
    chat.create({"FLYTE_CHAT_CHANNELS": "#general, deploys"})
    with pytest.raises(SettingsError, match="is not a list of channel names"):
        chat.create({"FLYTE_CHAT_CHANNELS": "general,,"})
