"""A web server for tests: real sockets, and answers as the test wants them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import h11


@dataclass
class Asked:
    """A request as it came in; the names of headers are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Web:
    """`asked` holds all requests; what `reply` returns is the answer, and None hangs up without
    one.
    """

    reply: Callable[[Asked], Answer | None]
    port: int = 0
    scheme: str = "http"
    asked: list[Asked] = field(default_factory=list)

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection, parts = h11.Connection(h11.SERVER), []
        try:
            while not isinstance(event := connection.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA:
                    connection.receive_data(await reader.read(65536))
                elif isinstance(event, h11.ConnectionClosed):
                    return
                else:
                    parts.append(event)
            head = parts[0]
            headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
            self.asked.append(
                Asked(
                    head.method.decode(),
                    head.target.decode(),
                    headers,
                    b"".join(bytes(each.data) for each in parts[1:]),
                )
            )
            answer = self.reply(self.asked[-1])
            if answer is not None:
                length = {"Content-Length": str(len(answer.body)), **answer.headers}
                response = h11.Response(status_code=answer.status, headers=list(length.items()))
                writer.write(connection.send(response) or b"")
                writer.write(answer.body)
                await writer.drain()
        except (ConnectionError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def web(
    reply: Callable[[Asked], Answer | None], tls: ssl.SSLContext | None = None
) -> AsyncIterator[Web]:
    served = Web(reply, scheme="http" if tls is None else "https")
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0, ssl=tls)
    served.port = server.sockets[0].getsockname()[1]
    async with server:
        yield served
