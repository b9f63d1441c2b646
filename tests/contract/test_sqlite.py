"""The SQLite backend keeps the storage contract."""

from pathlib import Path

import pytest

from flyteops.storage.base import Store
from flyteops.storage.sqlite import SqliteStore
from flyteops.testing import StoreContract


class TestSqlite(StoreContract):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "flyte.db"

    def connect(self) -> Store:
        return SqliteStore(self.path)
