"""Pages for people.

All of their files come from this server, so that they work without the internet, and run nothing
else.
"""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from flyteops.errors import NotFoundError
from flyteops.web.api.request import Request
from flyteops.web.api.response import HeaderList, Response

HTML = b"text/html; charset=utf-8"
CONTENT_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".png": b"image/png",
}

OWN = Path(__file__).parent / "static"

INLINE = b"'self' 'unsafe-inline'"
"""The style sources of a page that cannot do without styles in its elements."""


class StaticPage:
    """A page and the files that it loads, read once; no other file is served."""

    def __init__(self, page: Path, files: Iterable[Path], *, styles: bytes = b"'self'") -> None:
        headers = _headers(styles)
        self._page = Response(200, page.read_bytes(), HTML, headers)
        self._files = {
            file.name: Response(200, file.read_bytes(), CONTENT_TYPES[file.suffix], headers)
            for file in files
        }

    async def page(self, request: Request) -> Response:
        return self._page

    async def file(self, request: Request) -> Response:
        name = request.params["name"]
        if name not in self._files:
            raise NotFoundError(f"There is no file {name!r} for the page.")
        return self._files[name]


def swagger_page() -> StaticPage:
    """Return the page for trying the API."""
    files = [
        _swagger_ui() / name
        for name in ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    ]
    return StaticPage(OWN / "swagger.html", [*files, OWN / "swagger.js"], styles=INLINE)


def hooks_page() -> StaticPage:
    """Return the page that shows hooks and their last calls.

    It requests them from the API, with a token if need be.
    """
    return StaticPage(OWN / "hooks.html", [OWN / "hooks.js", OWN / "hooks.css"])


def _headers(styles: bytes) -> HeaderList:
    return (
        (
            b"content-security-policy",
            b"default-src 'none'; script-src 'self'; style-src %b; img-src 'self' data:;"
            b" connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors"
            b" 'none'" % styles,
        ),
        (b"x-frame-options", b"DENY"),  # for browsers without support for frame-ancestors
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    )


def _swagger_ui() -> Path:
    spec = find_spec("flask_swagger_ui")  # found, not imported: it would bring Flask along
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(
            'The files of Swagger UI are missing; run `pip install -e ".[server]"` in the folder of'
            " Flyte's source."
        )
    return Path(spec.origin).parent / "dist"
