"""What the Http pack asks and answers, against servers with real sockets."""

import asyncio
import gzip
import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flyteops.errors import FlyteError, ForbiddenError, SettingsError
from flyteops.packs import http
from flyteops.sdk import Event
from flyteops.sdk.testing import PackTester
from tests.certificate import Certificate, server_context
from tests.web import Answer, Asked, web

HERE = {"FLYTE_HTTP_ALLOW_ADDRESSES": "127.0.0.0/8,::1"}


async def ask(url: str, environ: dict[str, str] | None = None, **command_input: Any) -> Event:
    async with PackTester(http.create(HERE if environ is None else environ)) as tester:
        return await tester.run("Request", {"url": url, **command_input})


def always(answer: Answer) -> Callable[[Asked], Answer]:
    return lambda _: answer


def in_turn(*answers: Answer | None) -> Callable[[Asked], Answer | None]:
    left = list(answers)
    return lambda _: left.pop(0)


def failed(error: str, url: str = "", attempts: int = 1) -> Event:
    return Event("RequestFailed", {"error": error, "url": url, "attempts": attempts})


JSON = {"Content-Type": "application/json"}


# ---------------------------------------------------------------------------------- asking, answers


async def test_an_answer_comes_with_status_headers_and_its_json_read() -> None:
    async with web(always(Answer(201, {**JSON, "X-Id": "7"}, b'{"a": [1, null]}'))) as server:
        event = await ask(
            server.url("/things?x=1"),
            method="post",
            json={"name": "tea"},
            query={"y": [1, True], "z": None},
        )
    assert event.name == "Response"
    assert event.payload["status"] == 201
    assert event.payload["headers"]["x-id"] == "7"
    assert (event.payload["bodyType"], event.payload["body"]) == ("json", {"a": [1, None]})
    assert event.payload["url"] == server.url("/things?x=1&y=1&y=true")
    assert event.payload["elapsed"] >= 0
    (asked,) = server.asked
    assert (asked.method, asked.target, asked.body) == (
        "POST",
        "/things?x=1&y=1&y=true",
        b'{"name":"tea"}',
    )
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        (
            {"form": {"a": "1 2", "b": [True, 2]}},
            "application/x-www-form-urlencoded",
            b"a=1+2&b=true&b=2",
        ),
        ({"text": "Grüße"}, "text/plain; charset=utf-8", "Grüße".encode()),
        (
            {"text": "<a/>", "headers": {"content-type": "application/xml"}},
            "application/xml",
            b"<a/>",
        ),
        ({"json": None}, "application/json", b"null"),
        ({}, None, b""),
    ],
)
async def test_each_kind_of_body_is_sent_as_what_it_is(
    body: dict[str, Any], content_type: str | None, sent: bytes
) -> None:
    async with web(always(Answer())) as server:
        await ask(server.url(), method="PUT", **body)
    assert server.asked[0].headers.get("content-type") == content_type
    assert server.asked[0].body == sent


@pytest.mark.parametrize(
    ("content_type", "content", "body_type", "body"),
    [
        ("application/problem+json; charset=utf-8", b'{"a":1}', "json", {"a": 1}),
        ("application/json", b"{oops", "text", "{oops"),
        ("application/json", b"[" * 100_000, "text", "[" * 100_000),
        ("application/json", b"", "text", ""),
        ("text/plain; charset=latin-1", b"Gr\xfc\xdfe", "text", "Grüße"),
        ("text/html; charset=no-such", b"\xff", "text", "�"),
        ("text/plain; charset=hex", b"zz", "text", "zz"),
        ("text/plain; charset=idna", b"\xff", "text", "�"),
        ("application/x; charset=rot13", "ä".encode(), "text", "ä"),
        ("text/plain; charset=utf-7", b"+2AA-", "text", "+2AA-"),
        ("text/plain; charset=unicode_escape", b"\\ud800", "text", "\\ud800"),
        ("application/xml", "<ä/>".encode(), "text", "<ä/>"),
        ("application/octet-stream", b"\x89PNG\x00\xff", "base64", "iVBORwD/"),
        ("", b"\xff\xfe", "base64", "//4="),
        ("a\xff; charset", b"x", "text", "x"),
    ],
)
async def test_a_body_is_json_text_or_base64(
    content_type: str, content: bytes, body_type: str, body: Any
) -> None:
    async with web(
        always(Answer(200, {"Content-Type": content_type.encode("latin-1")}, content))
    ) as server:  # type: ignore[dict-item]
        event = await ask(server.url())
    assert (event.payload["bodyType"], event.payload["body"]) == (body_type, body)


