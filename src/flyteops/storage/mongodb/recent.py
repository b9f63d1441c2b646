"""The actions that this server has created and handed out a moment ago.

A result that comes for one of them can be decided without a look at the database: every change of
an action after it was taken has a new version of its execution, and a result is committed only at
the version that it was decided at. If that is not the present one, the database is looked at.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from flyteops.storage.mongodb.document import extra
from flyteops.storage.mongodb.driver import Document

KEPT = 5_000
"""The number of executions, and of actions, that are remembered."""

LARGEST = 16 * 1024
"""The size in bytes of an action above which it is not remembered."""

UNUSED = ("trigger", "input")
"""The fields of an action without which a result is decided."""


class RecentActions:
    """New executions of one action each, and these actions as they were handed out."""

    def __init__(self) -> None:
        self._runs: OrderedDict[str, Document] = OrderedDict()
        self._actions: OrderedDict[str, Document] = OrderedDict()

    def begun(self, run: Document) -> None:
        """Remember a new execution."""
        self._runs[run["_id"]] = run
        if len(self._runs) > KEPT:
            self._runs.popitem(last=False)

    def taken(self, action: Mapping[str, Any]) -> None:
        """Remember an action that was handed out, of a remembered execution.

        A later action of it exists because another server has decided the result of the first.
        """
        run = self._runs.get(action.get("correlationId", ""))
        if run is None or extra(action)["bytes"] > LARGEST:
            return
        if [member["id"] for member in run["actions"]] != [action["_id"]]:
            del self._runs[run["_id"]]
            return
        self._actions[action["_id"]] = {
            field: value for field, value in action.items() if field not in UNUSED
        }
        if len(self._actions) > KEPT:
            self._actions.popitem(last=False)

    def pop(self, action_id: str) -> tuple[Document, Document] | None:
        """Return an action and its execution, once; None if they are not both remembered."""
        action = self._actions.pop(action_id, None)
        run = None if action is None else self._runs.pop(action["correlationId"], None)
        return None if action is None or run is None else (action, run)
