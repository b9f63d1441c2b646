"""People of a test's own on the homeserver that FLYTE_TEST_MATRIX names; they talk through
another client, matrix-nio.
"""

import asyncio
import hashlib
import hmac
import os
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import nio

URL = os.environ.get("FLYTE_TEST_MATRIX", "")
SERVER = "flyte.test"
PASSWORD = "correct horse"
PATIENCE = 30


@dataclass
class Account:
    """Somebody who is registered."""

    user_id: str
    token: str

    def environ(self, **variables: str) -> dict[str, str]:
        """Return the variables for a pack that is this user."""
        given = {
            "FLYTE_MATRIX_HOMESERVER": URL,
            "FLYTE_MATRIX_TOKEN": self.token,
            "FLYTE_MATRIX_INVITES": SERVER,
        }
        return {name: value for name, value in (given | variables).items() if value}

    async def call(self, method: str, path: str, **body: Any) -> Any:
        """Call the homeserver, and return what it answers."""
        async with httpx2.AsyncClient(
            base_url=URL, headers={"Authorization": f"Bearer {self.token}"}
        ) as http:
            answer = await http.request(method, path, json=body if method != "GET" else None)
        assert answer.is_success, answer.text
        return answer.json()


async def register(name: str, *, admin: bool = False, password: str = PASSWORD) -> Account:
    """Register a user, whose name gets an end that no other has."""
    assert URL, "FLYTE_TEST_MATRIX names no homeserver: .ci/synapse starts one"
    user = f"{name}-{secrets.token_hex(4)}"
    async with httpx2.AsyncClient(base_url=URL) as http:
        nonce = (await http.get("/_synapse/admin/v1/register")).json()["nonce"]
        text = "\0".join([nonce, user, password, "admin" if admin else "notadmin"])
        mac = hmac.new(b"s3cret", text.encode(), hashlib.sha1).hexdigest()
        body = {"nonce": nonce, "username": user, "password": password, "admin": admin, "mac": mac}
        answer = await http.post("/_synapse/admin/v1/register", json=body)
    assert answer.is_success, answer.text
    return Account(answer.json()["user_id"], answer.json()["access_token"])


@dataclass
class Person:
    """Somebody who sits at a client."""

    account: Account
    client: nio.AsyncClient
    events: list[nio.Event] = field(default_factory=list)

    @property
    def id(self) -> str:
        return self.account.user_id

    async def room(
        self, *invited: str, alias: str | None = None, encrypted: bool = False, **options: Any
    ) -> str:
        """Make a room and return its id."""
        state = (
            [{"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}]
            if encrypted
            else []
        )
        made = await self.client.room_create(
            invite=invited, alias=alias, initial_state=state, **options
        )
        assert isinstance(made, nio.RoomCreateResponse), made
        return str(made.room_id)

    async def say(self, room_id: str, text: str, **content: Any) -> str:
        """Say something and return its id."""
        return await self.send(
            room_id,
            "m.room.message",
            msgtype=content.pop("msgtype", "m.text"),
            body=text,
            **content,
        )

    async def react(self, room_id: str, event_id: str, key: str) -> str:
        relation = {"rel_type": "m.annotation", "event_id": event_id, "key": key}
        return await self.send(room_id, "m.reaction", **{"m.relates_to": relation})

    async def send(self, room_id: str, kind: str, **content: Any) -> str:
        sent = await self.client.room_send(room_id, kind, content)
        assert isinstance(sent, nio.RoomSendResponse), sent
        return str(sent.event_id)

    async def hear(self, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until somebody else did something that fits, and return the event as the
        homeserver has it.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self.events:
                    source: dict[str, Any] = event.source
                    if source["sender"] != self.id and fits(source):
                        return source
                answer = await self.client.sync(timeout=5000)
                assert isinstance(answer, nio.SyncResponse), answer

    async def hear_text(self, text: str) -> dict[str, Any]:
        """Wait until somebody else says this, or puts it into the place of something."""
        return await self.hear(
            lambda event: (
                text in (event["content"].get("m.new_content") or event["content"]).get("body", "")
            )
        )


@asynccontextmanager
async def person(name: str) -> AsyncIterator[Person]:
    """Register somebody and let him sit at a client."""
    account = await register(name)
    client = nio.AsyncClient(
        URL, account.user_id, config=nio.AsyncClientConfig(encryption_enabled=False)
    )
    client.access_token, client.user_id = account.token, account.user_id
    somebody = Person(account, client)

    async def note(_: nio.MatrixRoom, event: nio.Event) -> None:
        somebody.events.append(event)

    client.add_event_callback(note, nio.Event)
    try:
        yield somebody
    finally:
        await client.close()
