"""What several templates may cost together."""

import math

from flyteops.errors import TemplateLimitError


class Budget:
    """Bound what the renderings that share it may use, one after the other.

    `what` names them in errors; `steps` and `room` (characters of their results) are what is left; `deadline` is a reading of the
    runtime's clock, looked at as often as the steps say, so that cheap templates pass when it is over.
    """

    __slots__ = ("_length", "_steps", "deadline", "room", "steps", "what")

    def __init__(self, what: str, *, steps: float = math.inf, length: float = math.inf, deadline: float = math.inf) -> None:
        self.what = what
        self.steps = self._steps = steps
        self.room = self._length = length
        self.deadline = deadline

    def renew(self, steps: float, length: float, deadline: float, *, taken: int = 0) -> None:
        """Begin anew, for others, with a part of the length taken already."""
        self.steps = self._steps = steps
        self._length = length
        self.room = length - taken
        self.deadline = deadline

    @property
    def made(self) -> float:
        """How many characters of the length are used."""
        return self._length - self.room

    def spend(self, steps: float, length: int) -> None:
        """Note what one rendering took; raise `TemplateLimitError` when there is no room for its result."""
        self.steps = max(self.steps - steps, 0)
        self.room -= length
        if self.room < 0:
            raise TemplateLimitError(f"{self.what} make more than {self._length} characters together; print less")

    def too_many_steps(self) -> TemplateLimitError:
        """Return the error that the steps are used up."""
        return TemplateLimitError(f"{self.what} take more than {self._steps} steps together; loop less or over fewer items")

    def too_late(self) -> TemplateLimitError:
        """Return the error that the deadline is over."""
        return TemplateLimitError(f"{self.what} take too long together; do less in them")


UNBOUNDED = Budget("the templates")
"""The budget of renderings that share none; nothing is ever taken off it."""
