"""Clients that put the same bytes on the wire as the ones that have been in production for years.

Each is written down from what was observed of the real one: its headers, the order of its keys,
what it reads and what it ignores. They speak over a plain socket, so that no library of today
smooths anything over.
"""

import json
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)


def connect(url: str) -> socket.socket:
    """Connect as those clients do: over TLS with 1.2 at most, without a word about protocols,
    and trusting anybody.
    """
    place = urlsplit(url)
    connection = socket.create_connection((place.hostname, place.port), 10)
    if place.scheme == "http":
        return connection
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context.wrap_socket(connection)


def exchange(url: str, head: list[str], body: bytes) -> Answer:
    """Send one request and read one answer, as far as its Content-Length goes."""
    with connect(url) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        stream = connection.makefile("rb")
        status = int(stream.readline().split()[1])
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return Answer(status, headers, stream.read(int(headers.get("content-length", 0))))


def find_link(links: list[dict], suffix: str) -> str:
    """Return the first link whose rel ends with the suffix, as all of the clients do."""
    for link in links:
        assert set(link) >= {"href", "rel"}
        if link["rel"].endswith(suffix):
            return link["href"]
    raise AssertionError(f"could not find link with rel {suffix}")


class GoClient:
    """The client of 2022 (v1.4): links from the answer to the registration, `createdAt` in UTC,
    a token if there is one.
    """

    created_at = '"2026-11-23T13:49:58.493307263Z"'
    reads_location = False

    def __init__(self, root: str, token: str | None = None) -> None:
        self.root = root.rstrip("/")
        self.token = token

    def _request(
        self, method: str, url: str, body: bytes | None = None, accept: str | None = None
    ) -> Answer:
        place = urlsplit(url)
        target = place.path + (f"?{place.query}" if place.query else "")
        head = [
            f"{method} {target} HTTP/1.1",
            f"Host: {place.netloc}",
            "User-Agent: Go-http-client/1.1",
        ]
        if body is not None:
            head.append(f"Content-Length: {len(body)}")
        if accept:
            head.append(f"Accept: {accept}")
        if self.token and not self.reads_location:
            head.append(f"Authorization: Bearer {self.token}")
        if body is not None:
            head.append("Content-Type: application/json")
        return exchange(url, [*head, "Accept-Encoding: gzip"], body or b"")

    def start(self, registration: bytes) -> None:
        """Read the links of the API and register; keep what the pack needs from then on."""
        api = self._request("GET", self.root + "/v1", accept="application/json").json()
        for links in api.values():
            assert links is None or all(set(link) == {"href", "rel"} for link in links)
        answer = self._request("POST", find_link(api["links"], "pack/listPacks"), registration)
        assert answer.status == 201, answer
        if self.reads_location:
            location = urljoin(self.root + "/v1/packs", answer.headers["location"])
            answer = self._request("GET", location, accept="application/json")
        self.pack = answer.json()
        assert all(
            isinstance(event, str)
            for command in self.pack.get("commands") or []
            for event in command["events"]
        )
        self.events_url = find_link(self.pack["links"], "event")
        self.take_url = (
            find_link(self.pack["links"], "takeAction") if self.pack.get("commands") else None
        )

    def send(self, event: str, payload: str) -> Answer:
        return self._request("POST", self.events_url, self._event(event, payload))

    def take(self) -> Answer:
        """Poll once: the body is the four bytes of a nil value."""
        return self._request("POST", self.take_url, b"null")

    def complete(self, action: dict, event: str, payload: str) -> Answer:
        return self._request(
            "POST", find_link(action["links"], "actionResult"), self._event(event, payload)
        )

    def _event(self, name: str, payload: str) -> bytes:
        more = f',"createdAt":{self.created_at}' if self.created_at else ""
        return f'{{"event":"{name}","payload":{payload}{more}}}'.encode()


class OldestGoClient(GoClient):
    """The client of April 2018: follows `Location` and takes the links from there; no token, no
    time in events.
    """

    created_at = ""
    reads_location = True


class ZeroTimeGoClient(GoClient):
    """The client of April 2022 (v1.1): results carry the zero time."""

    created_at = '"0001-01-01T00:00:00Z"'


class PythonClient:
    """The Python client: JSON as text/plain, takes without a body, adds /v1 to the URL as it is
    given.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def _request(
        self, method: str, url: str, body: bytes | None = None, content_type: str | None = None
    ) -> Answer:
        place = urlsplit(url)
        target = url[url.index(place.netloc) + len(place.netloc) :]
        head = [
            f"{method} {target} HTTP/1.1",
            f"Host: {place.netloc}",
            "Accept: */*",
            "Accept-Encoding: gzip, deflate",
        ]
        head.append("User-Agent: Python/3.8 aiohttp/3.6.2")
        if body is not None:
            head += [f"Content-Length: {len(body)}", f"Content-Type: {content_type}"]
        return exchange(url, head, body or b"")

    def _post(self, url: str, body: bytes) -> Answer:
        return self._request("POST", url, body, "text/plain; charset=utf-8")

    def start(self, registration: bytes) -> None:
        api = self._request("GET", self.root + "/v1")
        assert api.status < 400
        links = api.json()["links"]
        assert all(set(link) == {"href", "rel"} for link in links)  # its schema is strict
        answer = self._post(find_link(links, "pack/listPacks"), registration)
        assert answer.status < 400
        self.pack = answer.json()
        self.events_url = find_link(self.pack["links"], "event")
        self.take_url = find_link(self.pack["links"], "takeAction")

    def send(self, event: str, payload: str) -> Answer:
        return self._post(self.events_url, f'{{"event": "{event}", "payload": {payload}}}'.encode())

    def take(self) -> Answer:
        return self._request("POST", self.take_url, b"", "application/octet-stream")

    def complete(self, action: dict, event: str, payload: str) -> Answer:
        assert set(action) >= {"command", "input"}
        return self._post(
            find_link(action["links"], "actionResult"),
            f'{{"event": "{event}", "payload": {payload}}}'.encode(),
        )
