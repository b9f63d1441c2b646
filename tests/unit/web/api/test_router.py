"""A path leads to its resource, with the values of its parameters, however often it is asked for."""

import pytest

from flyteops.web.api.router import MAX_KNOWN, MAX_KNOWN_LENGTH, Router

ROUTER = {"/v1/packs": "packs", "/v1/packs/{packId}": "pack", "/v1/packs/mine": "mine"}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v1/packs", ("packs", {})),
        ("/v1/packs/a", ("pack", {"packId": "a"})),
        ("/v1/packs/mine", ("mine", {})),
        ("/v1/packs/a/b", (None, {"packId": "a"})),
        ("/v1/packs/", (None, {})),
        ("/v2", (None, {})),
        (f"/v1/packs/{'a' * MAX_KNOWN_LENGTH}", ("pack", {"packId": "a" * MAX_KNOWN_LENGTH})),
    ],
)
def test_a_path_leads_to_the_same_resource_each_time(
    path: str, found: tuple[str | None, dict[str, str]]
) -> None:
    router = Router(ROUTER)
    assert [router.find(path) for _ in range(3)] == [found] * 3


def test_more_paths_than_are_remembered_lead_to_their_resources() -> None:
    router = Router(ROUTER)
    names = [f"p{number}" for number in range(3 * MAX_KNOWN)]
    for _ in range(2):
        assert [router.find(f"/v1/packs/{name}") for name in names] == [
            ("pack", {"packId": name}) for name in names
        ]
