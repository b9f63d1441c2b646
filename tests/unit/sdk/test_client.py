"""How the client follows links, tries again and turns refusals into errors."""

import asyncio
import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from flyteops.errors import (
    BusyError,
    ConflictError,
    FlyteError,
    ForbiddenError,
    InputError,
    NotFoundError,
    Problem,
    TooLargeError,
    UnauthorizedError,
    UnavailableError,
)
from flyteops.retry import Backoff
from flyteops.sdk import Event, Pack, fatal
from flyteops.sdk.client import ClaimedAction, Client
from flyteops.sdk.session import Session
from flyteops.sdk.testing import API, FakeServer, ManualClock, PackTester, settle


class Answers(httpx2.AsyncBaseTransport):
    """Give one answer after the other, and keep the requests."""

    def __init__(self, *answers: httpx2.Response | Exception) -> None:
        self.answers = list(answers)
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def client_of(transport: Answers, pauses: list[float] | None = None, **options: Any) -> Client:
    async def pause(seconds: float) -> None:
        (pauses if pauses is not None else []).append(seconds)

    return Client("http://flyte.test/prefix/", transport=transport, pause=pause, **options)


def problem(status: int, body: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InputError),
        (401, UnauthorizedError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, TooLargeError),
        (418, InputError),
        (429, BusyError),
        (408, UnavailableError),
        (500, UnavailableError),
        (503, BusyError),
    ],
)
async def test_a_refusal_raises_the_error_that_says_what_to_do(
    status: int, error: type[FlyteError]
) -> None:
    problems = [{"path": "steps[0].event", "message": "is missing", "line": 3, "column": 5}]
    body = {
        "title": "Bad",
        "detail": "the flow is not valid",
        "code": "invalid-input",
        "problems": problems,
    }
    async with client_of(Answers(problem(status, body))) as client:
        with pytest.raises(error, match="the flow is not valid") as caught:
            await client.request("POST", "/v1/flows", json={"name": "f"})
    assert caught.value.problems == (Problem("steps[0].event", "is missing", 3, 5),)


async def test_a_refusal_without_a_problem_body_shows_its_status() -> None:
    async with client_of(Answers(httpx2.Response(404, text="<html>"))) as client:
        with pytest.raises(NotFoundError, match="404 Not Found; is this the address of") as caught:
            await client.request("GET", "/v1/flows/f")
    assert "GET http://flyte.test/prefix/v1/flows/f: " in str(caught.value)


async def test_a_path_that_flyte_does_not_know_is_reported_with_the_address() -> None:
    body = {"title": "Not found.", "detail": "Unknown path; GET /v1 lists the resources."}
    async with client_of(Answers(problem(404, body))) as client:
        with pytest.raises(NotFoundError, match=r"GET http://flyte\.test/prefix/v1: Unknown path"):
            await client.request("GET", "/v1")


async def test_a_redirect_is_not_followed_but_explained() -> None:
    moved = httpx2.Response(301, headers={"Location": "https://flyte.test/v1"})
    async with client_of(Answers(moved)) as client:
        with pytest.raises(InputError, match=r"redirects to 'https://flyte\.test/v1'"):
            await client.request("GET", "/v1")


async def test_paths_count_from_the_address_and_links_stand_for_themselves() -> None:
    transport = Answers(httpx2.Response(200), httpx2.Response(200))
    async with client_of(transport, token="secret") as client:
        await client.request("GET", "/v1/flows", params={"start": "1"})
        await client.request(
            "PUT", "http://other.test/x", files={"value": ("a.json", b"{}", "application/json")}
        )
    assert [str(request.url) for request in transport.requests] == [
        "http://flyte.test/prefix/v1/flows?start=1",
        "http://other.test/x",
    ]
    assert transport.requests[1].headers["Content-Type"].startswith("multipart/form-data")
    assert {request.headers["Authorization"] for request in transport.requests} == {"Bearer secret"}


@pytest.mark.parametrize(
    "fault",
    [
        httpx2.ConnectError("refused"),
        httpx2.ReadTimeout("slow"),
        httpx2.RemoteProtocolError("closed"),
        httpx2.Response(500),
        httpx2.Response(502),
        httpx2.Response(429),
    ],
)
async def test_what_may_pass_is_tried_again(fault: httpx2.Response | Exception) -> None:
    transport = Answers(fault, fault, httpx2.Response(200, text="ok"))
    async with client_of(transport) as client:
        assert (await client.request("GET", "/v1", attempts=3)).text == "ok"