async def test_an_error_status_is_an_answer_like_any_other() -> None:
    async with web(always(Answer(404, {}, b"no"))) as server:
        event = await ask(server.url())
    assert (event.name, event.payload["status"], event.payload["body"]) == ("Response", 404, "no")


@pytest.mark.parametrize(
    ("auth", "header"),
    [
        ({"username": "ann", "password": "s3cret"}, "Basic YW5uOnMzY3JldA=="),
        ({"bearer": "t0ken"}, "Bearer t0ken"),
    ],
)
async def test_who_asks_is_told_to_the_server_and_to_nobody_else(
    auth: dict[str, str], header: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with web(in_turn(Answer(503), Answer(200))) as server:
        event = await ask(server.url(), auth=auth)
    assert [asked.headers["authorization"] for asked in server.asked] == [header, header]
    for secret in ("s3cret", "t0ken", header):
        assert secret not in caplog.text
        assert secret not in json.dumps(event.payload)


# ------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"hedders": {}}, "Object contains unknown field `hedders`"),
        ({"retries": 11}, "retries: must be a whole number <= 10"),
        ({"json": 1, "text": "x"}, "give one body: json, form or text"),
        ({"method": "GET /x"}, "'GET /x' is not a method such as GET or POST"),
        ({"method": "CONNECT"}, "'CONNECT' is not a method such as GET or POST"),
        ({"timeout": "soon"}, "'soon' is not a duration such as 30s, 5m or 1h30m"),
        ({"timeout": 0}, "a timeout of 0 s must be more than 0 and at most a day"),
        (
            {"auth": {"bearer": "x", "username": "y"}},
            "auth: give either bearer, or username and password",
        ),
    ],
)
async def test_an_input_that_does_not_fit_is_fatal_and_says_why(
    wrong: dict[str, Any], why: str
) -> None:
    event = await ask("http://localhost/", **wrong)
    assert event == Event("FATAL", f"the input of Request is not valid: {why}")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://a/", "'ftp://a/' is not a url such as https://api.example.com/things"),
        ("/things", "'/things' is not a url such as https://api.example.com/things"),
        ("http:///things", "'http:///things' is not a url such as https://api.example.com/things"),
        (
            "http://a\n.b/",
            (
                "the url is not valid: Invalid non-printable ASCII character in URL, '\\n' at"
                " position 8."
            ),
        ),
        ("http://0177.0.0.1/", "the url is not valid: Invalid IPv4 address: '0177.0.0.1'"),
        ("http://ann:s3cret@a/", "the url contains a user name or password; use auth instead"),
    ],
)
async def test_what_is_no_url_is_told(url: str, why: str) -> None:
    assert await ask(url) == failed(why, attempts=0)


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"X-A": "1\r\nX-B: 2"}, "the header 'X-A' holds characters that no header may hold"),
        ({"X A": "1"}, "the header 'X A' holds characters that no header may hold"),
        ({"X-A": "☃"}, "the header 'X-A' holds characters that no header may hold"),
        ({"Host": "other.example"}, "the header Host cannot be set; it follows from the rest"),
    ],
)
async def test_headers_cannot_smuggle_anything(headers: dict[str, str], why: str) -> None:
    assert await ask("http://127.0.0.1/", headers=headers) == failed(why, attempts=0)


async def test_a_bearer_token_cannot_smuggle_a_header() -> None:
    event = await ask("http://127.0.0.1/", auth={"bearer": "x\r\nX-B: 2"})
    assert event == failed(
        "the header 'Authorization' holds characters that no header may hold", attempts=0
    )


