"""Pages of other web sites cannot use a browser to command a server that only the browser's user
can reach.
"""

import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest

from flyteops.service import Service
from flyteops.web.api.request import Options
from flyteops.web.app import create_app
from tests.api.conftest import BASE

Make = Callable[..., Awaitable[dict[str, Any]]]

EVENTS = "/v1/packs/P/events"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://flyte.test"}, 202),
        ({"Origin": "http://FLYTE.test:80"}, 202),
        ({"Origin": "https://flyte.test"}, 202),
        ({"Origin": "https://flyte.test:443"}, 202),
        ({"Origin": "http://flyte.test", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Origin": "https://ops.example.com"}, 202),
        ({"Origin": "https://OPS.example.com", "Sec-Fetch-Site": "cross-site"}, 202),
        ({"Origin": "http://localhost:8080", "Host": "localhost:8080"}, 202),
        ({"Origin": "http://[::1]:8080", "Host": "[::1]:8080"}, 202),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "file://"}, 403),
        ({"Origin": "http://flyte.test.evil.example"}, 403),
        ({"Origin": "http://flyte.test:81"}, 403),
        ({"Origin": "http://localhost:8081", "Host": "localhost:8080"}, 403),
        ({"Origin": "https://flyte.test", "Host": "flyte.test:80"}, 403),
        ({"Origin": "http://flyte.test/path"}, 403),
        ({"Origin": "http://flyte.test@evil.example"}, 403),
        ({"Origin": "http://flyte.test:99999999"}, 403),
        ({"Origin": "http://[flyte.test"}, 403),
        ({"Origin": "http://ops.example.com"}, 403),
        ({"Origin": "https://ops.example.com.evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example", "X-Forwarded-Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example", "X-Flyte-Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example", "Host": "evil.example@flyte.test"}, 403),
        ({"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"}, 403),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "navigate",
                "Sec-Fetch-Dest": "document",
            },
            403,
        ),
    ],
)
async def test_events_come_from_no_foreign_page(
    api: httpx2.AsyncClient, register: Make, headers: dict[str, str], status: int
) -> None:
    await register("P")
    body = b'{"event":"E"}'
    answer = await api.post(EVENTS, content=body, headers={"Content-Type": "text/plain", **headers})
    assert answer.status_code == status
    events = (await api.get("/v1/audit/events")).json()["events"]
    assert len(events) == (1 if status == 202 else 0)
    if status == 403:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "foreign-origin"


