"""Shared configuration: stored byte for byte, told with its own content type."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
from cryptography.fernet import Fernet

from flyteops.service import Service
from flyteops.service.encryption import Encryptor
from flyteops.storage.sqlite import SqliteStore
from flyteops.web.app import create_app

BASE = "http://flyte.test"
Make = Callable[..., Awaitable[dict[str, Any]]]

FORM = {"Content-Type": "multipart/form-data; boundary=frontier"}


def form(*parts: tuple[str, bytes]) -> bytes:
    """Return a form of parts, each given as its headers and its bytes."""
    return (
        b"".join(b"--frontier\r\n%s\r\n\r\n%s\r\n" % (head.encode(), body) for head, body in parts)
        + b"--frontier--\r\n"
    )


VALUE = 'Content-Disposition: form-data; name="value"; filename="x"'


async def test_a_new_item_is_created_and_then_replaced(api: httpx2.AsyncClient) -> None:
    files = {"value": ("teams.json", b'{"a": 1}', "application/json")}
    created = await api.put(
        "/v1/datastore/teams", files=files, data={"description": "Who is who ☺"}
    )
    assert created.status_code == 201
    assert created.headers["location"] == f"{BASE}/v1/datastore/teams"
    replaced = await api.put("/v1/datastore/teams", files={"value": ("t", b"text")})
    assert (replaced.status_code, replaced.content) == (204, b"")
    assert (await api.get("/v1/datastore/teams")).content == b"text"


async def test_an_item_comes_back_byte_for_byte_with_its_content_type(
    api: httpx2.AsyncClient,
) -> None:
    value = bytes(range(256)) + b"\r\n--front\r\n\r\n"
    await api.put(
        "/v1/datastore/k",
        content=form((f"{VALUE}\r\nContent-Type: Application/X-Sh; a=b", value)),
        headers=FORM,
    )
    answer = await api.get("/v1/datastore/k", headers={"Accept": "application/x-yaml"})
    assert answer.status_code == 200
    assert answer.content == value
    assert answer.headers["content-type"] == "Application/X-Sh; a=b"


async def test_items_are_listed_by_key(api: httpx2.AsyncClient) -> None:
    await api.put("/v1/datastore/z", files={"value": ("x", b"1", "application/json")})
    await api.put(
        "/v1/datastore/a",
        content=form((VALUE, b"2"), ('Content-Disposition: form-data; name="description"', b"two")),
        headers=FORM,
    )
    assert (await api.get("/v1/datastore")).json() == {
        "links": [
            {"href": f"{BASE}/v1/datastore", "rel": "self"},
            {"href": f"{BASE}/v1", "rel": "up"},
            {"href": f"{BASE}/swagger#/datastore", "rel": "help"},
        ],
        "datastore": [
            {
                "key": "a",
                "contentType": "text/plain; charset=us-ascii",
                "description": "two",
                "links": [{"href": f"{BASE}/v1/datastore/a", "rel": "self"}],
            },
            {
                "key": "z",
                "contentType": "application/json",
                "links": [{"href": f"{BASE}/v1/datastore/z", "rel": "self"}],
            },
        ],
    }


async def test_the_value_may_be_a_plain_field(api: httpx2.AsyncClient) -> None:
    content = form(
        (
            'Content-Disposition: form-data; name="value"\r\nContent-Type: application/json',
            b"\xff[1]",
        )
    )
    assert (await api.put("/v1/datastore/k", content=content, headers=FORM)).status_code == 201
    answer = await api.get("/v1/datastore/k")
    assert (answer.content, answer.headers["content-type"]) == (b"\xff[1]", "application/json")


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b"value=x", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b'{"value": "x"}', {"Content-Type": "application/json"}),
        (b"x", {}),
        (form((VALUE, b"x")), {"Content-Type": "multipart/form-data"}),
        (form((VALUE, b"x")), {"Content-Type": "multipart/form-data; boundary=other"}),
        (form((VALUE, b"x")), {"Content-Type": "multipart/form-data; boundary=" + "x" * 300}),
        (form((VALUE, b"x")), {"Content-Type": "multipart/mixed; boundary=frontier"}),
        (form((VALUE, b"x"))[:-20], FORM),
        (form((VALUE, b"")), FORM),
        (form(('Content-Disposition: form-data; name="valu"; filename="x"', b"x")), FORM),
        (
            form((VALUE, b"x"), ('Content-Disposition: form-data; name="description"', b"\xff")),
            FORM,
        ),
        (form((f"{VALUE}\r\nContent-Type: text/h\xe4ml", b"x")), FORM),
        (form((f"{VALUE}\r\nContent-Type: {'x' * 256}", b"x")), FORM),
        (form((f"{VALUE}\r\nContent-Type: text/plain\t\x7f; a=b", b"x")), FORM),
        (form((VALUE, b"x"), *[('Content-Disposition: form-data; name="a"', b"x")] * 30), FORM),
        (form((VALUE, b"x"), ('Content-Disposition: form-data; name="a"', b"x"))[:-20], FORM),
        (form(("Content-Disposition", b"x")), FORM),
        (b"", FORM),
    ],
)
async def test_what_is_no_form_with_a_value_is_refused(
    api: httpx2.AsyncClient, content: bytes, headers: dict[str, str]
) -> None:
    answer = await api.put("/v1/datastore/k", content=content, headers=headers)
    assert answer.status_code == 400, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert (await api.get("/v1/datastore/k")).status_code == 404


async def test_a_stored_page_can_do_nothing_in_a_browser(api: httpx2.AsyncClient) -> None:
    await api.put(
        "/v1/datastore/page", files={"value": ("x.html", b"<script>alert(1)</script>", "text/html")}
    )
    answer = await api.get("/v1/datastore/page")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "key",
    [
        "a/b",
        "a%2Fb",
        "ä ö",
        "x?y#z",
        "日本",
        "a+b",
        "..",
        "../../etc/passwd",
        "a\r\nX: y\n",
        "k" * 500,
    ],
)
async def test_keys_of_any_characters_work_in_addresses(api: httpx2.AsyncClient, key: str) -> None:
    address = "/v1/datastore/" + "".join(f"%{byte:02X}" for byte in key.encode())
    assert (await api.put(address, files={"value": ("x", b"1")})).status_code == 201
    (item,) = (await api.get("/v1/datastore")).json()["datastore"]
    assert item["key"] == key
    assert (await api.get(item["links"][0]["href"])).content == b"1"
    assert (await api.delete(item["links"][0]["href"])).status_code == 204
    assert (await api.delete(address)).status_code == 404


async def test_a_key_with_a_zero_byte_is_refused(api: httpx2.AsyncClient) -> None:
    answer = await api.put("/v1/datastore/k%00", files={"value": ("x", b"1")})
    assert (answer.status_code, "NUL" in answer.text) == (404, True)
    assert (await api.get("/v1/datastore/k%00")).status_code == 404
    assert (await api.get("/v1/datastore")).json()["datastore"] == []


async def test_a_key_that_is_not_utf_8_is_not_found(api: httpx2.AsyncClient) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert (
            await api.request(method, "/v1/datastore/%ff", files={"value": ("x", b"1")})
        ).status_code == 404


async def test_templates_see_items_as_json_or_text(
    api: httpx2.AsyncClient, register: Make, save_flow: Make, step: Callable[..., dict[str, Any]]
) -> None:
    await register("P")
    await api.put(
        "/v1/datastore/list", files={"value": ("x", b'["first"]', "text/json; charset=utf-8")}
    )
    await api.put("/v1/datastore/text", files={"value": ("x", b'["first"]', "text/plain")})
    await save_flow(
        "f", step("P/E", "P/C", input=["{{ datastore('list').0 }}", "{{ datastore('text') }}"])
    )
    await api.post("/v1/packs/P/events", json={"event": "E"})
    assert (await api.post("/v1/packs/P/actions/take")).json()["input"] == ["first", '["first"]']


async def test_a_value_as_large_as_the_limit_is_stored_and_a_larger_one_is_not(
    api: httpx2.AsyncClient,
) -> None:
    assert (
        await api.put("/v1/datastore/k", files={"value": ("x", b"v" * 100_000)})
    ).status_code == 201
    answer = await api.put("/v1/datastore/k", files={"value": ("x", b"v" * 100_001)})
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert len((await api.get("/v1/datastore/k")).content) == 100_000


async def test_the_kind_of_a_form_is_told_without_regard_to_case(api: httpx2.AsyncClient) -> None:
    # A value of the greatest size, with the form around it: only of a form more is read than that.
    body = form((VALUE, b"x" * 100_000))
    answer = await api.put(
        "/v1/datastore/k",
        content=body,
        headers={"Content-Type": "Multipart/Form-Data; boundary=frontier"},
    )
    assert answer.status_code == 201


# ------------------------------------------------------------------------------------------ secrets


@pytest.fixture
async def keeper(store: SqliteStore) -> AsyncIterator[httpx2.AsyncClient]:
    service = Service(store, encryptor=Encryptor([Fernet.generate_key().decode()]))
    await service.start()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(create_app(service)), base_url=BASE
    ) as client:
        yield client


async def test_a_secret_is_listed_and_deleted_but_never_given_back(
    keeper: httpx2.AsyncClient,
) -> None:
    files = {"value": ("token", b"hunter2", "text/plain")}
    assert (
        await keeper.put("/v1/datastore/token", files=files, data={"secret": "true"})
    ).status_code == 201
    assert (
        await keeper.put("/v1/datastore/token", files=files, data={"secret": "TRUE"})
    ).status_code == 204
    listed = (await keeper.get("/v1/datastore")).json()["datastore"]
    assert [(item["key"], item["secret"]) for item in listed] == [("token", True)]
    answer = await keeper.get("/v1/datastore/token")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "hunter2" not in answer.text
    assert (await keeper.put("/v1/datastore/token", files=files)).status_code == 409
    described = (await keeper.get("/v1/swagger")).json()["paths"]["/v1/datastore/{key}"]["put"][
        "responses"
    ]
    assert "409" in described
    assert (await keeper.delete("/v1/datastore/token")).status_code == 204
    assert (await keeper.get("/v1/datastore/token")).status_code == 404


async def test_what_secret_must_be_is_told(
    keeper: httpx2.AsyncClient, api: httpx2.AsyncClient
) -> None:
    files = {"value": ("token", b"hunter2", "text/plain")}
    answer = await keeper.put("/v1/datastore/token", files=files, data={"secret": "perhaps"})
    assert answer.json()["problems"] == [{"path": "secret", "message": "must be true or false"}]
    without_keys = await api.put("/v1/datastore/token", files=files, data={"secret": "true"})
    assert without_keys.status_code == 400
    assert "set FLYTE_SECRETS_KEY_FILE" in without_keys.json()["detail"]


async def test_the_description_stays_unless_another_is_given(api: httpx2.AsyncClient) -> None:
    async def described(**form: Any) -> str:
        assert (
            await api.put("/v1/datastore/k", files={"value": ("x", b"1")}, **form)
        ).status_code in (201, 204)
        (item,) = (await api.get("/v1/datastore")).json()["datastore"]
        return str(item.get("description", ""))

    assert await described(data={"description": "one"}) == "one"
    assert await described() == "one"
    assert await described(data={"description": ""}) == ""
