"""The storage contract, as tests that every backend must pass without exceptions.

A backend's author subclasses `StoreContract`, defines `connect`, and lets pytest collect the
class::

    import pytest
    from flyteops.testing import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path / "my.db"

        def connect(self):
            return MyStore(self.path)

The tests are plain coroutine methods without fixtures, so `unittest.IsolatedAsyncioTestCase` runs
them just as well.
"""

from flyteops.testing.contract import StoreContract

__all__ = ["StoreContract"]