def test_wrong_settings_are_told_all_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        http.create({
            "FLYTE_HTTP_ALLOW": "https://a.example/",
            "FLYTE_HTTP_ALLOW_ADDRESSES": "10.0.0.1/8",
            "FLYTE_HTTP_TIMEOUT": "0",
            "FLYTE_HTTP_BODY_LIMIT": "1 MB",
            "FLYTE_HTTP_CA_CERT_FILE": "/no/such.pem",
            "FLYTE_HTTP_PROXY": "proxy:3128",
        })  # fmt: skip
    assert [str(problem) for problem in caught.value.problems] == [
        (
            "FLYTE_HTTP_ALLOW: 'https://a.example/' is not a host such as api.example.com,"
            " *.example.com or localhost:9200"
        ),
        (
            "FLYTE_HTTP_ALLOW_ADDRESSES: 10.0.0.1/8 has host bits set; give addresses and networks"
            " such as 127.0.0.1,10.0.0.0/8"
        ),
        "FLYTE_HTTP_TIMEOUT: '0' is not longer than zero",
        "FLYTE_HTTP_BODY_LIMIT: '1 MB' is not a number of bytes",
        (
            "FLYTE_HTTP_CA_CERT_FILE: cannot read certificates from '/no/such.pem': No such file or"
            " directory"
        ),
        "FLYTE_HTTP_PROXY: 'proxy:3128' is not an address such as http://localhost:8080",
    ]


# ------------------------------------------------------------------------------------- trying again


async def test_what_may_pass_is_tried_again_and_the_server_says_how_long_to_wait() -> None:
    answers = in_turn(
        Answer(503), None, Answer(429, {"Retry-After": "7"}), Answer(200, {}, b"at last")
    )
    async with web(answers) as server, PackTester(http.create(HERE)) as tester:
        event = await tester.run("Request", {"url": server.url(), "retries": 3})
        waited = tester.clock.back_offs
    assert event.payload["body"] == "at last"
    assert len(server.asked) == 4
    assert 0.25 <= waited[0] <= 0.5
    assert 0.5 <= waited[1] <= 1
    assert waited[2] == 7


async def test_when_it_does_not_pass_the_last_answer_is_the_answer() -> None:
    async with web(always(Answer(502, {}, b"bad"))) as server:
        event = await ask(server.url(), retries=1)
    assert (event.payload["status"], event.payload["body"], len(server.asked)) == (502, "bad", 2)


async def test_who_is_told_to_come_back_in_an_hour_does_not_wait() -> None:
    async with web(always(Answer(503, {"Retry-After": "3600"}))) as server:
        event = await ask(server.url())
    assert (event.payload["status"], len(server.asked)) == (503, 1)


async def test_what_must_not_be_done_twice_is_asked_once() -> None:
    async with web(in_turn(None, Answer(503))) as server:
        assert await ask(server.url(), method="POST") == failed(
            "Server disconnected without sending a response.", server.url(), 1
        )
        event = await ask(server.url(), method="POST")
    assert (event.payload["status"], len(server.asked)) == (503, 2)


async def test_a_post_with_an_idempotency_key_may_be_repeated() -> None:
    async with web(in_turn(None, Answer(200))) as server:
        event = await ask(server.url(), method="POST", headers={"Idempotency-Key": "k1"})
    assert event.payload["status"] == 200
    assert [asked.headers["idempotency-key"] for asked in server.asked] == ["k1", "k1"]


async def test_a_post_that_found_nobody_was_not_heard_and_is_tried_again() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/"
        assert await ask(url, method="POST") == failed("All connection attempts failed", url, 3)


async def test_a_server_that_never_ends_its_answer_is_left() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await ask(url, timeout="100ms", retries=0) == failed(
            "no complete response within 0.1 s", url
        )


async def test_a_name_that_nobody_has_is_told() -> None:
    event = await ask("http://no.such.name.invalid/", retries=0)
    assert event.name == "RequestFailed"
    assert event.payload["error"].startswith("no.such.name.invalid cannot be resolved: ")


# ------------------------------------------------------------------------------------------- bounds


async def test_an_answer_that_is_too_large_is_not_taken() -> None:
    async with web(always(Answer(200, {}, b"x" * 1001))) as server:
        event = await ask(server.url(), {**HERE, "FLYTE_HTTP_BODY_LIMIT": "1000"})
    assert event == failed(
        "the answer 200 holds more than the 1000 bytes of FLYTE_HTTP_BODY_LIMIT", server.url()
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x" * 2000, "the answer 200 holds more than the 1488 bytes of FLYTE_HTTP_BODY_LIMIT"),
        (b"\0" * 1000, "the answer 200 is too large: it takes "),
    ],
)
async def test_an_answer_is_no_larger_than_the_server_accepts(content: bytes, reason: str) -> None:
    async with web(always(Answer(200, {"Content-Type": "text/plain"}, content))) as server:
        tester = PackTester(http.create(HERE))
        tester.server.body_limit = 4000
        async with tester:
            event = await tester.run("Request", {"url": server.url()})
            assert tester.server.failed == set(tester.server.results)
    assert event.name == "RequestFailed"
    assert event.payload["error"].startswith(reason)


