"""Goals, compared with measurements."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Figures = dict[str, Any]
"""Numbers, and names of what was measured."""

Found = Figures | list[Figures]


class Goal(NamedTuple):
    """A minimum or maximum for a figure."""

    name: str
    is_least: bool
    bound: float
    figure: Callable[[Mapping[str, Any]], float]
    """Looks a figure up; raises `LookupError` if it was not measured."""


def at(connections: int, name: str, client: str = "legacy") -> Callable[[Mapping[str, Any]], float]:
    """Return a function that looks up a figure of cycles with ten flows."""

    def look_up(found: Mapping[str, Any]) -> float:
        figure: float = next(
            row
            for row in found["cycles"]
            if (row["client"], row["connections"]) == (client, connections)
        )[name]
        return figure

    return look_up


def listening(count: int, name: str) -> Callable[[Mapping[str, Any]], float]:
    """Return a function that looks up a figure of many flows that listen to the same event."""

    def look_up(found: Mapping[str, Any]) -> float:
        rows = {row["listening"]: row for row in found["listeners"]}
        figure: float = rows[count][name]
        return figure

    return look_up


def of(part: str, name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda found: found[part][name]


GOALS = (
    Goal("cycles/s, 32 connections", True, 3_000, at(32, "cycles_per_s")),
    Goal("cycles/s, 128 connections", True, 4_000, at(128, "cycles_per_s")),
    Goal(
        "CPU of a cycle of the SDK, times an old client's, 32 connections",
        False,
        1.1,
        at(32, "cpu_ratio", "sdk"),
    ),
    Goal(
        "CPU of a cycle of the SDK, times an old client's, 128 connections",
        False,
        1.1,
        at(128, "cpu_ratio", "sdk"),
    ),
    Goal("p99 of events, ms, 32 connections", False, 15, at(32, "event_p99_ms")),
    Goal("p99 of takes, ms, 32 connections", False, 15, at(32, "take_p99_ms")),
    Goal("p99 of results, ms, 32 connections", False, 15, at(32, "result_p99_ms")),
    Goal("events/s that no flow listens to", True, 8_000, of("accepting", "events_per_s")),
    Goal("take with a backlog for others, times one without", False, 1.2, of("backlog", "ratio")),
    Goal(
        "from an event to a pack that waits, median, ms",
        False,
        5,
        of("waiting", "event_to_pack_p50_ms"),
    ),
    Goal(
        "CPU of packs that wait in vain, % of a core", False, 5, of("waiting", "their_cpu_percent")
    ),
    Goal("memory with packs that wait in vain, MB", False, 200, of("waiting", "memory_mb")),
    Goal(
        "cost of a cycle with the most flows, times the fewest",
        False,
        1.2,
        lambda found: found["flows"][-1]["ratio"],
    ),
    Goal(
        "cost of a cycle with the longest history, times the shortest",
        False,
        1.2,
        lambda found: found["history"][-1]["ratio"],
    ),
    Goal("cycles/s, 200 listen, times ten flows", True, 0.8, listening(200, "ratio")),
    Goal("cycles/s, 2,000 listen, times ten flows", True, 0.6, listening(2_000, "ratio")),
    Goal("cycles/s, 10,000 listen, times ten flows", True, 0.3, listening(10_000, "ratio")),
    Goal("memory, 10,000 listen, MB", False, 250, listening(10_000, "memory_mb")),
    Goal("saving a flow, 10,000 listen, ms", False, 50, listening(10_000, "save_ms")),
    Goal(
        "longest event meanwhile, 10,000 listen, ms",
        False,
        50,
        listening(10_000, "event_meanwhile_ms"),
    ),
    Goal(
        "bytes on the disk for an event, 200 listen",
        False,
        1_500,
        lambda found: found["record"][-1]["bytes_per_event"],
    ),
    Goal(
        "why a flow did not run, with the most events, ms",
        False,
        300,
        lambda found: max(row["why_ms"] for row in found["why"]),
    ),
)


def compared(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each goal that was measured with its figure, and whether it is met."""
    rows = []
    for goal in GOALS:
        try:
            figure = goal.figure(found)
        except LookupError:
            continue
        is_met = figure >= goal.bound if goal.is_least else figure <= goal.bound
        rows.append(
            {
                "goal": goal.name,
                "is_least": goal.is_least,
                "bound": goal.bound,
                "measured": figure,
                "is_met": is_met,
            }
        )
    return rows


def goal_table(goals: list[dict[str, Any]]) -> str:
    """Return goals as aligned text."""
    lines = [("", "wanted", "measured", "")]
    for goal in goals:
        wanted = f"{'>=' if goal['is_least'] else '<='} {goal['bound']:,}"
        lines.append(
            (
                goal["goal"],
                wanted,
                f"{goal['measured']:,.2f}",
                "met" if goal["is_met"] else "not met",
            )
        )
    return aligned(lines)


def table(rows: list[Figures]) -> str:
    """Return rows of figures as aligned text."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return aligned([names, *([_cell(row.get(name, "")) for name in names] for row in rows)])


def _cell(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".removesuffix(".00")


def aligned(lines: list[Any]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
