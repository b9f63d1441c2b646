"""The inputs of an evaluation besides event and flows: time, chance, datastore and cost limits."""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import blake2b
from random import Random
from typing import NamedTuple, Self

import msgspec

from flyteops.document import decode_json
from flyteops.engine.subscribers import Subscribers
from flyteops.errors import TemplateError, TemplateRenderError
from flyteops.model import DEFAULT_BODY_LENGTH, DataItem, JsonValue
from flyteops.template import ABOUT_SECRETS, DEFAULT_LIMITS, Budget, Limits, Runtime

STEP_SECONDS = 1.0
"""The maximum time for all templates of one step together."""

EVENT_SECONDS = 2.0
"""The maximum time for all templates of all steps for one event.

After that, only templates that take next to no time pass.
"""

ACTION_LENGTH = 4_194_304
"""The maximum number of characters of an action: its rendered input and labels, and its context."""

EVENT_LENGTH = 33_554_432
"""The maximum number of characters of all actions of one event.

After it each may still have `SMALL_LENGTH`.
"""

SMALL_LENGTH = 65_536


class OutputLimits(NamedTuple):
    """The maximum lengths of texts: of a template, of an action, and of all actions of an event."""

    limits: Limits = DEFAULT_LIMITS
    action_length: int = ACTION_LENGTH
    event_length: int = EVENT_LENGTH
    body_length: int = DEFAULT_BODY_LENGTH

    @classmethod
    def for_bodies(cls, longest: int) -> Self:
        """Return limits that allow any text of a body of `longest` bytes, and some more."""
        length = max(DEFAULT_LIMITS.output_length, longest) + SMALL_LENGTH
        limits = replace(DEFAULT_LIMITS, output_length=length, value_length=length)
        # An action may hold the text twice: in its context, for later steps, and in its input.
        action_length, event_length = max(ACTION_LENGTH, 2 * length), max(EVENT_LENGTH, 4 * length)
        return cls(limits, action_length, event_length, longest)


BasisNumber = Callable[[Subscribers, Iterable[str]], int]
"""Returns the number under which flow versions and datastore items (by key) are stored.

Raises if they are not stored yet.
"""

ID_DIGITS = 13
"""The number of random hex digits of an id; those before them are its time."""


class DatastoreSnapshot:
    """The datastore at one moment, as templates see it.

    JSON is parsed at its first use. `secrets` are the keys of items that templates do not see.
    """

    def __init__(self, items: Mapping[str, DataItem], secrets: Container[str] = ()) -> None:
        self._items = items
        self._secrets = secrets
        self._values: dict[str, JsonValue] = {}

    def find(self, key: str) -> DataItem | None:
        """Return an item, without its value if it is a secret; None if there is none."""
        if key in self._secrets:
            return DataItem(key, "", b"", is_secret=True)
        return self._items.get(key)

    def __call__(self, key: str) -> JsonValue:
        """Return the item's value: JSON for JSON content types, else text.

        Raise `KeyError` if there is no such item.
        """
        if key not in self._values:
            if key in self._secrets:
                raise TemplateError(f"the datastore item {key} is a secret; write secret('{key}')")
            item = self._items[key]
            self._values[key] = (
                _parsed(item) if item.is_json else item.value.decode(errors="replace")
            )
        return self._values[key]


