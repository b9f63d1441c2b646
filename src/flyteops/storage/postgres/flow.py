"""The versions of flows, and their timetables."""

from collections.abc import Sequence

from flyteops.model import FlowVersion
from flyteops.storage.postgres.driver import Connection
from flyteops.storage.postgres.schema import changed
from flyteops.storage.row import version_row
from flyteops.storage.rules import next_time
from flyteops.transition import ScheduleEntry


async def save_flow(
    connection: Connection,
    again: bool,
    *,
    version: FlowVersion,
    timetables: Sequence[ScheduleEntry],
) -> None:
    """See `Store.save_flow`; when repeated, it may have been done before."""
    flow = version.flow
    # First, as concurrent servers that save flows wait for its row.
    await changed(connection, "flows")
    if again and await connection.fetchval(
        "SELECT 1 FROM flyte_flow_version WHERE uuid = $1", version.uuid
    ):
        return
    await connection.execute(
        "INSERT INTO flyte_flow_version VALUES ($1, $2, $3, $4)", *version_row(version)
    )
    await connection.execute(
        "INSERT INTO flyte_flow VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET uuid ="
        " excluded.uuid",
        flow.name,
        version.uuid,
    )
    rows = await connection.fetch(
        "DELETE FROM flyte_timetable WHERE flow_name = $1 RETURNING step_id, rule, next_at",
        flow.name,
    )
    kept = {(step_id, rule): next_at for step_id, rule, next_at in rows}
    for entry in timetables:
        await connection.execute(
            "INSERT INTO flyte_timetable VALUES ($1, $2, $3, $4, $5)",
            flow.name,
            entry.step_index,
            entry.step_id,
            entry.rule,
            next_time(entry, kept),
        )
