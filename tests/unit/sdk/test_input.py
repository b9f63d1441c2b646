"""What a command is called with, whatever its author writes and whatever a flow sends."""

import enum
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address, IPv6Network
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

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
    return msgspec.json.decode(pack_of(handler).declaration().registration())["commands"][0].get(
        "inputSchema"
    )


def done(payload: Any) -> Event:
    return Event("Done", payload)


async def deploy(
    app: str, version: str = "latest", *, replicas: int = 1, dry: bool = False
) -> Event:
    return done([app, version, replicas, dry])


async def test_several_parameters_are_the_fields_of_an_object() -> None:
    assert await outcome(deploy, {"app": "shop", "replicas": "3.000000", "dry": "true"}) == [
        "shop",
        "latest",
        3,
        True,
    ]
    assert input_schema(deploy)["$defs"]["DeployInput"]["properties"] == {
        "app": {"type": "string"},
        "version": {"type": "string", "default": "latest"},
        "replicas": {"type": "integer", "default": 1},
        "dry": {"type": "boolean", "default": False},
    }


async def test_one_parameter_after_the_star_is_a_field_and_a_trailing_underscore_frees_a_keyword() -> (
    None
):
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
        name, count = (
            (order["name"], order["count"])
            if isinstance(order, dict)
            else (order.name, order.count)
        )
        return done([name, count])

    assert await outcome(handler, {"name": "tea", "count": "2", "unknown": 1}) == ["tea", 2]
    properties = input_schema(handler)
    properties = (
        properties.get("properties") or next(iter(properties["$defs"].values()))["properties"]
    )
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
        (int, "7615917337495251231.000000", 7615917337495251231),
        (list[int], '["-7615917337495251231.000000"]', [-7615917337495251231]),
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
async def test_text_stands_for_what_a_template_cannot_render_otherwise(
    kind: Any, given: Any, read: Any
) -> None:
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
        (tuple[int, str], [1, 2], "[1]: must be text, not a number; put it into quotes"),
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

    # That is the point.
    async def unknown(value: "Itme") -> Event:  # type: ignore[name-defined] # noqa: F821
        raise AssertionError

    for handler, why in (
        (variable, r"takes \*names: str"),
        (by_place, "takes app by its place only"),
        (strange, "Struct"),
        (unknown, "does not know .name 'Itme' is not defined.: define it at the top"),
    ):
        with pytest.raises(TypeError, match=why):
            pack_of(handler)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (set[dict[str, int]], "elements of the type dict; use a list"),
        (list[frozenset[list[int]]], "elements of the type list"),
        (set[tuple[Item, ...]], "elements of the type Item"),
        (set[OrderClass], "elements of the type OrderClass"),
        (set[Model | None], "elements of the type Model"),
        (set[OrderDict], "elements of the type OrderDict"),
        (dict[tuple[int, int], str], "keys of an object in JSON are text"),
    ],
)
def test_sets_and_keys_that_no_value_can_fill_are_refused(kind: Any, why: str) -> None:
    async def handler(value: kind) -> Event:
        raise AssertionError

    with pytest.raises(TypeError, match=why):
        pack_of(handler)


@pytest.mark.parametrize(
    ("kind", "given", "count"),
    [(set[tuple[int, int]], "[[1, 2]]", 1), (set[Size], ["small"], 1), (set, "[1, 2]", 2)],
)
async def test_sets_of_what_can_be_hashed_are_read(kind: Any, given: Any, count: int) -> None:
    async def handler(value: kind) -> Event:
        return done(len(value))

    assert await outcome(handler, given) == count


# ------------------------------------------------------------------------------------------ answers


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
        return {"shop": Deployed(app), "old": Skipped(why="old")}.get(app) or NotDeployed(
            f"there is no {app}"
        )

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


# ------------------------------------------------------------------------ types that cannot be read


class Foreign:
    """A class that nobody can read from JSON."""


class Holder(msgspec.Struct):
    inner: list[Foreign]


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int = 0


class Late(TypedDict):
    when: "Unknown"  # type: ignore[name-defined] # noqa: F821 - that is the point


@pytest.mark.parametrize(
    "kind",
    [Foreign, list[Foreign], Foreign | None, Holder, Iterable[int], complex, Callable, object],
)
def test_a_type_that_cannot_be_read_is_refused_when_the_command_is_declared(kind: Any) -> None:
    async def whole(value: kind) -> Event:
        raise AssertionError

    async def fields(name: str, *, value: kind = None) -> Event:
        raise AssertionError

    for handler in (whole, fields):
        with pytest.raises(
            TypeError,
            match=(
                r"cannot take 'value': \w+ cannot be read from JSON; use a type that msgspec"
                r" knows"
            ),
        ):
            pack_of(handler)
    with pytest.raises(TypeError, match="the event Done cannot have this payload"):
        Pack("P").event("Done", payload=kind)


def test_a_name_that_is_unknown_at_run_time_is_refused_with_a_hint() -> None:
    async def inside(value: Late) -> Event:
        raise AssertionError

    # That is the point.
    async def strange(value: "int | 'x'") -> Event:  # type: ignore[name-defined] # noqa: F821
        raise AssertionError

    with pytest.raises(TypeError, match=r"'Unknown' is not defined.*not under `if TYPE_CHECKING:`"):
        pack_of(inside)
    with pytest.raises(TypeError, match=r"the parameters of .*strange cannot be read"):
        pack_of(strange)


