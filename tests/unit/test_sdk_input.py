"""What a command is called with, whatever its author writes and whatever a flow sends."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import msgspec
import pydantic
import pytest

from flyteops.errors import InputError
from flyteops.sdk import Event, Pack, fatal
from flyteops.sdk.testing import PackTester


class Size(enum.Enum):
    SMALL = "small"
    LARGE = "large"


class Item(msgspec.Struct):
    name: str
    count: int = 1


class Order(msgspec.Struct, rename="camel"):
    customer_name: str
    items: list[Item]
    size: Size = Size.SMALL
    note: str | None = None


@dataclass
class OrderClass:
    name: str
    count: int = 1


class OrderDict(TypedDict):
    name: str
    count: NotRequired[int]


class Place(pydantic.BaseModel):
    street: str


class Model(pydantic.BaseModel):
    name: str
    count: int = pydantic.Field(default=1, ge=1)
    place: Place | None = None


def pack_of(handler: Any) -> Pack:
    pack = Pack("P")
    pack.command("Do", events=[pack.event("Done")])(handler)
    return pack


async def outcome(handler: Any, given: Any) -> Any:
    """Return what the command answered: its payload, or the text of what was wrong."""
    async with PackTester(pack_of(handler)) as tester:
        event = await tester.run("Do", given)
    if event.name == "FATAL":
        assert event.payload.startswith("the input of Do is not valid: ")
        return event.payload.removeprefix("the input of Do is not valid: ")
    return event.payload


def input_schema(handler: Any) -> Any:
    return msgspec.json.decode(pack_of(handler).declaration().registration())["commands"][0].get("inputSchema")


def done(payload: Any) -> Event:
    return Event("Done", payload)


async def deploy(app: str, version: str = "latest", *, replicas: int = 1, dry: bool = False) -> Event:
    return done([app, version, replicas, dry])


async def test_several_parameters_are_the_fields_of_an_object() -> None:
    assert await outcome(deploy, {"app": "shop", "replicas": "3.000000", "dry": "true"}) == ["shop", "latest", 3, True]
    assert input_schema(deploy)["$defs"]["DeployInput"]["properties"] == {
        "app": {"type": "string"},
        "version": {"type": "string", "default": "latest"},
        "replicas": {"type": "integer", "default": 1},
        "dry": {"type": "boolean", "default": False},
    }


async def test_one_parameter_after_the_star_is_a_field_and_a_trailing_underscore_frees_a_keyword() -> None:
    async def handler(*, from_: str) -> Event:
        return done(from_)

    assert await outcome(handler, {"from": "Ann"}) == "Ann"
    assert await outcome(handler, "Ann") == "must be an object with from, not text"


async def test_one_parameter_is_the_whole_input_and_its_default_stands_for_none() -> None:
    async def handler(names: list[str] = ["nobody"]) -> Event:  # noqa: B006 - not changed
        return done(names)

    assert await outcome(handler, ["Ann"]) == ["Ann"]
    assert await outcome(handler, None) == ["nobody"]


async def test_a_default_that_can_be_changed_is_each_call_s_own() -> None:
    async def fields(name: str, tags: list[str] = ["a"]) -> Event:  # noqa: B006 - that is the point
        tags.append(name)
        return done(tags)

    async def whole(tags: list[str] = ["a"]) -> Event:  # noqa: B006
        tags.append("b")
        return done(tags)

    for _ in range(2):
        assert await outcome(fields, {"name": "b"}) == ["a", "b"]
        assert await outcome(whole, None) == ["a", "b"]


KINDS = [Item, OrderClass, OrderDict, Model]


@pytest.mark.parametrize("kind", KINDS)
async def test_structs_dataclasses_typed_dicts_and_models_are_read_alike(kind: Any) -> None:
    async def handler(order: kind) -> Event:
        name, count = (order["name"], order["count"]) if isinstance(order, dict) else (order.name, order.count)
        return done([name, count])

    assert await outcome(handler, {"name": "tea", "count": "2", "unknown": 1}) == ["tea", 2]
    properties = input_schema(handler)
    properties = properties.get("properties") or next(iter(properties["$defs"].values()))["properties"]
    assert properties["name"]["type"], properties["count"]["type"] == ("string", "integer")


@pytest.mark.parametrize("kind", KINDS)
async def test_every_fault_is_told_at_once(kind: Any) -> None:
    async def handler(order: kind) -> Event:
        raise AssertionError

    told = await outcome(handler, {"nam": "tea", "count": "many"})
    assert told.startswith("name: ")
    assert "; count: " in told
    assert "many" not in told


async def test_a_fault_says_its_place_and_how_to_mend_it() -> None:
    async def handler(order: Order) -> Event:
        raise AssertionError

    given = {
        "customername": "Ann",
        "items": [{"name": 1.5, "count": "two"}, "tea", {"name": "milk", "count": None}],
        "size": "medium",
        "note": ["x"],
    }
    assert (await outcome(handler, given)).split("; ") == [
        "customerName: is missing",
        "is customername meant for it?",
        "items[0].name: must be text, not a number",
        "put it into quotes",
        "items[0].count: must be a whole number, not text",
        "items[1]: must be an object with name, count?, not text",
        "items[2].count: must be a whole number, not null",
        "size: must be one of small, large",
        "note: must be text, not a list",
    ]


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (int, "3.000000", 3),
        (float, "0.5", 0.5),
        (bool, "True", True),
        (bool, "0", False),
        (int | None, "null", None),
        (int | None, "", None),
        (str | None, "", ""),
        (str, "3.000000", "3.000000"),
        (str, "true", "true"),
        (list[int], '["1", 2]', [1, 2]),
        (dict[str, int], '{"a": "1"}', {"a": 1}),
        (Item, '{"name": "tea"}', {"name": "tea", "count": 1}),
        (list[Item], [{"name": "tea", "count": ""}], [{"name": "tea", "count": 1}]),
        (Literal["a", "b"], "a", "a"),
        (Annotated[int, msgspec.Meta(ge=1)], "2", 2),
        (datetime, "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        (Any, {"a": "1"}, {"a": "1"}),
    ],
)
async def test_text_stands_for_what_a_template_cannot_render_otherwise(kind: Any, given: Any, read: Any) -> None:
    async def handler(value: kind) -> Event:
        return done(value)

    assert await outcome(handler, given) == read


@pytest.mark.parametrize(
    ("kind", "given", "fault"),
    [
        (str, 3, "must be text, not a number; put it into quotes"),
        (str, True, "must be text, not true or false; put it into quotes"),
        (str, {"name": "Ann"}, "must be text, not an object"),
        (int, "", "must be a whole number, not text"),
        (int, "3.5", "must be a whole number, not text"),
        (bool, "yes", "must be true or false, not text"),
        (list[int], "[1", "must be a list, not text"),
        (list[int], "7", "must be a list, not text"),
        (list[int], [1, "x"], "[1]: must be a whole number, not text"),
        (dict[str, int], {"a": {}}, "a: must be a whole number, not an object"),
        (tuple[int, str], [1, 2], "[1]: must be text, not a number"),
        (Annotated[int, msgspec.Meta(ge=1)], "0", "must be a whole number >= 1"),
        (Literal["a", "b"], "c", "must be one of a, b"),
        (datetime, "tomorrow", "Invalid RFC3339 encoded datetime"),
        (Model, {"name": "tea", "count": 0}, "count: Input should be greater than or equal to 1"),
        (Model, {"name": "tea", "place": {}}, "place.street: Field required"),
        (list[Model], [{}], "[0].name: Field required"),
    ],
)
async def test_what_cannot_be_read_is_told(kind: Any, given: Any, fault: str) -> None:
    async def handler(value: kind) -> Event:
        raise AssertionError

    assert await outcome(handler, given) == fault


async def test_a_model_inside_of_another_has_a_complete_schema() -> None:
    class Parcel(msgspec.Struct):
        contents: Model

    async def handler(parcel: Parcel) -> Event:
        return done(parcel)

    schema = input_schema(handler)
    assert set(schema["$defs"]) == {"Parcel", "Place"}
    given = {"contents": {"name": "tea", "count": 1, "place": {"street": "Main"}}}
    assert await outcome(handler, given) == given


def test_parameters_that_no_input_can_fill_are_refused() -> None:
    async def variable(*names: str) -> Event:
        raise AssertionError

    async def by_place(app: str, version: str, /) -> Event:
        raise AssertionError

    async def strange(value: Item | Order) -> Event:
        raise AssertionError

    async def unknown(value: "Itme") -> Event:  # type: ignore[name-defined] # noqa: F821 - that is the point
        raise AssertionError

    for handler, why in (
        (variable, r"takes \*names: str"),
        (by_place, "takes app by its place only"),
        (strange, "Struct"),
        (unknown, "does not know .name 'Itme' is not defined.: define it at the top"),
    ):
        with pytest.raises(TypeError, match=why):
            pack_of(handler)


# ---------------------------------------------------------------------------------------------------------------- answers


class Deployed(msgspec.Struct):
    app: str


@dataclass
class NotDeployed:
    reason: str


class Skipped(pydantic.BaseModel):
    why: str


async def test_a_class_that_is_returned_is_an_event_of_its_name() -> None:
    pack = Pack("P")

    @pack.command()
    async def deploy(app: str) -> Deployed | NotDeployed | Skipped:
        return {"shop": Deployed(app), "old": Skipped(why="old")}.get(app) or NotDeployed(f"there is no {app}")

    async with PackTester(pack) as tester:
        assert await tester.run("Deploy", "shop") == Event("Deployed", {"app": "shop"})
        assert await tester.run("Deploy", "old") == Event("Skipped", {"why": "old"})
        assert await tester.run("Deploy", "x") == Event("NotDeployed", {"reason": "there is no x"})
        (registration,) = tester.server.registrations
    assert registration["commands"][0]["events"] == ["Deployed", "NotDeployed", "Skipped"]
    assert [event["name"] for event in registration["events"] if "payloadSchema" in event] == [
        "Deployed",
        "NotDeployed",
        "Skipped",
    ]


async def test_a_class_that_is_returned_may_be_the_payload_of_an_event_that_is_declared() -> None:
    pack = Pack("P")
    done = pack.event("DeployDone", payload=Deployed)

    @pack.command()
    async def deploy(app: str) -> Deployed | Event:
        return Deployed(app) if app == "shop" else fatal("no")

    async with PackTester(pack) as tester:
        assert await tester.run("Deploy", "shop") == done(Deployed("shop"))
        assert await tester.run("Deploy", "x") == fatal("no")


def test_what_is_returned_must_be_able_to_name_an_event() -> None:
    pack = Pack("P")

    async def text() -> str:
        raise AssertionError

    async def taken() -> Deployed:
        raise AssertionError

    with pytest.raises(TypeError, match="returns str; a command returns an Event, or a Struct"):
        pack.command()(text)
    pack.event("Deployed", payload=int)
    with pytest.raises(InputError, match="Deployed is declared already, with another payload"):
        pack.command()(taken)
