"""The token that a pack shows, and one that is renewed while it runs."""

import logging
import os
from pathlib import Path

import pytest

from flyteops.errors import SettingsError, UnauthorizedError
from flyteops.sdk import Environment, Event, Pack
from flyteops.sdk.client import Client
from flyteops.sdk.testing import API, FakeServer, PackTester
from flyteops.sdk.token import TokenSource

DONE = Event("Done")


def worker() -> Pack:
    pack = Pack("Worker")
    done, seen = pack.event("Done", payload=None), pack.event("Seen", payload=None)

    @pack.command(events=[done])
    async def work() -> Event:
        return done()

    @pack.command(events=[done])
    async def tell() -> Event:
        await pack.send(seen())
        return done()

    return pack


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("first\n")
    return path


def renew(file: Path) -> None:
    file.write_text("second\n")


def read(file: Path, **others: str) -> Environment:
    return Environment.read({"FLYTE_API": API, "FLYTE_JWT_FILE": str(file), **others})


def test_the_token_stands_in_a_file(file: Path) -> None:
    environment = read(file)
    assert (environment.token, environment.token_file) == ("first", file)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read '{}': No such file or directory"),
        (b"", "is empty; expected a token"),
        (b"\n \n", "is empty; expected a token"),
        (b"two words", "is not a token: it contains characters that a token cannot have"),
        (b"\xff\xfe", "'{}' is not text"),
    ],
)
def test_a_file_without_a_token_is_reported_at_the_start(
    file: Path, content: bytes | None, problem: str
) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read(file)
    assert [str(each) for each in caught.value.problems] == [
        f"FLYTE_JWT_FILE: {problem.format(file)}"
    ]


def test_a_token_and_a_file_for_it_contradict_each_other(file: Path) -> None:
    with pytest.raises(SettingsError, match="FLYTE_JWT is set as well"):
        read(file, FLYTE_JWT="other")


def test_a_token_in_a_file_is_read_again_when_it_changes(file: Path) -> None:
    token = TokenSource("first", file)
    assert token.value == "first"
    file.write_text("second token!".replace(" ", "-"))
    assert token.value == "second-token!"


def test_a_token_behind_a_link_is_read_again_when_the_link_leads_elsewhere(
    file: Path, tmp_path: Path
) -> None:
    (tmp_path / "next").write_text("third\n")
    link = tmp_path / "link"
    link.symlink_to(file)
    token = TokenSource("first", link)
    assert token.value == "first"
    (tmp_path / "new").symlink_to(tmp_path / "next")
    (tmp_path / "new").rename(link)
    assert token.value == "third"


def test_a_file_that_looks_as_before_is_read_again_when_its_token_is_refused(file: Path) -> None:
    token = TokenSource("first", file)
    before = (token.value, file.stat())
    file.write_text("other\n")
    os.utime(file, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
    assert token.value == "first"
    assert token.replaces("first")
    assert token.value == "other"
    assert not token.replaces("other")


def test_a_file_that_is_away_for_a_while_does_not_take_the_token_away(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token = TokenSource("first", file)
    file.unlink()
    assert [token.value, token.value] == ["first", "first"]
    file.write_text("\n")
    assert token.value == "first"
    file.write_text("second\n")
    assert token.value == "second"
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        f"cannot read {str(file)!r}: No such file or directory; keeping the previous token",
        f"{str(file)!r} is empty; expected a token; keeping the previous token",
        "the token is readable again",
    ]


async def test_a_request_is_repeated_at_once_with_the_token_that_came_meanwhile(file: Path) -> None:
    server = FakeServer(token="second")
    server.data["word"] = 1
    async with Client(API, token="first", token_file=file, transport=server) as client:
        with pytest.raises(UnauthorizedError):
            await client.request("GET", "/v1/datastore/word")
        renew(file)
        assert (await client.request("GET", "/v1/datastore/word")).json() == 1
    assert server.authorizations == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("path", ["/result", "/events"])
async def test_a_refused_token_is_tried_again_until_another_one_is_there(
    file: Path, path: str
) -> None:
    async with PackTester(worker(), environment=read(file)) as tester:
        action_id = tester.server.ask("Tell")
        tester.server.fail(3, status=401, on=path)
        await tester.server.until(lambda: action_id in tester.server.results)
        assert tester.server.results[action_id] == DONE
        assert [event.name for event in tester.sent] == ["Seen"]
        assert sum(call.endswith(path) for call in tester.server.requests) == 4


async def test_health_says_that_the_token_is_refused() -> None:
    reasons: list[str] = []
    async with PackTester(worker()) as tester:
        health = tester.health

        async def back_off(seconds: float) -> None:
            reasons.extend((await health()).values())

        tester.clock.back_off = back_off  # type: ignore[method-assign]
        tester.server.fail(2, status=401, on="/result")
        assert await tester.run("Work") == DONE
        assert await health() == {}
    assert (
        reasons == ["result failed: the server does not accept the token: A token is required."] * 2
    )


def test_a_pack_without_a_token_shows_none() -> None:
    assert TokenSource(None).value is None
    assert not TokenSource(None).replaces(None)