NAVIGATION = {
    "Sec-Fetch-Site": "cross-site",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/swagger", NAVIGATION, 200),
        ("GET", "/swagger/", NAVIGATION, 200),
        ("GET", "/", NAVIGATION, 200),
        ("HEAD", "/swagger", NAVIGATION, 200),
        ("POST", "/swagger", NAVIGATION, 403),
        ("GET", "/swagger", {**NAVIGATION, "Sec-Fetch-Dest": "iframe"}, 403),
        ("GET", "/swagger", {**NAVIGATION, "Origin": "http://evil.example"}, 403),
        ("GET", "/swagger", {**NAVIGATION, "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", "/swagger/swagger-ui.css", NAVIGATION, 403),
        ("GET", "/v1/packs", NAVIGATION, 403),
        ("GET", "/v1/packs", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ("GET", "/v1/packs", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", "/v1/packs", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
        ("GET", "/no/such/page", NAVIGATION, 403),
        ("DELETE", "/v1/packs/P", {"Origin": "null"}, 403),
    ],
)
async def test_other_sites_may_lead_people_to_pages_and_nothing_else(
    api: httpx2.AsyncClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    assert (await api.request(method, path, headers=headers)).status_code == status


async def test_an_allowed_origin_may_read_answers_and_ask_before(api: httpx2.AsyncClient) -> None:
    origin = {"Origin": "https://ops.example.com"}
    answer = await api.get("/v1", headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://ops.example.com"
    preflight = {
        **origin,
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "content-type",
    }
    assert (await api.options("/v1/datastore/k", headers=preflight)).status_code == 200


async def test_other_origins_are_promised_nothing(api: httpx2.AsyncClient) -> None:
    headers = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
    answer = await api.options("/v1/datastore/k", headers=headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in (await api.get("/v1")).headers


@pytest.mark.parametrize("path", ["/v1", "/v1/audit/events", "/swagger"])
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8080", 200),
        ("LOCALHOST.", 200),
        ("flyte.localhost", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("192.0.2.7", 200),
        ("workstation:8080", 200),
        ("ops.example.com", 200),
        ("", 200),
        ("evil.example", 403),
        ("evil.example:8080", 403),
        ("evil.example.", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("[", 403),
        ("\xff.example", 403),
    ],
)
async def test_a_name_that_was_made_to_point_here_opens_nothing(
    service: Service, path: str, host: str, status: int
) -> None:
    options = Options(is_local=True, allowed_origins=frozenset(["https://ops.example.com"]))
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(service, options)), base_url=BASE
    ) as api:
        for _ in range(2):
            answer = await api.get(path, headers=[(b"Host", host.encode("latin-1"))])
            assert answer.status_code == status, answer.text
            # Neither what a page may set nor that it believes to be at home helps.
            own = {
                "X-Forwarded-Host": "localhost",
                "X-Flyte-Host": "localhost",
                "Sec-Fetch-Site": "same-origin",
            }
            answer = await api.get(path, headers=[(b"Host", host.encode("latin-1")), *own.items()])
            assert answer.status_code == status
        if status == 403:
            assert answer.json()["code"] == "foreign-host"


@pytest.mark.parametrize("name", ["X-Flyte-Host", "X-Forwarded-Host"])
async def test_a_proxy_on_this_computer_may_name_an_outside_host_which_links_have(
    service: Service, name: str
) -> None:
    transport = httpx2.ASGITransport(create_app(service, Options(is_local=True)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as api:
        outside = {name: "flyte.example.com", "X-Forwarded-Proto": "https"}
        answer = await api.get("/v1", headers=outside)
        assert answer.json()["links"][0]["href"] == "https://flyte.example.com/v1"
        assert (await api.post("/v1/packs", json={"name": "P"}, headers=outside)).status_code == 201
        assert (
            await api.post("/v1/packs/P/events", json={"event": "E"}, headers=outside)
        ).status_code == 202
        # A name that was made to point here is in the Host that the browser sends, whatever its
        # page says.
        answer = await api.get("/v1", headers={"Host": "flyte.example.com", **outside})
        assert (answer.status_code, "FLYTE_ALLOWED_ORIGINS" in answer.json()["detail"]) == (
            403,
            True,
        )


async def test_a_server_for_others_has_any_name(service: Service) -> None:
    transport = httpx2.ASGITransport(create_app(service, Options()))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as api:
        assert (await api.get("/v1", headers={"Host": "flyte.example.com"})).status_code == 200


async def test_the_api_page_loads_what_it_needs_from_here_and_nothing_else(
    api: httpx2.AsyncClient,
) -> None:
    page = await api.get("/swagger")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert "://" not in page.text
    for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png", "swagger.js"):
        assert f'"/swagger/{name}"' in page.text
        answer = await api.get(f"/swagger/{name}")
        assert answer.status_code == 200
        assert answer.content
    assert "://" not in (await api.get("/swagger/swagger.js")).text


@pytest.mark.parametrize(
    "name", ["..%2f__init__.py", "index.css", "%2e%2e%2f", "swagger-ui.js", "LICENSE", "%00"]
)
async def test_the_api_page_gives_out_no_other_file(api: httpx2.AsyncClient, name: str) -> None:
    answer = await api.get(
        httpx2.URL("http://flyte.test").copy_with(raw_path=b"/swagger/" + name.encode())
    )
    assert answer.status_code == 404


def test_serving_the_page_does_not_import_the_framework_that_its_files_come_with() -> None:
    code = (
        "import sys; from flyteops.web.app import create_app; create_app(None); sys.exit('flask' in"
        " sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
