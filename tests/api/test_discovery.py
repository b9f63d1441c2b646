"""Where everything is: the links that clients start from, and the host that they carry."""

import httpx2
import pytest

BASE = "http://flyte.test"


async def test_the_index_holds_nothing_but_links_in_the_order_that_clients_rely_on(
    api: httpx2.AsyncClient,
) -> None:
    answer = await api.get("/v1", headers={"Accept": "application/json"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.json() == {
        "links": [
            {"href": f"{BASE}/v1", "rel": "self"},
            {"href": f"{BASE}/", "rel": "up"},
            {"href": f"{BASE}/swagger#!/info/v1", "rel": "help"},
            {"href": f"{BASE}/health", "rel": f"{BASE}/swagger#!/info/health"},
            {"href": f"{BASE}/v1/packs", "rel": f"{BASE}/swagger#!/pack/listPacks"},
            {"href": f"{BASE}/v1/flows", "rel": f"{BASE}/swagger#!/flow/listFlows"},
            {
                "href": f"{BASE}/v1/datastore",
                "rel": f"{BASE}/swagger#!/datastore/listDatastoreItems",
            },
            {"href": f"{BASE}/v1/audit/flows", "rel": f"{BASE}/swagger#!/flowAudit/findFlows"},
            {"href": f"{BASE}/v1/swagger", "rel": f"{BASE}/swagger"},
        ]
    }


async def test_the_root_leads_to_the_index(api: httpx2.AsyncClient) -> None:
    assert (await api.get("/")).json() == {
        "links": [
            {"href": f"{BASE}/", "rel": "self"},
            {"href": f"{BASE}/swagger#/info", "rel": "help"},
            {"href": f"{BASE}/v1", "rel": f"{BASE}/swagger#!/info/v1"},
        ]
    }


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({"Host": "api:8080"}, "http://api:8080"),
        ({"Host": "api", "X-Forwarded-Host": "flyte.example.com"}, "http://flyte.example.com"),
        (
            {"Host": "api", "X-Forwarded-Host": "other", "X-Flyte-Host": "flyte.example.com:8443"},
            "http://flyte.example.com:8443",
        ),
        ({"Host": "api", "X-Forwarded-Proto": "https"}, "https://api"),
        (
            {"Host": "api", "X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "outer, inner"},
            "https://outer",
        ),
        ({"Host": "api", "X-Forwarded-Proto": "javascript"}, "http://api"),
        ({"Host": "api", "X-Forwarded-Host": 'evil"<script>'}, "http://api"),
        ({"Host": "[::1]:8080"}, "http://[::1]:8080"),
    ],
)
async def test_links_carry_the_host_that_the_client_used(
    api: httpx2.AsyncClient, headers: dict[str, str], base: str
) -> None:
    links = (await api.get("/v1", headers=headers)).json()["links"]
    assert links[0]["href"] == f"{base}/v1"
    assert links[4] == {"href": f"{base}/v1/packs", "rel": f"{base}/swagger#!/pack/listPacks"}


async def test_links_are_https_under_tls(api: httpx2.AsyncClient) -> None:
    links = (await api.get("https://flyte.test/v1")).json()["links"]
    assert links[0]["href"] == "https://flyte.test/v1"


async def test_health_is_empty_when_the_store_answers(api: httpx2.AsyncClient) -> None:
    answer = await api.get("/health")
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("path", ["//v1", "/v1/", "//v1//", "/%761/../v1"][:3])
async def test_slashes_too_many_do_no_harm(api: httpx2.AsyncClient, path: str) -> None:
    answer = await api.get(httpx2.URL(BASE).copy_with(raw_path=path.encode()))
    assert answer.status_code == 200
    assert "links" in answer.json()


@pytest.mark.parametrize(
    "path",
    ["/v1/packs/", "/v1/flows/", "/v1/datastore/", "/v1/audit/flows/", "/health/", "/swagger/"],
)
async def test_a_trailing_slash_is_accepted_and_never_redirected(
    api: httpx2.AsyncClient, path: str
) -> None:
    assert (await api.get(path)).status_code == 200


@pytest.mark.parametrize(
    "path",
    ["/v2", "/v1/pack", "/v1/packs/a/b", "/v1/packs/a/actions", "/favicon.ico", "/V1", "/v1/%00"],
)
async def test_an_unknown_path_is_not_found(api: httpx2.AsyncClient, path: str) -> None:
    answer = await api.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/v1", "GET, HEAD"),
        ("PATCH", "/v1/packs", "GET, HEAD, POST"),
        ("POST", "/v1/packs/Chat", "DELETE, GET, HEAD"),
        ("GET", "/v1/packs/Chat/events", "POST"),
        ("GET", "/v1/packs/Chat/actions/take", "POST"),
        ("DELETE", "/v1/packs/Chat/actions/1/result", "POST"),
        ("POST", "/v1/datastore/key", "DELETE, GET, HEAD, PUT"),
        ("DELETE", "/v1/audit/flows", "GET, HEAD"),
        ("BREW", "/health", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_the_right_ones(
    api: httpx2.AsyncClient, method: str, path: str, allow: str
) -> None:
    answer = await api.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/", "GET, HEAD, OPTIONS"),
        ("/v1/packs", "GET, HEAD, POST, OPTIONS"),
        ("/v1/packs/nobody/events", "POST, OPTIONS"),
        ("/health", "GET, HEAD, OPTIONS"),
    ],
)
async def test_options_are_told_with_nothing_done(
    api: httpx2.AsyncClient, path: str, allow: str
) -> None:
    answer = await api.request("OPTIONS", path, content=b"{")
    assert (answer.status_code, answer.content, answer.headers["allow"]) == (200, b"", allow)
    assert (await api.request("OPTIONS", "/v1/nowhere")).status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/health", "/v1/packs", "/v1/audit/events", "/v1/swagger", "/swagger"]
)
async def test_head_answers_like_get_without_the_body(api: httpx2.AsyncClient, path: str) -> None:
    head, get = await api.head(path), await api.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers == get.headers
