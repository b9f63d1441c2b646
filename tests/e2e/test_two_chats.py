"""Two chats of one name on one server: each has its own answers, and nobody else's."""

import asyncio
import contextlib

import click
import httpx2
import pytest

from flyteops.cli.chat import joined
from flyteops.cli.dev.answer import follow
from flyteops.packs.chat import Room, User

ECHO = """
name: echo
steps:
  - id: answer
    event: {packName: Chat, name: ReceivedMessage}
    command:
      packName: Chat
      name: SendMessage
      input:
        channelId: "{{ Event.Payload.channelId }}"
        message: "echo {{ Event.Payload.message }}"
  - id: change
    dependsOn: [answer]
    event: {packName: Chat, name: MessageSent}
    command:
      packName: Chat
      name: UpdateMessage
      input:
        channelId: "{{ Event.Payload.channelId }}"
        timestamp: "{{ Event.Payload.timestamp }}"
        message: "{{ Event.Payload.message }}!"
  - id: enrich
    dependsOn: [change]
    event: {packName: Chat, name: MessageUpdated}
    command:
      packName: Chat
      name: SendRichMessage
      input: {channel: "{{ Event.Payload.channelId }}", text: "rich {{ Event.Payload.message }}"}
"""
WORDS = 6


def answers(room: Room) -> set[str]:
    return {message.text for message in room.messages if message.user.id == room.bot.id}


@pytest.mark.slow
async def test_each_of_two_chats_shows_the_answers_to_its_own_words(server: str) -> None:
    with click.Context(click.Command("chat")) as context:
        context.meta["url"] = server
        await talk(server)


async def talk(server: str) -> None:
    async with httpx2.AsyncClient(base_url=server) as http:
        answer = await http.post(
            "/v1/flows", content=ECHO, headers={"Content-Type": "application/x-yaml"}
        )
        assert answer.status_code == 201, answer.text
    stop = asyncio.Event()
    ann, bob = Room(user=User.named("ann")), Room(user=User.named("bob"))
    async with (
        joined(ann, {"PACK_NAME": "Chat"}, stop) as pack,
        joined(bob, {"PACK_NAME": "Chat"}, stop),
    ):
        said = {
            room.user.name: [await room.say(f"{room.user.name} {n}") for n in range(WORDS)]
            for room in (ann, bob)
        }
        following = [
            asyncio.create_task(follow(room, pack, said[room.user.name])) for room in (ann, bob)
        ]
        expected = {
            room.user.name: {
                f"{rich}echo {room.user.name} {n}!" for n in range(WORDS) for rich in ("", "rich ")
            }
            for room in (ann, bob)
        }
        async with asyncio.timeout(30):
            for room in (ann, bob):
                posted = room.posted()
                while not expected[room.user.name] <= answers(room):
                    await anext(posted)
        assert (answers(ann), answers(bob)) == (expected["ann"], expected["bob"])
        for task in following:
            task.cancel()
        shown = [message.text for message in ann.messages if message.text in expected["ann"]]
        assert len(shown) == len(set(shown))


TO_THE_FIRST = """
name: first
steps:
  - id: tell
    event: {packName: Chat, name: ReceivedMessage}
    command: {packName: Chat, name: SendMessage, input: {channelId: "%s", message: for the first}}
"""


@pytest.mark.slow
async def test_what_is_for_a_chat_that_has_left_is_shown_by_the_one_that_stays(server: str) -> None:
    with click.Context(click.Command("chat")) as context:
        context.meta["url"] = server
        ann, bob = Room(user=User.named("ann")), Room(user=User.named("bob"))
        flow = TO_THE_FIRST % ann.channel("general").id
        async with httpx2.AsyncClient(base_url=server) as http:
            answer = await http.post(
                "/v1/flows", content=flow, headers={"Content-Type": "application/x-yaml"}
            )
            assert answer.status_code == 201, answer.text
        async with contextlib.AsyncExitStack() as both:
            leaving = await both.enter_async_context(contextlib.AsyncExitStack())
            await leaving.enter_async_context(joined(ann, {"PACK_NAME": "Chat"}, asyncio.Event()))
            await ann.say("hello")
            await both.enter_async_context(joined(bob, {"PACK_NAME": "Chat"}, asyncio.Event()))
            posted = bob.posted()
            await bob.say("for ann")
            await leaving.aclose()
            await bob.say("for nobody")
            async with asyncio.timeout(30):
                assert (await anext(posted)).text == "for the first"
        assert bob.channel("general").id != ann.channel("general").id