def _parsed(item: DataItem) -> JsonValue:
    try:
        return decode_json(item.value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise TemplateError(
            f"datastore item {item.key!r} is declared {item.content_type}, but is not JSON: {error}"
        ) from error


class EvaluationContext:
    """All inputs of an evaluation but the event and the flows, and the source of new ids.

    `seed` decides all randomness, `monotonic` (seconds) bounds the time of templates. `secret(name,
    form)` returns the placeholder of a secret, while the templates of an input are rendered
    (`is_input`). With a `basis_number`, decisions that can be computed again are left out of the
    evaluation, see `Basis`. `has_read_items`: the current step has read a datastore
    item; `late_steps` are the positions of the steps whose templates took too long.
    """

    is_input = False
    has_read_items = False
    _made = 0
    _step = b""
    _budget: Budget
    _runtime: Runtime | None = None
    _digits = ""
    _ends_at: float | None = None
    _random: Random | None = None

    def __init__(  # noqa: PLR0913 - all that is not pure comes from outside
        self,
        *,
        now: datetime,
        seed: bytes,
        datastore: Callable[[str], JsonValue],
        monotonic: Callable[[], float],
        secret: Callable[[str, str], str] | None = None,
        allowance: OutputLimits = OutputLimits(),  # noqa: B008 - it does not change
        basis_number: BasisNumber | None = None,
    ) -> None:
        self.allowance = allowance
        self.basis_number = basis_number
        self.late_steps: set[int] = set()
        self._room: float = allowance.event_length
        self.now = now
        self.seed = seed
        self.datastore = datastore
        self._secret = secret
        self.monotonic = monotonic
        self._time = f"{int(now.timestamp() * 1000):011x}"

    def begin_event(self) -> None:
        """Begin an evaluation, with a budget of its own."""
        self._room, self._ends_at = self.allowance.event_length, None
        self._runtime = None  # it has the budget of the evaluation before, if this one is repeated
        self.late_steps.clear()

    @property
    def runtime(self) -> Runtime:
        """The runtime of templates within a step; made on first use, as most events need none."""
        if self._runtime is None:
            self._runtime = Runtime(
                datastore=self._read_item,
                secret=self._refer,
                random=self._chances,
                now=self.now,
                clock=self.monotonic,
                limits=self.allowance.limits,
                budget=self._budget,
            )
        return self._runtime

    def _read_item(self, key: str) -> JsonValue:
        self.has_read_items = True
        return self.datastore(key)

    def _chances(self) -> Random:
        """Return the random numbers of the step, which no other step changes.

        Made at the first use, because seeding costs more than most templates.
        """
        if self._random is None:
            seed = blake2b(self._step, key=self.seed, digest_size=16).digest()
            self._random = Random(seed)  # noqa: S311 - templates use it, nothing else
        return self._random

    def _refer(self, name: str, form: str) -> str:
        """Return the placeholder of a secret; only the templates of inputs get it."""
        if not self.is_input:
            raise TemplateRenderError(ABOUT_SECRETS)
        if self._secret is None:
            raise KeyError(name)
        return self._secret(name, form)

    def begin_step(self, step: bytes, context: Mapping[str, str]) -> None:
        """Give the next step its share of the event's budget; `context` is carried over to it.

        `step` identifies it, and with the seed determines its random numbers.
        """
        self._step, self._random = step, None
        self.has_read_items = False
        now = self.monotonic()
        if self._ends_at is None:
            self._ends_at = now + EVENT_SECONDS
            self._budget = Budget("the templates of a step")
        length = min(self.allowance.action_length, max(self._room, SMALL_LENGTH))
        deadline = min(now + STEP_SECONDS, self._ends_at)
        taken = sum(map(len, context.values())) if context else 0
        self._budget.renew(DEFAULT_LIMITS.steps, length, deadline, taken=taken)

    def end_step(self) -> None:
        """Subtract the output of a step that runs from the event's remaining budget."""
        self._room -= self._budget.made

    def jitter(self) -> float:
        """Return a number from 0 to 1 derived from the seed.

        It leaves the random numbers of templates alone.
        """
        return blake2b(self.seed, digest_size=1, person=b"chance").digest()[0] / 255

    def new_id(self) -> str:
        """Return the next id.

        24 hex digits that begin with the milliseconds, so that ids made together are stored
        together.
        """
        if len(self._digits) < ID_DIGITS:
            self._made += 1
            self._digits = blake2b(self.seed + self._made.to_bytes(4)).hexdigest()
        digits, self._digits = self._digits[:ID_DIGITS], self._digits[ID_DIGITS:]
        return self._time + digits