async def test_an_answer_is_measured_as_it_is_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 50_000_000)
    async with web(always(Answer(200, {"Content-Encoding": "gzip"}, bomb))) as server:
        event = await ask(server.url())
    assert event == failed(
        "the answer 200 holds more than the 1048576 bytes of FLYTE_HTTP_BODY_LIMIT", server.url()
    )


# ---------------------------------------------------------------------------------------- redirects


async def test_redirects_are_followed_to_where_they_end() -> None:
    answers = in_turn(
        Answer(302, {"Location": "/b"}),
        Answer(307, {"Location": "c?x=1"}),
        Answer(200, {}, b"here"),
    )
    async with web(answers) as server:
        event = await ask(server.url("/a"), method="POST", text="x")
    assert (event.payload["body"], event.payload["url"]) == ("here", server.url("/c?x=1"))
    assert [(asked.method, asked.target, asked.body) for asked in server.asked] == [
        ("POST", "/a", b"x"),
        ("GET", "/b", b""),
        ("GET", "/c?x=1", b""),
    ]


async def test_redirects_come_to_an_end() -> None:
    async with web(always(Answer(302, {"Location": "/"}))) as server:
        assert await ask(server.url(), max_redirects=2) == Event(
            "FATAL",
            "the input of Request is not valid: Object contains unknown field `max_redirects`",
        )
        assert await ask(server.url(), maxRedirects=2) == failed(
            "there were more than 2 redirects", server.url()
        )
        assert len(server.asked) == 3
        event = await ask(server.url(), maxRedirects=0)
    assert (event.payload["status"], event.payload["headers"]["location"]) == (302, "/")


async def test_another_host_gets_no_credentials_in_whatever_header_they_are() -> None:
    async with web(in_turn(Answer(200, {}, b"other"))) as other:
        to_other = Answer(
            307,
            {
                "Location": other.url("/b").replace("://", "://who:knows@"),
                "Set-Cookie": "session=1",
            },
        )
        async with web(
            in_turn(Answer(307, {"Location": "/own", "Set-Cookie": "session=1"}), to_other)
        ) as first:
            event = await ask(
                first.url("/", "localhost"),
                method="POST",
                json={},
                auth={"bearer": "t0ken"},
                headers={"X-Api-Key": "k3y"},
            )
    assert (event.payload["body"], event.payload["url"]) == ("other", other.url("/b"))
    assert {"authorization", "x-api-key", "cookie"} <= set(first.asked[1].headers)
    assert set(other.asked[0].headers) == {
        "host",
        "content-type",
        "content-length",
        "user-agent",
        "accept",
        "accept-encoding",
    }
    assert other.asked[0].headers["host"] == f"127.0.0.1:{other.port}"


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/", "http://", "http://[oops/", "file:///etc/passwd"]
)
async def test_a_redirect_to_nowhere_is_a_failure(target: str) -> None:
    answer = Answer(302, {"Location": target.encode("utf-8", "surrogatepass")})  # type: ignore[dict-item]
    async with web(always(answer)) as server:
        event = await ask(server.url(), retries=0)
    assert event.name == "RequestFailed"


# ------------------------------------------------------------------------ where requests may not go


NOT_PUBLIC = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("localhost", "127.0.0.1"),
    ("localhost.", "127.0.0.1"),
    ("LOCALHOST", "127.0.0.1"),
    ("[::1]", "::1"),
    ("[::]", "::"),
    ("0.0.0.0", "0.0.0.0"),
    ("[::ffff:127.0.0.1]", "127.0.0.1"),
    ("[::ffff:7f00:1]", "127.0.0.1"),
    ("[::127.0.0.1]", "127.0.0.1"),
    ("[64:ff9b::a9fe:a9fe]", "169.254.169.254"),
    ("[2002:a9fe:a9fe::]", "169.254.169.254"),
    ("169.254.169.254", "169.254.169.254"),
    ("[fe80::1]", "fe80::1"),
    ("[fd00:ec2::254]", "fd00:ec2::254"),
    ("168.63.129.16", "168.63.129.16"),
    ("100.100.100.200", "100.100.100.200"),
    ("10.0.0.1", "10.0.0.1"),
    ("192.168.1.1", "192.168.1.1"),
    ("224.0.0.1", "224.0.0.1"),
    ("[ff02::1]", "ff02::1"),
    ("[fec0::1]", "fec0::1"),
    ("255.255.255.255", "255.255.255.255"),
]


