"""The pack Matrix with a real homeserver, where people talk through another client."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flyteops.errors import ForbiddenError
from flyteops.packs.matrix import create, listener
from flyteops.packs.matrix.room import ENCRYPTED
from flyteops.sdk.testing import FakeServer, PackTester
from tests.docs.blocks import blocks_of
from tests.imap import wire
from tests.matrix import PASSWORD, PATIENCE, URL, Account, Person, person, register

PAGE = Path(__file__).parents[2] / "docs/reference/packs/matrix.md"

pytestmark = pytest.mark.servers


@pytest.fixture
async def ann() -> AsyncIterator[Person]:
    async with person("ann") as ann:
        yield ann


@pytest.fixture
async def bob() -> AsyncIterator[Person]:
    async with person("bob") as bob:
        yield bob


@pytest.fixture
async def bot() -> Account:
    return await register("flyte")


@asynccontextmanager
async def running(
    bot: Account, *, chatops: Any = None, server: FakeServer | None = None, **variables: str
) -> AsyncIterator[PackTester]:
    """Run the pack, perhaps with the server of an earlier run."""
    tester = PackTester(create(bot.environ(**variables)), patience=PATIENCE)
    tester.server = server or tester.server
    if chatops is not None:
        tester.server.data["chatops"] = chatops
    async with tester:
        yield tester


async def told(
    tester: PackTester, name: str, fits: Callable[[Any], bool] = lambda payload: True
) -> Any:
    """Wait for an event and return its payload."""

    def found() -> list[Any]:
        return [
            event.payload for event in tester.sent if event.name == name and fits(event.payload)
        ]

    async with asyncio.timeout(PATIENCE):
        await tester.server.until(found)
    return found()[0]


async def enter(tester: PackTester, somebody: Person, bot: Account, **options: Any) -> str:
    """Make a room, and wait until the bot is in it."""
    room_id = await somebody.room(bot.user_id, **options)
    await told(
        tester,
        "Joined",
        lambda joined: joined["channelId"] == room_id and joined["user"]["id"] == bot.user_id,
    )
    return room_id


def messages(tester: PackTester) -> list[str]:
    return [event.payload["message"] for event in tester.sent if event.name == "ReceivedMessage"]


async def test_what_somebody_says_becomes_a_received_message(ann: Person, bot: Account) -> None:
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot)
        first = await ann.say(room_id, "hello 🚀 ä")
        payload = await told(tester, "ReceivedMessage")
    local = ann.id[1:].partition(":")[0]
    assert payload == {
        "channelId": room_id,
        "user": {
            "id": ann.id,
            "name": local,
            "email": "",
            "title": "",
            "firstName": local,
            "lastName": "",
        },
        "message": "hello 🚀 ä",
        "timestamp": first,
        "threadTimestamp": first,
        "replyCount": 0,
        "replies": None,
        "messageType": "m.text",
        "replyTo": "",
        "media": None,
    }


async def test_commands_talk_in_threads_with_format_and_change_what_they_said(
    ann: Person, bot: Account
) -> None:
    async with running(bot) as tester:
        room_id = await enter(
            tester,
            ann,
            bot,
            alias=bot.user_id[1:].partition(":")[0],
            name="Deploys",
            topic="what runs",
        )
        first = await ann.say(room_id, "hello")
        place = {"channelId": room_id, "threadTimestamp": first}
        sent = await tester.run("SendMessage", {**place, "message": "**1** of 2", "markdown": True})
        assert sent.name == "MessageSent", sent
        heard = await ann.hear_text("**1** of 2")
        edited = await tester.run(
            "UpdateMessage", {**place, "timestamp": sent.payload["timestamp"], "message": "2 of 2"}
        )
        assert edited.name == "MessageUpdated", edited
        change = await ann.hear_text("2 of 2")
        answer = await tester.run(
            "SendMessage",
            {"channelId": room_id, "message": "@room hi", "replyTo": first, "notice": True},
        )
        notice = await ann.hear_text("@room hi")
        reacted = await tester.run(
            "React", {"channelId": room_id, "timestamp": first, "reaction": "👀"}
        )
        again = await tester.run(
            "React", {"channelId": room_id, "timestamp": first, "reaction": "👀"}
        )
        found = await tester.run(
            "GetChannelInfo", {"channelName": bot.user_id[1:].partition(":")[0]}
        )
        foreign = await tester.run(
            "UpdateMessage", {"channelId": room_id, "timestamp": first, "message": "I said this"}
        )
    assert heard["content"]["formatted_body"] == "<p><strong>1</strong> of 2</p>"
    assert heard["content"]["m.relates_to"] == {
        "rel_type": "m.thread",
        "event_id": first,
        "is_falling_back": True,
        "m.in_reply_to": {"event_id": first},
    }
    assert change["content"]["m.relates_to"] == {
        "rel_type": "m.replace",
        "event_id": sent.payload["timestamp"],
    }
    assert answer.name == "MessageSent"
    assert (notice["content"]["msgtype"], notice["content"]["m.mentions"]) == ("m.notice", {})
    assert notice["content"]["m.relates_to"] == {"m.in_reply_to": {"event_id": first}}
    assert (reacted.name, again.name) == ("ReactionSent", "ReactionSent")
    alias = f"#{bot.user_id[1:]}"
    assert found.payload["conversation"] == {
        "id": room_id,
        "name": "Deploys",
        "topic": "what runs",
        "alias": alias,
        "members": 2,
        "encrypted": False,
    }
    assert (foreign.name, foreign.payload["error"]) == (
        "UpdateMessageFailed",
        "this is not a message of the bot",
    )


async def test_edits_own_messages_and_notices_are_no_events(ann: Person, bot: Account) -> None:
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot)
        first = await ann.say(room_id, "one")
        relation = {"rel_type": "m.replace", "event_id": first}
        await ann.say(
            room_id,
            "* uno",
            **{"m.new_content": {"msgtype": "m.text", "body": "uno"}, "m.relates_to": relation},
        )
        await ann.say(room_id, "an alarm", msgtype="m.notice")
        await tester.run("SendMessage", {"channelId": room_id, "message": "mine"})
        await ann.say(room_id, "two")
        await told(tester, "ReceivedMessage", lambda payload: payload["message"] == "two")
        assert messages(tester) == ["one", "two"]


async def test_threads_answers_and_files_say_what_they_are(ann: Person, bot: Account) -> None:
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot)
        first = await ann.say(room_id, "one")
        thread = {
            "rel_type": "m.thread",
            "event_id": first,
            "is_falling_back": True,
            "m.in_reply_to": {"event_id": first},
        }
        await ann.say(room_id, "in the thread", **{"m.relates_to": thread})
        await ann.say(
            room_id,
            "> <ann> one\n\nan answer",
            **{"m.relates_to": {"m.in_reply_to": {"event_id": first}}},
        )
        info = {"mimetype": "image/png", "size": 7}
        await ann.say(room_id, "cat.png", msgtype="m.image", url="mxc://flyte.test/abc", info=info)
        image = await told(
            tester, "ReceivedMessage", lambda payload: payload["message"] == "cat.png"
        )
        threaded = await told(
            tester, "ReceivedMessage", lambda payload: payload["message"] == "in the thread"
        )
        answer = await told(
            tester, "ReceivedMessage", lambda payload: payload["message"] == "an answer"
        )
    assert (threaded["threadTimestamp"], threaded["replyTo"]) == (first, "")
    assert (answer["threadTimestamp"], answer["replyTo"]) == (answer["timestamp"], first)
    assert image["media"] == {
        "url": "mxc://flyte.test/abc",
        "name": "cat.png",
        "mimeType": "image/png",
        "size": 7,
    }


async def test_a_reaction_tells_who_reacted_to_whose_message(ann: Person, bot: Account) -> None:
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot)
        sent = await tester.run("SendMessage", {"channelId": room_id, "message": "done"})
        reaction = await ann.react(room_id, sent.payload["timestamp"], "🎉")
        payload = await told(tester, "ReactionAdded")
    assert (payload["user"]["id"], payload["itemUser"]["id"]) == (ann.id, bot.user_id)
    assert payload["item"] == {
        "type": "message",
        "timestamp": sent.payload["timestamp"],
        "channel": room_id,
    }
    assert (payload["reaction"], payload["eventTimestamp"]) == ("🎉", reaction)


async def test_old_history_is_not_told_and_what_was_said_meanwhile_is_told_once(
    ann: Person, bot: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PAGE", 5)
    room_id = await ann.room()
    await ann.say(room_id, "long ago")
    await ann.client.room_invite(room_id, bot.user_id)
    async with running(bot) as tester:
        await told(tester, "Joined", lambda joined: joined["user"]["id"] == bot.user_id)
        await ann.say(room_id, "first")
        await told(tester, "ReceivedMessage")
        assert messages(tester) == ["first"]
    missed = [f"meanwhile {number}" for number in range(13)]
    for text in missed:
        await ann.say(room_id, text)
    async with running(bot, server=tester.server) as tester:
        await ann.say(room_id, "last")
        await told(tester, "ReceivedMessage", lambda payload: payload["message"] == "last")
        assert messages(tester) == ["first", *missed, "last"]
    async with running(bot, server=tester.server) as tester:
        await ann.say(room_id, "new")
        await told(tester, "ReceivedMessage", lambda payload: payload["message"] == "new")
        assert messages(tester) == ["first", *missed, "last", "new"]
    speakers = [event.payload["user"] for event in tester.sent if event.name == "ReceivedMessage"]
    assert {user["firstName"] for user in speakers} == {ann.id[1:].partition(":")[0]}


async def test_what_was_said_longer_ago_than_is_caught_up_with_is_left_out(
    ann: Person, bot: Account
) -> None:
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot)
    await ann.say(room_id, "deploy")
    async with running(bot, FLYTE_MATRIX_CATCH_UP="1ms") as tester:
        await ann.room(bot.user_id)
        await told(tester, "Invited")
        assert messages(tester) == []


async def test_only_who_may_can_invite(
    ann: Person, bob: Person, bot: Account, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(bot, FLYTE_MATRIX_INVITES=f"{ann.id},other.test") as tester:
        theirs = await bob.room(bot.user_id, name="Trap")
        refused = await told(tester, "Invited")
        ours = await enter(tester, ann, bot)
        accepted = await told(tester, "Invited", lambda payload: payload["accepted"])
        failed = await tester.run("SendMessage", {"channelId": theirs, "message": "hi"})
    assert (refused["channelId"], refused["channelName"], refused["accepted"]) == (
        theirs,
        "Trap",
        False,
    )
    assert refused["user"]["id"] == bob.id
    assert accepted["channelId"] == ours
    assert failed.name == "SendMessageFailed"
    assert failed.payload["error"].startswith("M_FORBIDDEN: ")
    assert "FLYTE_MATRIX_INVITES does not name" in caplog.text


async def test_encrypted_rooms_are_told_plainly_that_nothing_is_heard(
    ann: Person, bot: Account
) -> None:
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot, encrypted=True)
        first = await ann.hear_text(f"I cannot help here: {ENCRYPTED}.")
        await ann.send(
            room_id,
            "m.room.encrypted",
            algorithm="m.megolm.v1.aes-sha2",
            ciphertext="x",
            session_id="y",
        )
        failed = await tester.run("SendMessage", {"channelId": room_id, "message": "hi"})
        other = await enter(tester, ann, bot)
        await ann.client.room_put_state(
            other, "m.room.encryption", {"algorithm": "m.megolm.v1.aes-sha2"}
        )
        await ann.hear(
            lambda event: "I cannot help" in event["content"].get("body", "") and event != first
        )
        late = await tester.run("SendMessage", {"channelId": other, "message": "hi"})
        invitations = len([event for event in tester.sent if event.name == "Invited"])
    async with running(bot) as again:
        await enter(again, ann, bot)  # so it knows what rooms there are
        still = await again.run("SendMessage", {"channelId": other, "message": "hi"})
        assert [event.name for event in again.sent].count("Invited") == 1
    assert [event.payload["error"] for event in (failed, late, still)] == [ENCRYPTED] * 3
    assert invitations == 2
    assert messages(tester) == []


async def test_a_rate_limit_is_waited_for(ann: Person, bot: Account) -> None:
    admin = await register("admin", admin=True)
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot)
        place = f"/_synapse/admin/v1/users/{bot.user_id}/override_ratelimit"
        await admin.call("POST", place, messages_per_second=1, burst_count=1)
        pauses = []

        async def wait(seconds: float) -> None:
            pauses.append(seconds)
            await asyncio.sleep(seconds)

        # The homeserver's clock is not the tester's.
        tester.clock.back_off = wait  # type: ignore[method-assign]
        sending = [
            tester.run("SendMessage", {"channelId": room_id, "message": str(number)})
            for number in range(3)
        ]
        events = await asyncio.gather(*sending)
    assert {event.name for event in events} == {"MessageSent"}
    assert pauses


# ----------------------------------------------------------------------------------------- chat-ops


def commands(*users: Person, **more: Any) -> dict[str, Any]:
    people = {"users": [somebody.id for somebody in users]}
    return {
        "commands": [
            {"pattern": "deploy {app} {version}", "help": "Deploys.", "allow": people, **more}
        ]
    }


async def test_who_may_gives_a_command_and_who_may_not_is_told_in_the_thread(
    ann: Person, bob: Person, bot: Account
) -> None:
    async with running(bot, chatops=commands(ann)) as tester:
        room_id = await enter(tester, ann, bot)
        await ann.client.room_invite(room_id, bob.id)
        await bob.client.join(room_id)
        asked = await bob.say(room_id, "deploy shop 1")
        refusal = await bob.hear_text("you may not use `deploy`")
        await bob.say(room_id, "help")
        await bob.hear_text("No commands are available to you here.")
        await ann.say(room_id, "flyte: help")
        await ann.say(room_id, "DEPLOY 'the shop' 1.2")
        received = await told(tester, "CommandReceived")
        refused = await told(tester, "CommandRefused")
    assert refusal["content"]["msgtype"] == "m.notice"
    assert refusal["content"]["m.relates_to"]["event_id"] == asked
    assert (refused["user"]["id"], refused["reason"]) == (bob.id, "person")
    assert received["arguments"] == {"app": "the shop", "version": "1.2"}
    assert received["user"]["id"] == ann.id


async def test_a_command_counts_only_where_the_address_of_the_room_says_so(
    ann: Person, bot: Account
) -> None:
    name = bot.user_id[1:].partition(":")[0]
    declared = {"commands": [{"pattern": "deploy {app}", "allow": {"channels": [f"#{name}"]}}]}
    async with running(bot, chatops=declared) as tester:
        right = await enter(tester, ann, bot, alias=name)
        for alias in (f"#{name}", name.upper()):
            wrong = await enter(tester, ann, bot, alias=alias, name=name)
            await ann.say(wrong, "deploy shop")
            await told(
                tester, "CommandRefused", lambda payload, room=wrong: payload["channelId"] == room
            )
        await ann.say(right, "deploy shop")
        received = await told(tester, "CommandReceived")
    assert received["channelId"] == right


async def test_a_reaction_of_somebody_else_confirms_and_edits_the_question(
    ann: Person, bob: Person, bot: Account
) -> None:
    async with running(bot, chatops=commands(ann, bob, confirm={"within": "10m"})) as tester:
        room_id = await enter(tester, ann, bot)
        await ann.client.room_invite(room_id, bob.id)
        await bob.client.join(room_id)
        await ann.say(room_id, "deploy shop 1")
        question = await bob.hear_text("asks for: deploy shop 1")
        await ann.react(room_id, question["event_id"], "✅")
        await ann.hear_text("you cannot approve what you asked for yourself")
        await bob.react(room_id, question["event_id"], "👍🏽")
        settled = await bob.hear_text("Approved by")
        received = await told(tester, "CommandReceived")
        await ann.say(room_id, "deploy shop 2")
        await bob.hear_text("asks for: deploy shop 2")
        await ann.say(room_id, "refuse")
        refused = await told(tester, "CommandRefused")
        await ann.say(room_id, "deploy shop 3")
        await bob.hear_text("asks for: deploy shop 3")
        await ann.say(room_id, "well?")
        # So the question is asked.
        await told(tester, "ReceivedMessage", lambda payload: payload["message"] == "well?")
        await tester.advance(601)
        await bob.hear_text("Expired without a decision: deploy shop 3")
        expired = await told(
            tester, "CommandRefused", lambda payload: payload["reason"] == "expired"
        )
    assert settled["content"]["m.relates_to"] == {
        "rel_type": "m.replace",
        "event_id": question["event_id"],
    }
    assert (received["user"]["id"], received["approvedBy"]["id"]) == (ann.id, bob.id)
    assert (refused["reason"], refused["refusedBy"]["id"]) == ("refused", ann.id)
    assert expired["text"] == "deploy shop 3"
    assert not [event for event in tester.sent if event.name == "ReactionAdded"]


async def test_in_a_room_for_two_every_message_is_for_the_bot_and_elsewhere_those_that_call_it(
    ann: Person, bob: Person, bot: Account
) -> None:
    declared = {"prefix": "!ops", "commands": [{"pattern": "deploy {app}"}]}
    async with running(bot, chatops=declared) as tester:
        alone = await enter(tester, ann, bot)
        await ann.say(alone, "deploy one")
        await told(tester, "CommandReceived", lambda payload: payload["arguments"]["app"] == "one")
        room_id = await enter(tester, ann, bot)
        await ann.client.room_invite(room_id, bob.id)
        await bob.client.join(room_id)
        await told(tester, "Joined", lambda joined: joined["user"]["id"] == bob.id)
        await ann.say(room_id, "deploy two")
        await ann.say(room_id, f"{bot.user_id} deploy three")
        await ann.say(room_id, f"{bot.user_id[1:].partition(':')[0]}: deploy four")
        await ann.say(room_id, "!ops deploy five")
        await told(tester, "CommandReceived", lambda payload: payload["arguments"]["app"] == "five")
    given = [
        event.payload["arguments"]["app"]
        for event in tester.sent
        if event.name == "CommandReceived"
    ]
    assert given == ["one", "three", "four", "five"]


# ------------------------------------------------------------------------------------------- access


async def test_a_connection_that_breaks_is_made_again(
    ann: Person, bot: Account, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        wire(url=URL) as carried,
        running(bot, FLYTE_MATRIX_HOMESERVER=f"http://127.0.0.1:{carried.port}") as tester,
    ):
        room_id = await enter(tester, ann, bot)
        for text in ("one", "two"):
            carried.cut()
            await ann.say(room_id, text)
            await told(
                tester, "ReceivedMessage", lambda payload, text=text: payload["message"] == text
            )
        sent = await tester.run("SendMessage", {"channelId": room_id, "message": "here"})
    assert messages(tester) == ["one", "two"]
    assert sent.name == "MessageSent"
    assert "Traceback" not in caplog.text


async def test_a_password_opens_a_session_and_another_when_somebody_ends_it(
    ann: Person, bot: Account
) -> None:
    settings = {
        "FLYTE_MATRIX_TOKEN": "",
        "FLYTE_MATRIX_USER": bot.user_id,
        "FLYTE_MATRIX_PASSWORD": PASSWORD,
    }
    async with running(bot, **settings) as tester:
        room_id = await enter(tester, ann, bot)
        devices = (await bot.call("GET", "/_matrix/client/v3/devices"))["devices"]
        admin = await register("admin", admin=True)
        await admin.call("DELETE", f"/_synapse/admin/v2/users/{bot.user_id}/devices/FLYTE-Matrix")
        event = await tester.run("SendMessage", {"channelId": room_id, "message": "still here"})
        await ann.say(room_id, "good")
        await told(tester, "ReceivedMessage")
    assert "FLYTE-Matrix" in {device["device_id"] for device in devices}
    assert event.name == "MessageSent"


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"FLYTE_MATRIX_TOKEN": "syt_no"},
            "the homeserver refuses FLYTE_MATRIX_TOKEN: M_UNKNOWN_TOKEN: ",
        ),
        (
            {
                "FLYTE_MATRIX_TOKEN": "",
                "FLYTE_MATRIX_USER": "nobody",
                "FLYTE_MATRIX_PASSWORD": "no",
            },
            "the homeserver refuses FLYTE_MATRIX_PASSWORD: M_FORBIDDEN: ",
        ),
    ],
)
async def test_a_login_that_is_refused_ends_the_pack_and_says_which(
    bot: Account, settings: dict[str, str], reason: str
) -> None:
    async def run_until_the_end() -> None:
        async with running(bot, **settings) as tester:
            await tester.next_sent()

    with pytest.raises(ForbiddenError, match=reason):
        await run_until_the_end()


async def test_a_token_that_ends_later_is_told_by_health_and_the_log(
    ann: Person, bot: Account, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(bot) as tester:
        room_id = await enter(tester, ann, bot)
        await tester.advance(11)  # so long it works
        await bot.call("POST", "/_matrix/client/v3/logout")
        async with asyncio.timeout(PATIENCE):
            while not (health := await tester.health()):
                await tester.run("SendMessage", {"channelId": room_id, "message": "gone"})
    for text in (str(health), caplog.text):
        assert "the homeserver refuses FLYTE_MATRIX_TOKEN: M_UNKNOWN_TOKEN" in text


async def test_no_secret_is_ever_in_the_log_whatever_its_level(
    ann: Person, bot: Account, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {
        "FLYTE_MATRIX_TOKEN": "",
        "FLYTE_MATRIX_USER": bot.user_id,
        "FLYTE_MATRIX_PASSWORD": PASSWORD,
    }
    for variables in ({}, settings):
        async with running(bot, **variables) as tester:
            room_id = await enter(tester, ann, bot)
            await tester.run("SendMessage", {"channelId": room_id, "message": "hi"})
    ours = "\n".join(
        record.getMessage() for record in caplog.records if not record.name.startswith("nio")
    )
    assert ours
    for secret in (bot.token, PASSWORD, "syt_"):
        assert secret not in ours


# ----------------------------------------------------------------------------------- real processes


async def run_pack(
    environ: dict[str, str], *options: str, name: str = "Matrix"
) -> asyncio.subprocess.Process:
    own = {
        key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "PACK_"))
    }
    command = (sys.executable, "-m", "flyteops", "pack", "run", name, *options)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command, env=own | environ, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )


async def test_the_flow_on_the_page_deploys_and_a_pack_that_is_killed_goes_on_where_it_was(
    server: str, ann: Person, bob: Person, bot: Account
) -> None:
    (flow,) = [block.text for block in blocks_of(PAGE) if block.language == "yaml"]
    async with httpx2.AsyncClient(base_url=server) as http:
        answer = await http.post(
            "/v1/flows", content=flow, headers={"Content-Type": "application/x-yaml"}
        )
        assert answer.status_code == 201, answer.text
        value = (
            "chatops.json",
            json.dumps(commands(ann, bob, confirm={"within": "10m"})),
            "application/json",
        )
        answer = await http.put("/v1/datastore/chatops", files={"value": value})
        assert answer.is_success, answer.text
    environ = bot.environ(FLYTE_API=server, FLYTE_PACK_HEALTH_PORT="off")
    room_id = await ann.room(bot.user_id, bob.id)
    await bob.client.join(room_id)
    pack, shell = await run_pack(environ), await run_pack(environ, name="Shell")
    await ann.hear(
        lambda event: event["type"] == "m.room.member" and event["sender"] == bot.user_id
    )
    asked = await ann.say(room_id, "deploy shop 1.2")
    question = await bob.hear_text("asks for: deploy shop 1.2")
    await bob.react(room_id, question["event_id"], "✅")
    progress = await ann.hear(
        lambda event: event["content"].get("body") == "Deploying shop 1.2 ..."
    )
    done = await ann.hear_text("shop 1.2 runs")
    pack.kill()
    await pack.wait()
    await ann.say(room_id, "help")
    pack = await run_pack(environ)
    helped = await ann.hear_text("deploy {app} {version}")
    for program in (pack, shell):
        program.terminate()
    output, _ = await pack.communicate()
    await shell.communicate()
    assert progress["content"]["m.relates_to"]["event_id"] == asked
    assert done["content"]["m.relates_to"] == {
        "rel_type": "m.replace",
        "event_id": progress["event_id"],
    }
    assert helped["content"]["msgtype"] == "m.notice"
    assert [event.source["content"].get("body") for event in ann.events].count(
        "Deploying shop 1.2 ..."
    ) == 1
    assert pack.returncode == 0, output.decode()
    assert bot.token not in output.decode()
    assert "Traceback" not in output.decode()


async def test_the_check_and_a_wrong_token_are_one_line_and_an_exit_code(
    server: str, bot: Account, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(f"{bot.token}\n")
    by_file = {
        "FLYTE_MATRIX_TOKEN": "",
        "FLYTE_MATRIX_TOKEN_FILE": str(tmp_path / "token"),
        "FLYTE_MATRIX_INVITES": "",
    }
    environ = bot.environ(FLYTE_API=server, FLYTE_PACK_HEALTH_PORT="off", **by_file)
    pack = await run_pack(environ, "--check")
    output, _ = await pack.communicate()
    connected = (
        f"connected to {URL} as {bot.user_id}; it accepts no invitations, as FLYTE_MATRIX_INVITES"
        " is not set"
    )
    assert (pack.returncode, output.decode()) == (
        0,
        f"Flyte: there is a server at {server}\nMatrix: {connected}\n",
    )
    pack = await run_pack(bot.environ(FLYTE_API=server, FLYTE_MATRIX_HOMESERVER=server), "--check")
    output, _ = await pack.communicate()
    assert pack.returncode == 1
    assert "Matrix: 127.0.0.1 does not respond like a homeserver (HTTP 404)\n" in output.decode()
    pack = await run_pack(
        bot.environ(FLYTE_API=server, FLYTE_PACK_HEALTH_PORT="off", FLYTE_MATRIX_TOKEN="syt_no")
    )
    output, _ = await pack.communicate()
    assert pack.returncode == 1
    assert (
        "Matrix stopped: the homeserver refuses FLYTE_MATRIX_TOKEN: M_UNKNOWN_TOKEN"
        in output.decode().splitlines()[-1]
    )
    assert "Traceback" not in output.decode()
