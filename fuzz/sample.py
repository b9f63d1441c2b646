"""The real examples behind inputs: the documentation, the examples and the conformance tests."""

import json
import re
from pathlib import Path

from flyteops.document import parse_yaml, to_yaml
from flyteops.model import JsonValue
from flyteops.web.api.routes import OPERATIONS

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```yaml[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: str) -> list[bytes]:
    """Return the YAML blocks of a page of the documentation."""
    return [block.encode() for block in BLOCK.findall((ROOT / "docs" / page).read_text())]


def values(texts: list[bytes]) -> list[JsonValue]:
    """Return the values of YAML texts."""
    return [parse_yaml(text).value for text in texts]


def flows() -> list[bytes]:
    """Return flow files."""
    files = [path.read_bytes() for path in sorted((ROOT / "examples").rglob("*.yaml"))]
    pages = [
        block for page in ("reference/flow.md", "tutorial/first-flow.md") for block in blocks(page)
    ]
    bomb = (
        b"name: f\na: &a [x, x, x]\nb: &b [*a, *a]\nsteps: [{<<: {id: s}, event: &e {name: E,"
        b" packName: P}, command: *e}]\n"
    )
    return [*files, *pages, bomb]


def templates() -> list[bytes]:
    """Return templates with known results."""
    texts = [path.read_text() for path in sorted((ROOT / "tests/data/template").glob("*.json"))]
    cases = [case["template"] for text in texts for case in json.loads(text)["cases"]]
    return [case.encode() for case in cases if isinstance(case, str)]


def policies() -> list[bytes]:
    """Return auth policy files."""
    return blocks("reference/auth-policy.md") + blocks("howto/let-people-in.md")


def requests() -> list[tuple[str, str, str, bytes]]:
    """Return a method, a path with its parameters, a content type and a body for each route.

    Routes without a body are left out.
    """
    found = []
    for operation in OPERATIONS:
        if operation.example is not None:
            found.append(
                (
                    operation.method,
                    operation.path,
                    "application/json",
                    json.dumps(operation.example).encode(),
                )
            )
            found.append(
                (operation.method, operation.path, "application/x-yaml", to_yaml(operation.example))
            )
    form = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    item = (
        form % (b"value", b'{"a": 1}')
        + form % (b"description", b"what it is")
        + form % (b"secret", b"false")
        + b"--b--\r\n"
    )
    return [*found, ("PUT", "/v1/datastore/{key}", "multipart/form-data; boundary=b", item)]


def raw_requests() -> list[bytes]:
    """Return requests in their form on the wire."""
    event = b'{"event": "E", "payload": [1, 2]}'
    chunks = b"%x\r\n%b\r\n0\r\nX-Trailer: t\r\n\r\n" % (len(event), event)
    heads = [
        b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path
        for path in (b"/v1", b"/v1/flows?start=0&limit=5", b"/v1/datastore/a%2fb", b"//v1//")
    ]
    posts = [
        b"POST /v1/packs/P/events HTTP/1.1\r\nHost: h\r\nContent-Type:"
        b" application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(event), event),
        b"POST /v1/packs/P/events HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunks,
        b"POST /v1/packs/P/actions/take HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n"
        b"Expect: 100-continue\r\nContent-Length: 0\r\n\r\n",
        (
            b"DELETE /v1/flows/f HTTP/1.1\r\nHost: h\r\nOrigin:"
            b" http://evil.example\r\nAuthorization: Bearer a.b.c\r\n\r\n"
        ),
        (
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade:"
            b" h2c\r\nHTTP2-Settings: AA\r\n\r\n"
        ),
    ]
    return [*heads, *posts, heads[0] + posts[0] + heads[1]]
