"""The inputs of an advance besides the document, the plan and the change."""

from collections.abc import Callable
from typing import NamedTuple

from flyteops.engine.context import EvaluationContext

IsFailure = Callable[[str, str], bool]
"""Return whether a result means failure by its name; the arguments are the pack and the name."""


def _absent(key: str) -> bytes:
    raise KeyError(key)


def _never(pack_name: str, name: str) -> bool:
    return False


class AdvanceContext(NamedTuple):
    """Time, chance and data of an advance.

    `payload` reads the payload of a recorded event by its id, `attachment` an attachment of the
    execution by its key. `has_tasks` says that the execution has tasks left, apart from the one
    that is carried out. `link` gives the address of an execution by its id.
    """

    evaluation: EvaluationContext
    payload: Callable[[str], bytes] = _absent
    attachment: Callable[[str], bytes] = _absent
    is_failure: IsFailure = _never
    link: Callable[[str], str] = "/executions/{}".format
    has_tasks: bool = False
