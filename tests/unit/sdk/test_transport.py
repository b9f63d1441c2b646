"""The transport of plain connections, against a server that sends bytes as a test wants them."""

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator, Callable, Sequence

import httpx2
import pytest

from flyteops.sdk.transport import MAX_BODY, PlainTransport

HEAD = b"HTTP/1.1 200 OK\r\n"
DONE = HEAD + b"Content-Length: 4\r\n\r\ndone"


class General(httpx2.AsyncBaseTransport):
    """The general transport, which notes the requests that come to it."""

    def __init__(self) -> None:
        self.requests: list[httpx2.Request] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return httpx2.Response(299)


class Peer:
    """A server that answers the requests of each connection with the given bytes, one by one."""

    def __init__(self, *answers: Sequence[bytes], ends: bool = False) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed = asyncio.Event()
        self._ends = ends

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while self.answers:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length: ")[2].partition(b"\r")[0]
                self.requests.append(head + await reader.readexactly(int(length or b"0")))
                for part in self.answers.pop(0):
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
            if not self._ends:
                await reader.read()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            self.closed.set()


@contextlib.asynccontextmanager
async def talking_to(
    peer: Peer, general: httpx2.AsyncBaseTransport | None = None, keep_alive: float = 60
) -> AsyncIterator[Callable[..., "asyncio.Future[httpx2.Response]"]]:
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport = PlainTransport(
        general or General(), lambda sock, begun: None, keep_alive=keep_alive, max_idle=2
    )
    async with server, httpx2.AsyncClient(mounts={"http://": transport}, timeout=10) as client:

        def ask(**options: object) -> "asyncio.Future[httpx2.Response]":
            arguments = {"method": "POST", "content": b"{}", **options}
            url = f"http://127.0.0.1:{port}/v1/a%20b?c=d"
            return asyncio.ensure_future(client.request(url=url, **arguments))  # type: ignore[arg-type]

        yield ask


async def test_requests_go_out_in_order_on_one_connection() -> None:
    peer = Peer([DONE], [DONE])
    async with talking_to(peer) as ask:
        for _ in range(2):
            answer = await ask(headers={"X-Key": "k"})
            assert (answer.status_code, answer.content) == (200, b"done")
    assert peer.connections == 1
    first, *lines = peer.requests[0].split(b"\r\n")
    assert first == b"POST /v1/a%20b?c=d HTTP/1.1"
    assert b"X-Key: k" in lines
    assert lines[-2:] == [b"", b"{}"]


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([bytes([each]) for each in DONE], b"done"),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"2;x=1\r\ndo\r", b"\n2\r\nne\r\n",
          b"0\r\nTrailer: t\r\n\r\n"], b"done"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + DONE], b"done"),
        ([HEAD + b"Content-Length: 0\r\n\r\n"], b""),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b""),
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: "
          + str(len(gzip.compress(b"done"))).encode() + b"\r\n\r\n" + gzip.compress(b"done")],
         b"done"),
    ],
    ids=["in-pieces", "chunks", "after-100", "empty", "without", "compressed"],
)  # fmt: skip
async def test_a_response_is_read_as_it_comes_and_its_connection_is_kept(
    parts: list[bytes], content: bytes
) -> None:
    peer = Peer(parts, [DONE])
    async with talking_to(peer) as ask:
        assert (await ask()).content == content
        assert (await ask()).content == b"done"
    assert peer.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Connection: close\r\nContent-Length: 4\r\n\r\ndone",
        b"HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\ndone",
        DONE + b"more than announced",
    ],
    ids=["closed", "old", "too-much"],
)
async def test_a_connection_that_cannot_be_used_again_is_closed(answer: bytes) -> None:
    peer = Peer([answer], [DONE])
    async with talking_to(peer) as ask:
        assert (await ask()).content == b"done"
        await peer.closed.wait()
        assert (await ask()).content == b"done"
    assert peer.connections == 2


async def test_a_response_without_a_length_ends_with_the_connection() -> None:
    async with talking_to(Peer([HEAD + b"\r\ndo", b"ne"], ends=True)) as ask:
        assert (await ask()).content == b"done"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        HEAD,
        HEAD + b"Content-Length: 5\r\n\r\ndone",
        b"SSH-2.0-server\r\n\r\n",
        HEAD + b"nonsense\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    ],
)
async def test_a_response_that_is_not_complete_or_not_http_is_an_error(answer: bytes) -> None:
    async with talking_to(Peer([answer], ends=True)) as ask:
        with pytest.raises(httpx2.RemoteProtocolError):
            await ask()


async def test_a_response_that_does_not_come_is_given_up() -> None:
    peer = Peer([b""])
    async with talking_to(peer) as ask:
        with pytest.raises(httpx2.ReadTimeout):
            await ask(timeout=httpx2.Timeout(10, read=0.01))
        await peer.closed.wait()


async def test_the_connection_of_a_cancelled_request_is_not_used_again() -> None:
    peer = Peer([b""], [DONE])
    async with talking_to(peer) as ask:
        asking = ask()
        async with asyncio.timeout(10):
            while not peer.requests:  # noqa: ASYNC110 - it comes over a network
                await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.wait([asking])
        assert (await ask()).content == b"done"
    assert peer.connections == 2


async def test_an_idle_connection_is_used_for_a_limited_time() -> None:
    peer = Peer([DONE], [DONE])
    async with talking_to(peer, keep_alive=-1) as ask:
        await ask()
        await ask()
    assert peer.connections == 2


@pytest.mark.parametrize(
    "options",
    [
        {"content": b"x" * (MAX_BODY + 1)},
        {"content": None, "files": {"a": ("a", b"b", "text/plain")}},
        {"headers": {"X-Key": "a\r\nX-Other: b"}},
        {"headers": {"X Key": "a"}},
    ],
    ids=["large", "form", "line-break", "name"],
)
async def test_all_that_is_rare_is_left_to_the_general_transport(
    options: dict[str, object],
) -> None:
    peer, general = Peer([DONE]), General()
    async with talking_to(peer, general) as ask:
        assert (await ask(**options)).status_code == 299
    assert peer.connections == 0
    assert len(general.requests) == 1


async def test_a_server_that_cannot_be_reached_is_left_to_the_general_transport() -> None:
    general = General()
    transport = PlainTransport(general, lambda sock, begun: None, keep_alive=1, max_idle=1)
    async with httpx2.AsyncClient(mounts={"http://": transport}) as client:
        assert (await client.get("http://127.0.0.1:1/")).status_code == 299
