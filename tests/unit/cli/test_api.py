"""Lists of the API as commands read them: whole, also when a server cuts its answers."""

import json
from types import SimpleNamespace

import pytest

from flyteops.cli.api import get_all, get_first

URL = "/v1/audit/events"


class CuttingServer:
    """A server with ten events, of which it sends at most three in an answer."""

    async def request(self, method, url, params=None):
        assert (method, url) == ("GET", URL)
        start, limit = (int((params or {}).get(name, least)) for name, least in WINDOW)
        events = list(range(10))[start : start + limit]
        links = [{"rel": "self", "href": URL}]
        if len(events) > 3:
            events = events[:3]
            links.append({"rel": "next", "href": f"{URL}?start={start + 3}&limit={limit}"})
        return SimpleNamespace(content=json.dumps({"events": events, "links": links}).encode())


WINDOW = (("start", 0), ("limit", 50))


@pytest.mark.parametrize("count", [1, 3, 4, 7, 10, 20])
async def test_as_many_entries_as_wanted_are_read_over_answers_that_are_cut(count):
    found = json.loads(await get_first(CuttingServer(), URL, "events", {}, count))
    assert found["events"] == list(range(10))[:count]
    assert [link["rel"] for link in found["links"]] == ["self"]


async def test_a_complete_list_is_read_over_answers_that_are_cut():
    assert json.loads(await get_all(CuttingServer(), URL, "events"))["events"] == list(range(10))
