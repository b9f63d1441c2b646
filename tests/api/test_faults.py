"""When something goes wrong on our side: the status that old clients go by, and no word about
the inside.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import pytest

from flyteops import errors
from flyteops.errors import BusyError, FlyteError, OutcomeUnknownError, Problem, UnavailableError
from flyteops.service import Service
from flyteops.storage.sqlite import SqliteStore
from flyteops.storage.sqlite.schema import BUSY_TIMEOUT
from flyteops.web.api.problem import STATUS, response_to
from flyteops.web.app import create_app


class Faulty(SqliteStore):
    """A real store whose verbs can be made to fail."""

    fault: Exception | None = None

    def _fail(self, *_: Any, **__: Any) -> NoReturn:
        assert self.fault is not None
        raise self.fault

    def __getattribute__(self, name: str) -> Any:
        if (
            name in ("ping", "record", "claim", "list_events")
            and object.__getattribute__(self, "fault") is not None
        ):
            return object.__getattribute__(self, "_fail")
        return object.__getattribute__(self, name)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Faulty]:
    async with Faulty(tmp_path / "flyte.db") as store:
        yield store


@pytest.fixture
async def faulty(store: Faulty) -> AsyncIterator[httpx2.AsyncClient]:
    service = Service(store)
    await service.start()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(service)), base_url="http://flyte.test"
    ) as api:
        assert (await api.post("/v1/packs", json={"name": "P"})).status_code == 201
        yield api


async def test_health_fails_when_the_store_does_not_answer(
    faulty: httpx2.AsyncClient, store: Faulty
) -> None:
    store.fault = UnavailableError("The disk is full.")
    answer = await faulty.get("/health")
    assert (answer.status_code, answer.content) == (500, b"")
    store.fault = None
    assert (await faulty.get("/health")).status_code == 200


@pytest.mark.slow
async def test_health_does_not_wait_for_a_store_that_somebody_else_holds(
    faulty: httpx2.AsyncClient, store: Faulty
) -> None:
    with contextlib.closing(sqlite3.connect(store.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        async with asyncio.timeout(BUSY_TIMEOUT):
            assert (await faulty.get("/health")).status_code == 500
            assert (await faulty.get("/health/ready")).status_code == 503
        other.rollback()
    assert (await faulty.get("/health")).status_code == 200


async def test_a_store_that_is_away_is_an_invitation_to_try_again(
    faulty: httpx2.AsyncClient, store: Faulty
) -> None:
    store.fault = UnavailableError()
    answer = await faulty.post("/v1/packs/P/events", json={"event": "E"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert (await faulty.post("/v1/packs/P/actions/take")).status_code == 503


async def test_an_unknown_outcome_is_not_called_a_refusal_and_is_repeated_with_the_same_key(
    faulty: httpx2.AsyncClient, store: Faulty
) -> None:
    store.fault = OutcomeUnknownError()
    answer = await faulty.post(
        "/v1/packs/P/events", json={"event": "E"}, headers={"Idempotency-Key": "one"}
    )
    assert (answer.status_code, answer.json()["code"]) == (503, "outcome-unknown")
    assert answer.headers["retry-after"].isdigit()
    assert "unknown whether the change was made" in answer.json()["detail"]
    assert "nothing was changed" not in answer.text
    store.fault = None
    assert (
        await faulty.post(
            "/v1/packs/P/events", json={"event": "E"}, headers={"Idempotency-Key": "one"}
        )
    ).status_code == 202


async def test_a_busy_server_says_when_to_try_again(
    faulty: httpx2.AsyncClient, store: Faulty
) -> None:
    store.fault = BusyError()
    answer = await faulty.post("/v1/packs/P/events", json={"event": "E"})
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (
        503,
        "busy",
        "1",
    )


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("secret /path"),
        KeyError("secret"),
        RecursionError("secret"),
        errors.StoreError("secret"),
    ],
)
async def test_an_unforeseen_fault_is_logged_once_and_not_told(
    faulty: httpx2.AsyncClient, store: Faulty, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    store.fault = fault
    answer = await faulty.post("/v1/packs/P/events", json={"event": "E"})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is fault


def every_error(kind: type[FlyteError] = FlyteError) -> list[type[FlyteError]]:
    return [
        kind,
        *(
            found
            for child in kind.__subclasses__()
            if child.__module__ == errors.__name__
            for found in every_error(child)
        ),
    ]


@pytest.mark.parametrize("kind", every_error())
def test_every_error_has_a_status_and_tells_its_code(kind: type[FlyteError]) -> None:
    reply = response_to(
        kind("words", problems=[Problem("a", "b")])
        if not issubclass(kind, errors.TemplateError)
        else kind("words")
    )
    expected = next(STATUS[base] for base in kind.__mro__ if base in STATUS)
    assert reply.status == expected
    assert isinstance(reply.value, bytes)
    assert (f'"code":"{kind.code}"'.encode() in reply.value) == (expected != 500)
    assert (b"words" in reply.value) == (expected != 500)
