"""How the Matrix pack calls a homeserver in bad weather, with something on the loopback that
stands in for one.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flyteops.errors import FlyteError, ForbiddenError, InputError, UnavailableError
from flyteops.packs.matrix.api import MatrixApi
from flyteops.packs.matrix.settings import Account
from tests.certificate import Certificate, server_context
from tests.web import Answer, Asked, Web, web

SENT = {"event_id": "$1"}


def answer(status: int = 200, **body: object) -> Answer:
    return Answer(status, {"Content-Type": "application/json"}, msgspec.json.encode(body))


def limited(milliseconds: int) -> Answer:
    return answer(
        429, errcode="M_LIMIT_EXCEEDED", error="Too Many Requests", retry_after_ms=milliseconds
    )


class Homeserver:
    """Answers one call after the other as it is told; `pauses` are those that the pack made in
    between.
    """

    def __init__(self, *answers: Answer | None) -> None:
        self.pauses: list[float] = []
        self._answers = iter(answers)

    def reply(self, _: Asked) -> Answer | None:
        return next(self._answers)

    def api(self, server: Web, **account: Any) -> MatrixApi:
        async def pause(seconds: float) -> None:
            self.pauses.append(seconds)

        given = {"token": "syt_secret"} | account
        return MatrixApi(Account(homeserver=server.url(""), **given), "FLYTE", pause)


async def send(*answers: Answer | None) -> tuple[Homeserver, list[str], str]:
    """Send a message; return the homeserver, what it was asked for, and the id of the message or
    what went wrong.
    """
    homeserver = Homeserver(*answers)
    async with web(homeserver.reply) as server:
        try:
            result = await homeserver.api(server).send(
                "!r:flyte.test", "m.room.message", {"body": "hi"}
            )
        except FlyteError as error:
            result = f"{type(error).__name__}: {error}"
    return homeserver, [asked.target for asked in server.asked], result


async def test_who_is_to_wait_waits_as_long_as_was_asked_for_and_sends_the_same_message() -> None:
    homeserver, targets, result = await send(limited(2500), limited(0), answer(**SENT))
    assert result == "$1"
    assert homeserver.pauses[0] == 2.5
    assert len(targets) == 3
    assert len(set(targets)) == 1
    assert targets[0].startswith("/_matrix/client/v3/rooms/%21r%3Aflyte.test/send/m.room.message/")


async def test_the_header_tells_how_long_where_the_answer_does_not() -> None:
    later = answer(429, errcode="M_LIMIT_EXCEEDED")
    later.headers["Retry-After"] = "7"
    homeserver, _, result = await send(later, answer(**SENT))
    assert (homeserver.pauses, result) == ([7.0], "$1")


async def test_a_rate_limit_that_is_too_long_is_an_error_at_once() -> None:
    homeserver, targets, result = await send(limited(61_000))
    assert (homeserver.pauses, len(targets)) == ([], 1)
    assert result == "FlyteError: M_LIMIT_EXCEEDED: Too Many Requests"


async def test_a_message_whose_answer_got_lost_is_sent_again_as_the_same() -> None:
    _, targets, result = await send(None, answer(502, errcode="M_UNKNOWN"), answer(**SENT))
    assert result == "$1"
    assert (len(targets), len(set(targets))) == (3, 1)


@pytest.mark.parametrize(
    ("answers", "result"),
    [
        (
            [Answer(502, {}, b"<html>Bad Gateway</html>")] * 5,
            "127.0.0.1 does not respond like a homeserver (HTTP 502)",
        ),
        (
            [Answer(200, {}, b"<html>Welcome</html>")] * 5,
            "127.0.0.1 does not respond like a homeserver (HTTP 200)",
        ),
        (
            [Answer(302, {"Location": "https://elsewhere.test"})] * 5,
            "127.0.0.1 does not respond like a homeserver (HTTP 302)",
        ),
        ([Answer(404, {}, b"[]")] * 5, "127.0.0.1 does not respond like a homeserver (HTTP 404)"),
        (
            [answer(500, errcode="M_UNKNOWN", error="Internal\nserver  error")] * 5,
            "M_UNKNOWN: Internal server error",
        ),
    ],
)
async def test_what_may_pass_is_tried_five_times(answers: Iterable[Answer], result: str) -> None:
    _, targets, said = await send(*answers)
    assert (len(targets), said) == (5, f"UnavailableError: {result}")


@pytest.mark.parametrize(
    ("status", "word", "kind"),
    [
        (403, "M_FORBIDDEN", ForbiddenError),
        (400, "M_BAD_JSON", InputError),
        (401, "M_X", ForbiddenError),
    ],
)
async def test_what_is_refused_is_not_tried_again(
    status: int, word: str, kind: type[FlyteError]
) -> None:
    _, targets, said = await send(answer(status, errcode=word, error="no " * 1000))
    assert len(targets) == 1
    assert said.startswith(f"{kind.__name__}: ")
    assert word in said
    assert len(said) < 500


async def test_a_certificate_is_trusted_when_its_file_is_named(tmp_path: Path) -> None:
    certificate = Certificate("localhost")
    file = tmp_path / "ca.pem"
    file.write_bytes(certificate.pem)
    homeserver = Homeserver(answer(user_id="@flyte:flyte.test"), answer(displayname="Flyte"))
    async with web(homeserver.reply, server_context(tmp_path, certificate)) as server:
        with pytest.raises(
            UnavailableError, match="presented a certificate that is not trusted: self-signed"
        ):
            await homeserver.api(server).identify()
        identity = await homeserver.api(server, ca_cert_file=file).identify()
    assert (identity.user_id, identity.display_name, identity.server) == (
        "@flyte:flyte.test",
        "Flyte",
        "flyte.test",
    )
    assert server.asked[0].headers["authorization"] == "Bearer syt_secret"


async def test_a_password_that_was_right_once_is_tried_once_for_each_token_that_ends() -> None:
    gone = answer(401, errcode="M_UNKNOWN_TOKEN", error="gone", soft_logout=True)
    homeserver = Homeserver(answer(access_token="one"), gone, answer(access_token="two"), gone)
    async with web(homeserver.reply) as server:
        api = homeserver.api(server, token="", user="flyte", password="horse")
        with pytest.raises(
            ForbiddenError,
            match="the homeserver refuses FLYTE_MATRIX_PASSWORD: M_UNKNOWN_TOKEN: gone",
        ):
            await api.get("account", "whoami")
    assert [asked.target.rpartition("/")[2] for asked in server.asked] == [
        "login",
        "whoami",
        "login",
        "whoami",
    ]
    assert {
        msgspec.json.decode(asked.body)["device_id"]
        for asked in server.asked
        if asked.method == "POST"
    } == {"FLYTE"}
