"""The datastore items that a template may read, as its text shows them."""

import pytest

from flyteops.template.datastore import datastore_keys


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("{{ Event.Payload.message }}", set()),
        ("{{ datastore('rooms').ops }}", {"rooms"}),
        ("{% if datastore('a') == datastore(\"b\") %}true{% endif %}", {"a", "b"}),
        ("datastore('text')", set()),
        ("{{ Event.Payload.datastore }}", set()),
        ("{{ 'datastore(1)' }}", set()),
        ("{{ datastore(Event.Payload.room) }}", None),
        ("{{ datastore('a' + 'b') }}", None),
        ("{% set read = datastore %}{{ read('rooms') }}", None),
        ("{{ 'datastore(1)'|template }}", None),
        ("{{ template('x') }}", None),
    ],
)
def test_the_keys_are_those_of_constant_calls_and_unknown_otherwise(
    source: str, keys: set[str] | None
) -> None:
    assert datastore_keys(source) == keys
