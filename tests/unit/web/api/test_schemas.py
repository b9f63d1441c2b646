"""The small parts that the API's shapes are made of."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from flyteops.timeformat import format_timestamp, parse_timestamp
from flyteops.web.api import handlers
from flyteops.web.api.guard import is_own
from flyteops.web.api.link import base_of, collides, segment
from flyteops.web.api.media import wants_yaml
from flyteops.web.api.query import Query


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (datetime(2026, 3, 1, 12, 30, tzinfo=UTC), "2026-03-01T12:30:00Z"),
        (datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=UTC), "2026-03-01T12:30:00.25Z"),
        (datetime(2026, 3, 1, 12, 30, 10, 1, tzinfo=UTC), "2026-03-01T12:30:10.000001Z"),
        (
            datetime(2026, 3, 1, 12, 30, 10, tzinfo=timezone(timedelta(hours=14))),
            "2026-02-28T22:30:10Z",
        ),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z"),
    ],
)
def test_a_time_is_written_in_utc_without_trailing_zeros(at: datetime, text: str) -> None:
    assert format_timestamp(at) == text


@pytest.mark.parametrize("digits", range(10))
def test_a_time_is_read_with_any_precision_up_to_nanoseconds(digits: int) -> None:
    fraction = "." + "123456789"[:digits] if digits else ""
    at = parse_timestamp(f"2026-03-01T12:30:00{fraction}+00:00", "createdAt")
    assert at is not None
    assert at.microsecond == int("123456"[:digits].ljust(6, "0"))


def test_a_time_keeps_the_offset_that_it_came_with() -> None:
    at = parse_timestamp("2026-03-01T12:30:00-03:30", "createdAt")
    assert at is not None
    assert at.utcoffset() == -timedelta(hours=3, minutes=30)


@pytest.mark.parametrize(
    ("text", "written"),
    [("Argo.env.x", "Argo.env.x"), ("a/b", "a%2Fb"), ("a=b:c@d", "a=b:c@d"), ("ä%", "%C3%A4%25")],
)
def test_a_segment_escapes_only_what_it_must(text: str, written: str) -> None:
    assert segment(text) == written


def test_without_a_host_header_the_address_of_the_server_is_used() -> None:
    assert base_of({}, "http", ("127.0.0.1", 8080)) == "http://127.0.0.1:8080"
    assert base_of({}, "https", None) == "https://localhost"


@pytest.mark.parametrize(
    ("rel", "does"),
    [
        ("up", True),
        ("self", True),
        ("x/event", True),
        ("xevent", False),
        ("upper", False),
        ("", False),
    ],
)
def test_only_relations_that_clients_could_confuse_collide(rel: str, does: bool) -> None:
    assert collides(rel) == does


def test_an_accept_header_of_nonsense_is_not_a_wish_for_yaml() -> None:
    assert not wants_yaml(b",;=yaml;q,,")


@pytest.mark.parametrize("host", ["", ":", "[", "a:b:c", "a:99999999"])
def test_a_broken_host_owns_no_origin(host: str) -> None:
    assert not is_own("http://a", host)


@pytest.mark.parametrize(
    ("query", "page"),
    [(b"", (0, 50)), (b"start=7&limit=1000", (7, 1000)), (b"limit=1001", (0, 1000))],
)
def test_a_page_has_fifty_entries_and_a_thousand_at_most(
    query: bytes, page: tuple[int, int]
) -> None:
    assert handlers.page_of(Query(query)) == page
