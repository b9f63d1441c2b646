"""The names that templates see; payloads are parsed when a template reads them."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import UNSET, Raw, UnsetType

from flyteops.document import decode_json
from flyteops.engine.edition2.document import EventHead, StepRecord
from flyteops.engine.edition2.plan import Plan
from flyteops.model import JsonValue

if TYPE_CHECKING:
    from flyteops.engine.edition2.rendering import StepRenderer

_UNREAD = object()


class LazyView(Mapping[str, object]):
    """A map that makes each of its values when it is read, once."""

    def __init__(self, makers: Mapping[str, Callable[[], object]]) -> None:
        self._makers = makers
        self._made: dict[str, object] = {}

    def __getitem__(self, name: str) -> object:
        value = self._made.get(name, _UNREAD)
        if value is _UNREAD:
            value = self._made[name] = self._makers[name]()
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def event_view(head: EventHead, payload: Callable[[], bytes]) -> LazyView:
    """Return an event as templates see it."""
    pack = head.pack
    return LazyView(
        {
            "Name": lambda: head.name,
            "Payload": lambda: decode_json(payload()),
            "Pack": lambda: {"Id": pack.id, "Name": pack.name, "Labels": pack.labels},
            "CreatedAt": lambda: head.created_at or head.received_at,
            "ReceivedAt": lambda: head.received_at,
        }
    )


def step_view(record: StepRecord) -> LazyView:
    """Return an entry of `Steps`: a step with a result."""
    return LazyView(
        {
            "Payload": lambda: _json(record.payload),
            "Event": lambda: record.result_name,
            "State": lambda: record.state,
            "Input": lambda: _json(record.input),
            "StartedAt": lambda: record.started_at,
            "FinishedAt": lambda: record.finished_at,
        }
    )


def _json(text: Raw | UnsetType) -> JsonValue:
    return None if text is UNSET else decode_json(bytes(text))


class StepsView(Mapping[str, object]):
    """The steps with a result, by id."""

    def __init__(self, steps: Mapping[str, StepRecord]) -> None:
        self._steps = steps

    def __getitem__(self, step_id: str) -> object:
        record = self._steps[step_id]
        if record.state is None:
            raise KeyError(step_id)
        return step_view(record)

    def __iter__(self) -> Iterator[str]:
        return (step_id for step_id, record in self._steps.items() if record.state is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class VarsView(LazyView):
    """The constants of a flow; they see none of the names."""

    def __init__(self, plan: Plan, renderer: "StepRenderer") -> None:
        super().__init__(
            {
                name: lambda value=value: renderer.value(value, {})  # type: ignore[misc]
                for name, value in plan.variables.items()
            }
        )


class Deferred(Mapping[str, object]):
    """A map that is made as a whole when it is first read."""

    def __init__(self, make: Callable[[], Mapping[str, object]]) -> None:
        self._make = make
        self._value: Mapping[str, object] | None = None

    def value(self) -> Mapping[str, object]:
        """Return the map."""
        if self._value is None:
            self._value = self._make()
        return self._value

    def __getitem__(self, key: str) -> object:
        return self.value()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.value())

    def __len__(self) -> int:
        return len(self.value())
