"""Measure the template language: `python bench/template.py`."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from flyteops import template

SOURCE = "{{ Event.Payload.message|match:'^deploy (\\\\w+)$' }}"
CASES = {
    "match": SOURCE,
    "path": "{{ Event.Payload.message }}",
    "text around": (
        "Deploying {{ Event.Payload.message|extractMatch:'^deploy (\\\\w+)$' }} to {{"
        " Context.Channel }}"
    ),
    "condition": (
        "{% if Event.Payload.n >= 3.0 && Event.Name == 'Said' %}yes{% else %}no{% endif %}"
    ),
    "loop of 10": "{% for x in Event.Payload.items %}{{ forloop.Counter }}:{{ x }} {% endfor %}",
}
SECONDS = 0.5


def rate(work: Callable[[], object]) -> float:
    work()
    best = 0.0
    for _ in range(4):
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < SECONDS / 4:
            for _ in range(200):
                work()
            count += 200
        best = max(best, count / (time.perf_counter() - start))
    return best


def main() -> None:
    now = datetime(2024, 1, 1, tzinfo=UTC)
    event = template.event_value(
        name="Said",
        payload={"message": "deploy web", "n": 3, "items": list("abcdefghij")},
        pack_id="Chat",
        pack_name="Chat",
        pack_labels={},
        created_at=now,
        received_at=now,
    )
    context = {"Event": event, "Context": {"Channel": "ops"}}
    print(f"{'template':<12} {'renders/s':>12} {'compiles/s':>12}")
    for name, source in CASES.items():
        compiled = template.compile(source)
        renders = rate(lambda compiled=compiled: compiled.render(context))  # type: ignore[misc]
        compiles = rate(lambda source=source: template.compile(source))  # type: ignore[misc]
        print(f"{name:<12} {renders:>12,.0f} {compiles:>12,.0f}")


if __name__ == "__main__":
    main()
