"""The state of one rendering while it runs."""

from collections.abc import Mapping

from flyteops.errors import TemplateLimitError
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.value import Value


class Scope:
    """The names that an expression sees, and the text printed so far.

    `given` are the names from outside, `local` those that the template binds itself, which come
    first; `bound` are all names that it binds anywhere.
    """

    __slots__ = ("_room", "bound", "env", "given", "local", "out", "source")

    def __init__(
        self, source: str, given: Mapping[str, object], bound: frozenset[str], env: Environment
    ) -> None:
        self.source = source
        self.given = given
        self.bound = bound
        self.env = env
        self.local: dict[str, Value] = {}
        self.out: list[str] = []
        self._room = env.limits.output_length

    def write(self, text: str) -> None:
        """Print a text."""
        self._room -= len(text)
        if self._room < 0:
            raise TemplateLimitError(
                f"the result is longer than {self.env.limits.output_length} characters (limit"
                " output_length); print less"
            )
        self.out.append(text)
