"""Measure the template language: `python bench/template.py [--against CHECKOUT]`.

With another checkout, both are measured in turns by processes of their own, batch by batch, and the
ratios of the best batches are printed: other work on the machine slows both alike.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

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
KINDS = ("renders", "compiles")
BATCH_SECONDS = 0.002
BATCHES = 10

Figures = dict[tuple[str, str], float]


def _context() -> Mapping[str, object]:
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
    return {"Event": event, "Context": {"Channel": "ops"}}


def _works() -> dict[tuple[str, str], Callable[[], object]]:
    context = _context()
    works: dict[tuple[str, str], Callable[[], object]] = {}
    for name, source in CASES.items():
        compiled = template.compile(source)
        works[name, "renders"] = lambda compiled=compiled: compiled.render(context)  # type: ignore[misc]
        works[name, "compiles"] = lambda source=source: template.compile(source)  # type: ignore[misc]
    return works


def _rate(work: Callable[[], object], repeat: int) -> float:
    """Return the rate of the best of some short batches."""
    best = 0.0
    for _ in range(BATCHES):
        start = time.perf_counter()
        for _ in range(repeat):
            work()
        best = max(best, repeat / (time.perf_counter() - start))
    return best


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer each line, a kind and a case, with the rate of the best batch."""
    works = _works()
    sizes = {key: max(int(_rate(work, 50) * BATCH_SECONDS), 1) for key, work in works.items()}
    for line in requests:
        kind, name = line.rstrip("\n").split(" ", 1)
        print(_rate(works[name, kind], sizes[name, kind]), file=answers, flush=True)


class Side:
    """A process that measures one checkout."""

    def __init__(self, checkout: Path, exits: ExitStack) -> None:
        self.best: Figures = {}
        self._process = exits.enter_context(
            subprocess.Popen(
                [sys.executable, __file__, "--serve"],
                env=os.environ | {"PYTHONPATH": str(checkout / "src")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        exits.callback(self._process.stdin.close)  # type: ignore[union-attr]

    def measure(self, name: str, kind: str) -> None:
        """Keep the rate of a case if it is the best so far."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        print(kind, name, file=process.stdin, flush=True)
        key = name, kind
        self.best[key] = max(self.best.get(key, 0.0), float(process.stdout.readline()))


def _measure(checkouts: Sequence[Path], rounds: int) -> list[Figures]:
    with ExitStack() as exits:
        sides = [Side(checkout, exits) for checkout in checkouts]
        for turn in range(rounds):
            for name in CASES:
                for kind in KINDS:
                    for side in sides if turn % 2 else reversed(sides):
                        side.measure(name, kind)
        return [side.best for side in sides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="a checkout of another commit")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(sys.stdin, sys.stdout)
        return
    here = Path(__file__).resolve().parents[1]
    ours, *others = _measure(
        [here, *([options.against] if options.against else [])], options.rounds
    )
    heads = [f"{kind}/s{ratio}" for kind in KINDS for ratio in ("", *(" ratio" for _ in others))]
    print(f"{'template':<12}", *(f"{head:>14}" for head in heads))
    for name in CASES:
        cells = []
        for kind in KINDS:
            rate = ours[name, kind]
            cells.append(f"{rate:>14,.0f}")
            cells.extend(f"{rate / other[name, kind]:>14.2f}" for other in others)
        print(f"{name:<12}", *cells)


if __name__ == "__main__":
    main()