@pytest.mark.parametrize(("host", "address"), NOT_PUBLIC)
async def test_nothing_but_public_addresses_is_reached_unless_allowed(
    host: str, address: str
) -> None:
    event = await ask(f"http://{host}/", {})
    assert event.name == "RequestFailed"
    assert event.payload["error"].endswith(
        "not a public address; FLYTE_HTTP_ALLOW_ADDRESSES does not list it"
    )
    assert address in event.payload["error"] or host.lower().startswith("localhost")
    assert event.payload["attempts"] == 1


def listed(networks: str) -> http.AllowList:
    return http.AllowList(networks=http.allowlist.parse_networks(networks))


def test_where_clouds_hand_out_credentials_must_be_listed_by_itself() -> None:
    for address in (
        "169.254.169.254",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "100.100.100.200",
        "168.63.129.16",
    ):
        parsed = http.allowlist.parse_address(address)
        assert parsed is not None
        assert not listed("0.0.0.0/0,::/0").admits(parsed)
        assert listed(str(http.allowlist.true_address(parsed))).admits(parsed)


def test_public_addresses_may_always_be_reached() -> None:
    for address in ("93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34"):
        parsed = http.allowlist.parse_address(address)
        assert parsed is not None
        assert http.AllowList().admits(parsed)


async def test_a_redirect_does_not_lead_to_where_requests_may_not_go() -> None:
    async with web(
        always(Answer(302, {"Location": "http://169.254.169.254/latest/meta-data/"}))
    ) as server:
        event = await ask(server.url())
    assert event == failed(
        "169.254.169.254 is not a public address; FLYTE_HTTP_ALLOW_ADDRESSES does not list it",
        "http://169.254.169.254/latest/meta-data/",
    )


