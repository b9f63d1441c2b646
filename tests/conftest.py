"""For all tests."""

import pytest

# The contract suite is a package of ours, not a test module: without this its assertions would fail without a word.
pytest.register_assert_rewrite("flyteops.testing")