@pytest.mark.parametrize(
    ("kind", "text", "wrong", "fault"),
    [
        (Path, "/tmp/x", "", "must be a path"),
        (PurePosixPath, "a/b", 3, "must be a path"),
        (IPv4Address, "192.0.2.7", "host", "must be an IPv4 address such as 192.0.2.1"),
        (
            IPv6Network,
            "2001:db8::/32",
            "2001:db8::1/32",
            "must be an IPv6 network such as 2001:db8::/32",
        ),
    ],
)
async def test_paths_and_addresses_are_text(kind: Any, text: str, wrong: Any, fault: str) -> None:
    async def handler(value: kind) -> Event:
        assert isinstance(value, kind)
        return done({"value": value})

    assert await outcome(handler, text) == {"value": text}
    assert await outcome(handler, wrong) == fault
    assert input_schema(handler)["type"] == "string"


@pytest.mark.parametrize(
    ("kind", "given", "read"),
    [
        (set[int], '["1", 2, "2.000000"]', [1, 2]),
        (frozenset[str], '["a"]', ["a"]),
        (tuple[int, ...], '["1", 2]', [1, 2]),
        (tuple[int, str], '["1.000000", "2"]', [1, "2"]),
        (Sequence[int], '["1"]', [1]),
        (list, '["1"]', ["1"]),
        (dict, '{"a": 1}', {"a": 1}),
        (Mapping[str, Level], '{"a": "1.000000"}', {"a": 1}),
        (Point, '["1", "2"]', [1, 2]),
        (set[int] | None, '["1"]', [1]),
        (set[int] | None, "", None),
        (Annotated[set[int], msgspec.Meta(min_length=1)], '["1"]', [1]),
        (int | list[int], '["1"]', [1]),
        (Level, "1.000000", 1),
        (Level, 2.0, 2),
        (Level | None, "2.000000", 2),
        (list[Level], '["1.000000"]', [1]),
        (Literal[1, 2], "2.000000", 2),
    ],
)
async def test_every_container_and_member_is_read_from_the_text_of_a_template(
    kind: Any, given: Any, read: Any
) -> None:
    async def handler(value: kind) -> Event:
        return done(sorted(value) if isinstance(value, set) else value)

    assert await outcome(handler, given) == read


@pytest.mark.parametrize(
    ("kind", "given", "fault"),
    [
        (set[int], '["1", "x"]', "[1]: must be a whole number, not text"),
        (tuple[int, str], '["1"]', "must be a list of length 2, got 1"),
        (Annotated[set[int], msgspec.Meta(min_length=1)], "[]", "must be a list of length >= 1"),
        (Level, "3.000000", "must be one of 1, 2"),
        (Level, "high", "must be one of 1, 2"),
        (int | list[int], "x", "must be a whole number or a list, not text"),
    ],
)
async def test_a_container_that_does_not_fit_is_refused_with_its_place(
    kind: Any, given: Any, fault: str
) -> None:
    async def handler(value: kind) -> Event:
        raise AssertionError

    assert await outcome(handler, given) == fault


# ------------------------------------------------------------------------------- kinds of functions


def traced(function: Any) -> Any:
    """Wrap a function as a decorator of a plain library does."""

    @functools.wraps(function)
    def wrapper(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    return wrapper


async def add(a: int, b: int) -> Event:
    return done(a + b)


class Greet:
    async def __call__(self, name: str) -> Event:
        return done(f"Hello {name}")


class Shout:
    def __call__(self, name: str) -> Event:
        return done(name.upper())


@pytest.mark.parametrize(
    ("handler", "name", "given", "payload"),
    [
        (traced(add), "Add", {"a": "1", "b": 2}, 3),
        (traced(traced(add)), "Add", {"a": "1", "b": 2}, 3),
        (functools.partial(add, a=1), "Add", {"b": "2.000000"}, 3),
        (functools.partial(add, 1), "Add", "2.000000", 3),
        (functools.partial(traced(add), 1), "Add", 2, 3),
        (functools.partial(Greet()), "Greet", "Ann", "Hello Ann"),
        (Greet(), "Greet", "Ann", "Hello Ann"),
        (Shout(), "Shout", "Ann", "ANN"),
        (functools.partial(Shout().__call__), "Call", "Ann", "ANN"),
    ],
)
async def test_whatever_can_be_called_is_a_command(
    handler: Any, name: str, given: Any, payload: Any
) -> None:
    pack = Pack("P")
    pack.command(events=[pack.event("Done")])(handler)
    async with PackTester(pack) as tester:
        assert await tester.run(name, given) == done(payload)


async def test_what_a_partial_binds_cannot_be_given_by_a_flow() -> None:
    assert await outcome(functools.partial(add, a=1), {"a": 100, "b": 2}) == 3


async def test_a_command_that_yields_is_refused() -> None:
    async def handler(name: str) -> AsyncIterator[Event]:
        yield done(name)

    def plain(name: str) -> Iterator[Event]:
        yield done(name)

    for each in (handler, plain, traced(handler)):
        with pytest.raises(TypeError, match="yields; a command returns one event"):
            pack_of(each)