async def test_the_address_that_was_looked_at_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that gives a harmless address at first and another one the second time does not get
    a second time.
    """
    loop, answers = asyncio.get_running_loop(), ["127.0.0.1", "127.0.0.2", "127.0.0.2"]

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        address = answers.pop(0) if host == "rebinding.example" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    async with web(always(Answer(200, {}, b"well"))) as server:
        url = server.url("/", "rebinding.example")
        event = await ask(url, {"FLYTE_HTTP_ALLOW_ADDRESSES": "127.0.0.1"})
        assert event.payload["body"] == "well"
        assert server.asked[0].headers["host"] == f"rebinding.example:{server.port}"
        event = await ask(url, {"FLYTE_HTTP_ALLOW_ADDRESSES": "127.0.0.1"})
    assert event.payload["error"].startswith(
        "rebinding.example is at 127.0.0.2, not a public address"
    )
    assert len(server.asked) == 1


async def test_of_several_addresses_those_that_are_allowed_are_tried_in_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        found = (
            ["169.254.169.254", "127.0.0.2", "127.0.0.1"] if host == "several.example" else [host]
        )
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with web(always(Answer(200, {}, b"well"))) as server:
        event = await ask(server.url("/", "several.example"))
    assert event.payload["body"] == "well"


@pytest.mark.parametrize(
    ("patterns", "host", "port", "may"),
    [
        ("api.example.com", "api.example.com", 443, True),
        ("API.Example.com.", "api.example.com", 443, True),
        ("api.example.com", "api.example.com.evil.org", 443, False),
        ("api.example.com", "evil-api.example.com", 443, False),
        ("*.example.com", "a.b.example.com", 443, True),
        ("*.example.com", "example.com", 443, False),
        ("*.example.com", "evilexample.com", 443, False),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("a.example, b.example", "b.example", 80, True),
        ("bücher.example", "xn--bcher-kva.example", 80, True),
        ("[::1]:8080", "::1", 8080, True),
        ("10.0.0.1", "10.0.0.1", 80, True),
        ("10.0.0.1", "10.0.0.11", 80, False),
        ("*", "anything.example", 1, True),
    ],
)
def test_hosts_are_allowed_by_their_whole_name_or_what_is_below_it(
    patterns: str, host: str, port: int, may: bool
) -> None:
    allowed = http.AllowList(hosts=http.allowlist.parse_hosts(patterns))
    if may:
        allowed.admit_host(host, port)
    else:
        with pytest.raises(ForbiddenError):
            allowed.admit_host(host, port)


@pytest.mark.parametrize(
    "wrong",
    [
        "a.example/path",
        "*.*.example",
        "ex*mple.com",
        "a.example:0",
        "a.example:x",
        "10.0.0.0/8",
        "",
        "a,,b",
        "ß" * 70,
    ],
)
def test_what_is_no_host_pattern_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"is not a host such as|too long"):
        http.allowlist.parse_hosts(wrong)


async def test_a_host_that_is_not_on_the_list_is_not_even_looked_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        raise AssertionError(host)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    event = await ask(
        "https://api.example.com@evil.example:8443/", {"FLYTE_HTTP_ALLOW": "api.example.com"}
    )
    assert event.payload["error"] == "the url contains a user name or password; use auth instead"
    event = await ask("https://evil.example/", {"FLYTE_HTTP_ALLOW": "api.example.com"})
    assert event == failed(
        "evil.example:443 is not among the hosts of FLYTE_HTTP_ALLOW", "https://evil.example/"
    )


# ---------------------------------------------------------------------------- certificates, proxies


async def test_a_certificate_is_that_of_the_host_although_an_address_is_connected_to(
    tmp_path: Path,
) -> None:
    tls = server_context(tmp_path, Certificate("localhost", addresses=()))
    trusting = {**HERE, "FLYTE_HTTP_CA_CERT_FILE": str(tmp_path / "cert.pem")}
    async with web(always(Answer(200, {}, b"safe")), tls) as server:
        assert (await ask(server.url("/", "localhost"), trusting)).payload["body"] == "safe"
        wrong_host = await ask(server.url("/", "127.0.0.1"), trusting)
        not_trusted = await ask(server.url("/", "localhost"))
    assert wrong_host.payload["error"].startswith("the certificate is not trusted: ")
    assert "127.0.0.1" in wrong_host.payload["error"]
    assert not_trusted.payload["error"].startswith("the certificate is not trusted: ")
    assert not_trusted.payload["attempts"] == 1


async def test_proxies_are_used_only_if_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        web(always(Answer(200, {}, b"by proxy"))) as proxy,
        web(always(Answer(200, {}, b"direct"))) as server,
    ):
        variables = {
            "HTTP_PROXY": proxy.url(),
            "http_proxy": proxy.url(),
            "NO_PROXY": "localhost,.internal",
        }
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        asking = {**HERE, **variables, "FLYTE_HTTP_PROXY": "environment"}
        assert (await ask(server.url(), {**HERE, **variables})).payload["body"] == "direct"
        assert (await ask(server.url(), asking)).payload["body"] == "by proxy"
        assert (await ask(server.url("/", "localhost"), asking)).payload["body"] == "direct"
        assert (await ask("http://far.example/", {"FLYTE_HTTP_PROXY": proxy.url()})).payload[
            "body"
        ] == "by proxy"
        refused = await ask("http://169.254.169.254/", {"FLYTE_HTTP_PROXY": proxy.url()})
    assert refused.name == "RequestFailed"
    assert [asked.target for asked in proxy.asked] == [server.url(), "http://far.example/"]


# -------------------------------------------------------------------------------------------- check


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "flows may call every host with a public address"),
        (
            {"FLYTE_HTTP_ALLOW": "localhost:9200,*.example.com", **HERE},
            "flows may call localhost, *.example.com",
        ),
    ],
)
async def test_the_check_says_what_flows_may_ask(environ: dict[str, str], says: str) -> None:
    assert await http.create(environ).declaration().checks["Http"]() == says


async def test_the_check_finds_every_host_that_is_on_the_list_and_cannot_be_reached() -> None:
    with pytest.raises(FlyteError) as caught:
        await (
            http.create({"FLYTE_HTTP_ALLOW": "localhost,no.such.name.invalid"})
            .declaration()
            .checks["Http"]()
        )
    here, nowhere = str(caught.value).split("; no")
    assert here.startswith("localhost is at ")
    assert nowhere.startswith(".such.name.invalid cannot be resolved: ")
