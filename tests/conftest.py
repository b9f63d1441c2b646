"""For all tests."""

import gc

import pytest

# The contract suite is a package of ours, not a test module: without this its assertions would fail
# without a word.
pytest.register_assert_rewrite("flyteops.testing")

# All that is collected stays until the end: looking for garbage in it meanwhile takes a quarter of
# the time.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage from now on, and only in what the tests make."""
    gc.freeze()
    gc.enable()