async def test_a_refusal_is_not_tried_again() -> None:
    transport = Answers(httpx2.Response(400), httpx2.Response(200))
    async with client_of(transport) as client:
        with pytest.raises(InputError):
            await client.request("GET", "/v1", attempts=3)
    assert len(transport.requests) == 1


async def test_the_last_failure_is_raised_when_the_attempts_are_used_up() -> None:
    async with client_of(
        Answers(httpx2.ConnectError("a"), httpx2.ConnectError("refused"))
    ) as client:
        with pytest.raises(UnavailableError, match=r"GET http://flyte\.test/prefix/v1: refused"):
            await client.request("GET", "/v1", attempts=2)


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ConnectionRefusedError(111, "Connect call failed"), "connection refused$"),
        (
            socket.gaierror(-2, "Name or service not known"),
            "the host name cannot be resolved: Name or service not known$",
        ),
        (OSError("lost"), "All connection attempts failed$"),
    ],
)
async def test_a_failed_connection_is_reported_with_its_cause(cause: OSError, reason: str) -> None:
    fault = httpx2.ConnectError("All connection attempts failed")
    fault.__cause__ = cause
    async with client_of(Answers(fault)) as client:
        with pytest.raises(UnavailableError, match=f"/v1: {reason}"):
            await client.request("GET", "/v1", attempts=1)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"http_proxy": "http://ann:secret@proxy.test:3128"}, "proxy proxy.test:3128 of .*HTTP_"),
        ({"all_proxy": "http://proxy.test"}, "proxy proxy.test of the variable ALL_PROXY"),
        ({"http_proxy": "http://proxy.test", "no_proxy": ".test"}, "refused$"),
        ({"https_proxy": "http://proxy.test"}, "refused$"),
    ],
)
async def test_a_failed_connection_through_a_proxy_names_the_proxy(
    variables: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fault = httpx2.ConnectError("All connection attempts failed")
    fault.__cause__ = ConnectionRefusedError(111, "Connect call failed")
    async with client_of(Answers(fault)) as client:
        with pytest.raises(UnavailableError, match=words) as caught:
            await client.request("GET", "/v1", attempts=1)
    assert "secret" not in str(caught.value)


async def test_retry_after_is_honoured_within_bounds() -> None:
    pauses: list[float] = []
    transport = Answers(
        httpx2.Response(503, headers={"Retry-After": "7"}),
        httpx2.Response(429, headers={"Retry-After": "999999"}),
        httpx2.Response(503, headers={"Retry-After": "soon"}),
        httpx2.Response(503, headers={"Retry-After": "Mon, 01 Jan 2001 00:00:00 GMT"}),
        httpx2.Response(200),
    )
    async with client_of(transport, pauses) as client:
        await client.request("GET", "/v1", attempts=None)
    assert pauses[:2] == [7, 300]
    assert all(pause <= 4 for pause in pauses[2:])


def test_pauses_grow_up_to_a_limit_and_are_never_the_same_for_all() -> None:
    backoff = Backoff(first=1, factor=2, limit=10)
    assert [backoff.delay(failures, 1) for failures in (1, 2, 3, 4, 5, 5000)] == [
        1,
        2,
        4,
        8,
        10,
        10,
    ]
    assert backoff.delay(3, 0) == 2


async def test_the_first_link_whose_rel_ends_so_is_followed() -> None:
    links = [
        {"href": "http://flyte.test/prefix/v1", "rel": "self"},
        {"href": "http://flyte.test/old", "rel": "http://x/swagger#!/flow/listFlowsOfOld"},
        {"href": "/prefix/v1/flows", "rel": "http://x/swagger#!/flow/listFlows"},
        {"href": "http://flyte.test/other", "rel": "y/flow/listFlows"},
    ]
    transport = Answers(httpx2.Response(200, json={"links": links}))
    async with client_of(transport) as client:
        assert await client.link("listFlows") == "http://flyte.test/prefix/v1/flows"
        assert await client.link("self") == "http://flyte.test/prefix/v1"
        with pytest.raises(UnavailableError, match="has no link 'pack/listPacks'"):
            await client.link("pack/listPacks")


# ------------------------------------------------------------------------ a pack that meets trouble


def worker(handler: Callable[[], Any] | None = None, **options: Any) -> Pack:
    pack = Pack("Worker", **options)
    done, seen = pack.event("Done"), pack.event("Seen", payload=None)

    @pack.command(events=[done])
    async def work() -> Event:
        return done("well")

    @pack.command(events=[done])
    async def tell() -> Event:
        await pack.send(seen())
        return done("told")

    return pack


DONE = Event("Done", "well")


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == "flyte.pack"]


