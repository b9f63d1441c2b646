"""PostgreSQL: any number of servers on one database."""

from flyteops.storage.postgres.store import PostgresStore

__all__ = ["PostgresStore"]
