"""Takes on PostgreSQL after many actions: ``python -m bench.deadrows --store URL``.

Each row of the table is the median of some takes of one action each, directly from the store. Dead
rows are left by taken actions in the index of waiting ones; VACUUM removes them, unless a snapshot
still sees them.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from statistics import median
from typing import Any

import asyncpg

from bench.backend import place
from bench.fill import fill
from flyteops.storage.postgres import PostgresStore
from flyteops.testing.sample import WORKER, Sample, creating

TAKES = 41

SAMPLE = Sample()

CHURN = """
UPDATE flyte_action SET state = 'NEW', pack_name = 'Worker', labels = '{}', command = 'Work' WHERE
    seq <= $1
"""
BACK = (
    "UPDATE flyte_action SET state = 'SUCCESS', pack_name = 'Worker', labels = '{\"env\":\"else\"}'"
    " WHERE seq <= $1"
)


async def take(store: PostgresStore) -> float:
    """Return the duration of the median take in milliseconds."""
    times = []
    for _ in range(TAKES):
        await store.record(SAMPLE.event(), creating(SAMPLE.action()))
        began = time.perf_counter()
        (claimed,) = await store.claim(WORKER, datetime.now(UTC))
        times.append((time.perf_counter() - began) * 1000)
        assert claimed.action_id
    return median(times)


@asynccontextmanager
async def snapshot(url: str) -> AsyncIterator[None]:
    """Hold a snapshot, as a dump or a forgotten session does."""
    connection = await asyncpg.connect(url)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SELECT 1 FROM flyte_number")
        yield
    await connection.close()


async def measure(url: str, actions: int, dead: int) -> list[tuple[str, float]]:
    """Return the measurements, in order."""
    async with place(url) as (own_url, connection), PostgresStore(own_url) as store:
        await connection.execute("ALTER TABLE flyte_action SET (autovacuum_enabled = off)")
        rows = [("without a history", await take(store))]
        await fill(connection, actions, "SUCCESS")
        await connection.execute("VACUUM ANALYZE flyte_action")
        rows.append((f"after {actions:,} actions", await take(store)))
        await churn(connection, dead)
        rows.append((f"with {dead:,} dead rows", await take(store)))
        await connection.execute("VACUUM flyte_action")
        rows.append(("after VACUUM", await take(store)))
        async with snapshot(own_url):
            await churn(connection, dead)
            await connection.execute("VACUUM flyte_action")
            rows.append(
                (f"with {dead:,} dead rows and a long snapshot, after VACUUM", await take(store))
            )
        await connection.execute("VACUUM flyte_action")
        rows.append(("after the snapshot has ended, and VACUUM", await take(store)))
    return rows


async def churn(connection: Any, dead: int) -> None:
    """Let actions enter the queue and leave it."""
    await connection.execute(CHURN, dead, timeout=600)
    await connection.execute(BACK, dead, timeout=600)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, metavar="URL")
    parser.add_argument("--actions", type=int, default=1_000_000)
    parser.add_argument("--dead", type=int, default=98_000)
    given = parser.parse_args()
    for what, milliseconds in asyncio.run(measure(given.store, given.actions, given.dead)):
        print(f"{milliseconds:8.2f} ms  {what}")


if __name__ == "__main__":
    main()
