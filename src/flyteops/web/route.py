"""Which resource is at a path: a walk over its segments, however many resources there are."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from flyteops.web.exchange import Scope

App = Callable[[Scope, Any, Any], Awaitable[None]]


class _Place:
    __slots__ = ("app", "literal", "parameter", "under_parameter")

    def __init__(self) -> None:
        self.app: App | None = None
        self.literal: dict[str, _Place] = {}
        self.parameter = ""
        self.under_parameter: _Place | None = None


class Router:
    """Hands a request to the resource at its path; `{name}` in a path stands for any one segment, as it was sent.

    A literal segment goes before a parameter. Paths have one slash at the beginning and none at the end.
    """

    def __init__(self, resources: Mapping[str, App], default: App) -> None:
        self._default = default
        self._root = _Place()
        for path, app in resources.items():
            self._add(path, app)

    def _add(self, path: str, app: App) -> None:
        place = self._root
        for segment in path.split("/")[1:]:
            if segment.startswith("{"):
                place.parameter = segment.strip("{}")
                place.under_parameter = place.under_parameter or _Place()
                place = place.under_parameter
            else:
                place = place.literal.setdefault(segment, _Place())
        place.app = app

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        place = self._root
        parameters: dict[str, str] = {}
        for segment in scope["path"].split("/")[1:]:
            following = place.literal.get(segment)
            if following is None and segment and place.under_parameter is not None:
                parameters[place.parameter] = segment
                following = place.under_parameter
            if following is None:
                await self._default(scope, receive, send)
                return
            place = following
        scope["path_params"] = parameters
        await (place.app or self._default)(scope, receive, send)
