"""The page that shows hooks and their last calls. What it shows it asks of the API, with a token if need be."""

from flyteops.errors import NotFoundError
from flyteops.web.exchange import Call, Reply
from flyteops.web.swagger import OWN, page_headers

HEADERS = page_headers(b"'self'")


class HookPage:
    """The page and its files, read once."""

    def __init__(self) -> None:
        self._page = Reply(200, (OWN / "hooks.html").read_bytes(), b"text/html; charset=utf-8", HEADERS)
        self._files = {
            name: Reply(200, (OWN / name).read_bytes(), content_type, HEADERS)
            for name, content_type in (
                ("hooks.js", b"text/javascript; charset=utf-8"),
                ("hooks.css", b"text/css; charset=utf-8"),
            )
        }

    async def page(self, call: Call) -> Reply:
        return self._page

    async def file(self, call: Call) -> Reply:
        name = call.params["name"]
        if name not in self._files:
            raise NotFoundError(f"There is no file {name!r} for the page.")
        return self._files[name]