async def test_a_pack_waits_for_a_server_that_is_not_there_yet(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    tester = PackTester(worker())
    tester.server.disconnect(3)
    tester.server.fail(2, status=502, on="/v1/packs")
    async with tester:
        assert await tester.run("Work") == DONE
    assert len(tester.clock.back_offs) == 5
    assert logged(caplog) == [
        (
            "registration failed: GET http://flyte.test/v1: connection refused; retrying until it"
            " succeeds"
        ),
        "registration works again after 5 failed attempts",
        "Worker is registered at http://flyte.test",
    ]


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "The input is not valid."),
        (401, "A token is required."),
        (403, "This is not allowed."),
    ],
)
async def test_a_pack_that_the_server_refuses_ends_with_the_reason(
    status: int, reason: str
) -> None:
    tester = PackTester(worker())
    tester.server.fail(status=status, on="/v1/packs")
    with pytest.raises(FlyteError, match=reason):
        async with tester:
            raise AssertionError


@pytest.mark.parametrize("status", [401, 500, 503])
async def test_a_take_that_fails_is_tried_again_and_logged_once(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with PackTester(worker()) as tester:
        caplog.clear()
        tester.server.fail(4, status=status, on="/take")
        assert await tester.run("Work") == DONE
    assert [line.split(":")[0] for line in logged(caplog)] == [
        "take failed",
        "take works again after 4 failed attempts",
    ]


@pytest.mark.parametrize("fault", [500, 401, 403, "disconnect", "lost answer"])
async def test_a_result_is_handed_in_until_it_is_accepted(fault: int | str) -> None:
    async with PackTester(worker()) as tester:
        match fault:
            case int():
                tester.server.fail(5, status=fault, on="/result")
            case "disconnect":
                tester.server.disconnect(5, on="/result")
            case _:
                tester.server.lose_answer(5, on="/result")
        tester.server.ask("Work")
        await tester.server.until(
            lambda: sum(call.endswith("/result") for call in tester.server.requests) == 6
        )
        assert list(tester.server.results.values()) == [DONE]


@pytest.mark.parametrize("status", [404, 409])
async def test_a_result_that_nobody_wants_is_dropped_with_a_clear_word(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with PackTester(worker()) as tester:
        # It might be the pack that is unknown, so it registers again.
        tries = 2 if status == 404 else 1
        tester.server.fail(tries, status=status, on="/result")
        tester.server.ask("Work")
        await tester.server.until(
            lambda: sum(call.endswith("/result") for call in tester.server.requests) == tries
        )
        assert await tester.run("Work") == DONE
    assert len(tester.server.results) == 1
    assert any(
        line.startswith("the result of Work was rejected and is dropped") for line in logged(caplog)
    )


async def test_a_result_that_is_too_large_is_replaced_by_fatal() -> None:
    async with PackTester(worker()) as tester:
        tester.server.fail(status=413, on="/result")
        event = await tester.run("Work")
    assert event == fatal("the server refused the result of Work: The input is too large.")


@pytest.mark.parametrize(
    ("limit", "payload"),
    [(200, "the server refused the result of Work: The input is too large."), (90, "")],
)
async def test_a_command_is_answered_however_little_the_server_accepts(
    limit: int, payload: str
) -> None:
    pack = Pack("Worker")
    done = pack.event("Done")

    @pack.command(events=[done])
    async def work() -> Event:
        return done("x" * 1000)

    async with PackTester(pack) as tester:
        tester.server.body_limit = limit
        assert await tester.run("Work") == fatal(payload)


async def test_a_pack_knows_how_much_the_server_accepts() -> None:
    pack = Pack("Worker")
    done = pack.event("Done")

    @pack.command(events=[done])
    async def work() -> Event:
        return done(pack.body_limit())

    for limit in (None, 5000):
        tester = PackTester(pack)
        tester.server.body_limit = limit
        async with tester:
            assert (await tester.run("Work")).payload == limit


async def test_a_pack_that_the_server_lost_registers_again_and_goes_on() -> None:
    async with PackTester(worker()) as tester:
        tester.server.forget_pack()
        assert await tester.run("Work") == DONE
        assert len(tester.server.registrations) == 2


async def test_an_event_of_a_lost_pack_is_sent_after_registering_again() -> None:
    async with PackTester(worker()) as tester:
        tester.server.fail(status=404, on="/events")
        assert await tester.run("Tell") == Event("Done", "told")
        assert tester.sent == [Event("Seen")]
        assert len(tester.server.registrations) == 2


async def test_registering_again_is_tried_until_it_works() -> None:
    async with PackTester(worker()) as tester:
        tester.server.forget_pack()
        tester.server.fail(status=404, on="/v1/packs")
        tester.server.disconnect(2, on="/v1")
        assert await tester.run("Work") == DONE
        assert len(tester.server.registrations) == 2


async def test_an_event_that_the_server_refuses_raises_in_the_pack() -> None:
    async with PackTester(worker()) as tester:
        tester.server.fail(status=400, on="/events")
        assert await tester.run("Tell") == fatal("The input is not valid.")


async def test_a_failure_is_logged_anew_after_the_one_before_was_given_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with PackTester(worker()) as tester:
        for _ in range(2):
            tester.server.fail(status=503, on="/events")
            tester.server.fail(status=400, on="/events")
            await tester.run("Tell")
    assert sum(line.startswith("event failed") for line in logged(caplog)) == 2


async def test_a_pack_that_was_lost_registers_once_however_many_notice_it() -> None:
    pack, gate = Pack("Worker"), asyncio.Event()
    seen = pack.event("Seen", payload=None)

    @pack.command(events=[seen])
    async def look() -> Event:
        await gate.wait()
        await pack.send(seen())
        return seen()

    async with PackTester(pack) as tester:
        for _ in range(3):
            tester.server.ask("Look")
        await tester.advance(0)
        tester.server.forget_pack()
        registering = tester.server.hold(on="/v1")
        gate.set()
        await tester.advance(0)
        registering.set()
        await tester.server.until(lambda: len(tester.server.results) == 3)
        assert len(tester.server.registrations) == 2


async def test_a_pack_stops_at_once_while_the_server_is_away() -> None:
    tester = PackTester(worker(), patience=0)
    release = tester.server.hold(on="/v1")
    with pytest.raises(FlyteError, match="timed out waiting for a registration"):
        await tester.__aenter__()
    await asyncio.wait_for(tester.stop(), timeout=5)
    assert not release.is_set()


async def test_results_that_could_not_be_handed_in_are_an_error_at_the_end() -> None:
    server = FakeServer()
    server.hold(on="/result")
    server.ask("Work")
    async with Client(API, transport=server) as client:
        declaration = worker(stop_timeout=0, health_port=None).declaration()
        session = Session(declaration, client, ManualClock(datetime.now(UTC)), report_timeout=0)
        running = asyncio.create_task(session.run())
        await settle()
        session.stop()
        with pytest.raises(UnavailableError, match="1 results or events could not be delivered"):
            await running


async def test_a_result_on_its_way_outlives_the_deadline_of_the_commands() -> None:
    async with PackTester(worker(stop_timeout=0)) as tester:
        release = tester.server.hold(on="/result")
        tester.server.ask("Work")
        await tester.advance(0)
        stopping = asyncio.create_task(tester.stop())
        await tester.advance(0)
        release.set()
        await stopping
        assert list(tester.server.results.values()) == [DONE]


RESULT = "http://flyte.test/v1/packs/P/actions/1/result?lease=2-x"


async def test_the_answer_to_a_result_may_hold_further_actions() -> None:
    links = [{"rel": "http://flyte.test/swagger#/actionResult", "href": "/v1/2"}]
    body = {"actions": [{"command": "C", "input": [1], "links": links}]}
    transport = Answers(httpx2.Response(200, json=body), httpx2.Response(202))
    action = ClaimedAction("C", result_url=RESULT, return_url="http://flyte.test/v1/return")
    async with client_of(transport) as client:
        (following,) = await client.complete(action, b"{}", take=1)
        assert following.result_url == "http://flyte.test/v1/2"
        assert await client.complete(action, b"{}", take=1) == []
    assert [str(each.url) for each in transport.requests] == [f"{RESULT}&take=1"] * 2


async def test_a_server_that_takes_no_action_back_is_not_asked_for_one_with_a_result() -> None:
    """It is an older one."""
    transport = Answers(httpx2.Response(202))
    async with client_of(transport) as client:
        assert await client.complete(ClaimedAction("C", result_url=RESULT), b"{}", take=1) == []
    assert [str(each.url) for each in transport.requests] == [RESULT]
