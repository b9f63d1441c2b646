"""The actions that packs work on, in memory until their results come."""

from flyteops.storage.sqlite.action_row import ActionRow

MAX_IN_FLIGHT = 5_000
"""The number of cached actions; beyond it, all are dropped, and read when they end."""


class InFlightCache:
    """PENDING actions as they were claimed, since most get their result next.

    Invariant: an entry equals the row that the database has once buffered rows are written, and its
    context is not left out. It may be `is_only_action` only if its execution has no other action.
    So any event but its own claim drops an entry: its result, its release or loss, the removal of
    its execution, and an event that adds to an execution that another event began.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, ActionRow] = {}

    def add(self, action: ActionRow) -> None:
        """Keep an action that was claimed, if its context is known."""
        if action.context:
            if len(self._by_id) >= MAX_IN_FLIGHT:
                self._by_id.clear()
            self._by_id[action.action_id] = action

    def find(self, action_id: str) -> ActionRow | None:
        """Return the action if it is cached."""
        return self._by_id.get(action_id)

    def discard(self, action_id: str) -> None:
        """Drop an action."""
        self._by_id.pop(action_id, None)

    def clear(self) -> None:
        """Drop all actions."""
        self._by_id.clear()
