"""The cost limit of several templates together."""

import math

from flyteops.errors import TemplateLimitError, TemplateTimeError


class Budget:
    """Bound the cost of the renderings that share it, one after the other.

    `what` names them in errors; `steps` and `room` (characters of their results) are the remaining
    budget; `deadline` is a reading of the runtime's clock, checked as often as the steps require,
    so that cheap templates pass after it.
    """

    __slots__ = ("_length", "_steps", "deadline", "room", "steps", "what")

    def __init__(
        self,
        what: str,
        *,
        steps: float = math.inf,
        length: float = math.inf,
        deadline: float = math.inf,
    ) -> None:
        self.what = what
        self.steps = self._steps = steps
        self.room = self._length = length
        self.deadline = deadline

    def renew(self, steps: float, length: float, deadline: float, *, taken: int = 0) -> None:
        """Reset the budget for other renderings, with a part of the length already used."""
        self.steps = self._steps = steps
        self._length = length
        self.room = length - taken
        self.deadline = deadline

    @property
    def made(self) -> float:
        """The number of characters of the length that are used."""
        return self._length - self.room

    def spend(self, steps: float, length: int) -> None:
        """Record the cost of a rendering; raise `TemplateLimitError` if its result does not fit."""
        self.steps = max(self.steps - steps, 0)
        self.room -= length
        if self.room < 0:
            raise TemplateLimitError(
                f"{self.what} make more than {self._length} characters together; print less"
            )

    def too_many_steps(self) -> TemplateLimitError:
        """Return the error for exhausted steps."""
        return TemplateLimitError(
            f"{self.what} take more than {self._steps} steps together; loop less or over fewer"
            " items"
        )

    def too_late(self) -> TemplateTimeError:
        """Return the error for a missed deadline."""
        return TemplateTimeError(f"{self.what} take too long together; do less in them")


UNBOUNDED = Budget("the templates")
"""The budget of renderings that do not share one; it is never reduced."""
