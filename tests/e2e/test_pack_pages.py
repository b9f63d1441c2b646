"""The flows on the pages of packs do what the pages say, with a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flyteops.packs import email, http
from flyteops.packs.chat import Room, pack_for
from flyteops.sdk import Environment, Pack
from tests.docs.blocks import blocks_of
from tests.imap import PASSWORD, post, write_certificate
from tests.smtp import mail_server

PAGES = Path(__file__).parents[2] / "docs" / "reference" / "packs"

pytestmark = pytest.mark.slow


def flow_of(page: str, number: int = 0) -> str:
    return [block.text for block in blocks_of(PAGES / page) if block.language == "yaml"][number]


@asynccontextmanager
async def running(server: str, flow: str, *packs: Pack) -> AsyncIterator[None]:
    """Upload a flow, and run packs until the end of the block; they have registered when it
    begins.
    """
    stop, environment = asyncio.Event(), Environment(api=server, health_port=None)
    async with httpx2.AsyncClient(base_url=server) as client:
        answer = await client.post(
            "/v1/flows", content=flow, headers={"Content-Type": "application/x-yaml"}
        )
        assert answer.status_code == 201, answer.text
        serving = [asyncio.create_task(pack.serve(environment, stop=stop)) for pack in packs]
        registered = 0
        while registered < len(packs):
            await asyncio.sleep(0.05)
            registered = len((await client.get("/v1/packs")).json()["packs"])
    yield
    stop.set()
    await asyncio.gather(*serving)


async def answer_to(room: Room, text: str) -> str:
    posted = room.posted()
    await room.say(text)
    return (await anext(posted)).text


async def test_the_flow_of_the_http_page_asks_flyte_itself(server: str) -> None:
    room, flow = Room(), flow_of("http.md").replace("http://127.0.0.1:8080", server)
    pack = http.create(
        {
            "FLYTE_HTTP_ALLOW": server.removeprefix("http://"),
            "FLYTE_HTTP_ALLOW_ADDRESSES": "127.0.0.1",
        }
    )
    async with running(server, flow, pack_for(room), pack):
        assert await answer_to(room, "is it up?") == "200: ready"


async def test_the_flow_of_the_http_page_says_why_there_is_no_answer(server: str) -> None:
    room, flow = Room(), flow_of("http.md").replace("http://127.0.0.1:8080", server)
    async with running(server, flow, pack_for(room), http.create({})):
        answer = await answer_to(room, "is it up?")
    assert (
        answer
        == "No: 127.0.0.1 is not a public address; FLYTE_HTTP_ALLOW_ADDRESSES does not list it"
    )


async def test_the_flow_of_the_email_page_sends_a_mail(server: str) -> None:
    room = Room()
    async with mail_server(answers={"bob@example.com": ["550 no such user"]}) as mails:
        pack = email.create({"SMTPSERVER": mails.place})
        async with running(server, flow_of("email.md"), pack_for(room), pack):
            assert (
                await answer_to(room, "page ann@example.com: the disk is full")
                == "Sent to ann@example.com"
            )
            refused = await answer_to(room, "page bob@example.com: the disk is full")
    assert refused == "Not sent: bob@example.com: 550 no such user"
    assert mails.mails[0].message.get_content() == "page ann@example.com: the disk is full\n"


async def test_the_flow_of_the_how_to_shows_progress_in_one_message(server: str) -> None:
    blocks = blocks_of(PAGES.parents[1] / "howto" / "write-a-pack.md")
    (mover,) = [block.text for block in blocks if block.text.startswith("# mover.py")]
    (flow,) = [block.text for block in blocks if block.text.startswith("name: move")]
    names: dict[str, Any] = {}
    exec(compile(mover.replace("pack.sleep(1)", "pack.sleep(0)"), "mover.py", "exec"), names)
    room, said = Room(), []
    async with running(server, flow, pack_for(room), names["pack"]):
        posted = room.posted()
        await room.say("move")
        while len(said) < 4:
            said.append(await anext(posted))
    assert said[0].text == "Moving"
    assert {message.text for message in said[1:]} == {"1 of 3", "2 of 3", "3 of 3"}
    assert len({message.timestamp for message in said}) == 1


@pytest.mark.servers
async def test_the_flow_of_the_email_page_answers_people_and_no_programs(
    server: str, tmp_path: Path
) -> None:
    async with mail_server() as mails:
        with post() as mailbox:
            settings = {
                "SMTPSERVER": mails.place,
                "FLYTE_EMAIL_IMAP_URL": mailbox.url(),
                "FLYTE_EMAIL_IMAP_PASSWORD": PASSWORD,
                "FLYTE_EMAIL_CA_CERT_FILE": write_certificate(tmp_path),
            }
            async with running(server, flow_of("email.md", 1), email.create(settings)):
                mailbox.deliver(
                    b"From: away@example.com\nAuto-Submitted: auto-replied\nSubject: Away\n\nx\n"
                )
                mailbox.deliver(
                    b"From: Ann <ann@example.com>\nSubject: Help\nMessage-ID:"
                    b" <1@example.com>\n\nx\n"
                )
                await mails.arrived.wait()
    (answer,) = mails.mails
    assert answer.recipients == ["ann@example.com"]
    assert (answer.message["Subject"], answer.message["In-Reply-To"]) == (
        "Re: Help",
        "<1@example.com>",
    )
