"""What PostgreSQL does does not grow with what is there: how it looks for things, and how it
does many at once.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from bench.fill import fill, plan_of_take
from flyteops.errors import ConflictError
from flyteops.storage.postgres import PostgresStore
from flyteops.storage.query import EventFilter
from flyteops.testing.sample import NOTHING, WORKER, Sample, creating
from tests.postgres import place

pytestmark = [pytest.mark.postgres, pytest.mark.alone]


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with place() as url:
        yield url


async def test_a_take_looks_into_an_index_however_many_wait_for_others(url: str) -> None:
    async with PostgresStore(url):
        connection = await asyncpg.connect(url)
        await fill(connection, 20_000, "NEW")
        plan = await plan_of_take(connection)
        await connection.close()
    assert "Index Only Scan using flyte_action_waiting" in plan
    assert "Seq Scan on flyte_action" not in plan
    assert "Seq Scan on flyte_execution" not in plan


async def test_one_that_is_refused_among_many_does_no_harm_to_the_others(url: str) -> None:
    sample = Sample()
    events = [sample.event() for _ in range(30)]
    async with PostgresStore(url) as store:
        await store.record(events[7], NOTHING)
        answers = await asyncio.gather(
            *(store.record(event, NOTHING) for event in events), return_exceptions=True
        )
        assert len(await store.list_events(EventFilter(), 0, 100)) == 30
    assert [place for place, answer in enumerate(answers) if isinstance(answer, ConflictError)] == [
        7
    ]


async def test_many_that_ask_at_once_share_what_there_is(url: str) -> None:
    sample = Sample()
    async with PostgresStore(url) as store:
        await asyncio.gather(
            *(store.record(sample.event(), creating(sample.action())) for _ in range(40))
        )
        claims = (store.claim(WORKER, datetime.now(UTC), limit=3) for _ in range(20))
        handed_out = [
            [each.action_id for each in claimed] for claimed in await asyncio.gather(*claims)
        ]
    ids = [action_id for claimed in handed_out for action_id in claimed]
    assert len(ids) == len(set(ids)) == 40
    assert max(map(len, handed_out)) == 3


async def test_tables_whose_rows_die_often_have_autovacuum_settings_of_their_own(url: str) -> None:
    async with PostgresStore(url):
        connection = await asyncpg.connect(url)
        options = await connection.fetchval(
            "SELECT reloptions FROM pg_class WHERE oid = 'flyte_action'::regclass"
        )
        await connection.close()
    assert {
        "autovacuum_vacuum_scale_factor=0.01",
        "autovacuum_vacuum_cost_delay=0",
        "vacuum_index_cleanup=on",
    } <= set(options)
