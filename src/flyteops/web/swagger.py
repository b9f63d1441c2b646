"""The page on which people try the API. Everything it needs comes from this server, so that it works without the internet."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from flyteops.errors import NotFoundError
from flyteops.web.exchange import Call, HeaderList, Reply

CONTENT_TYPES: Mapping[str, bytes] = {
    "swagger-ui.css": b"text/css; charset=utf-8",
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "favicon-32x32.png": b"image/png",
}
"""The files of Swagger UI that the page loads; no other is given out."""

OWN = Path(__file__).parent / "static"


def page_headers(styles: bytes) -> HeaderList:
    """Return the headers of a page that runs nothing but its own files, with styles from these sources."""
    return (
        (
            b"content-security-policy",
            b"default-src 'none'; script-src 'self'; style-src %b; img-src 'self' data:; connect-src 'self'; "
            b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'" % styles,
        ),
        (b"x-frame-options", b"DENY"),  # for browsers that do not know frame-ancestors
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    )


PAGE_HEADERS = page_headers(b"'self' 'unsafe-inline'")


class SwaggerPage:
    """The page and its files, read once."""

    def __init__(self) -> None:
        self._page = Reply(200, (OWN / "swagger.html").read_bytes(), b"text/html; charset=utf-8", PAGE_HEADERS)
        self._files = {
            name: Reply(200, (_package() / name).read_bytes(), content_type, PAGE_HEADERS)
            for name, content_type in CONTENT_TYPES.items()
        }
        script = (OWN / "swagger.js").read_bytes()
        self._files["swagger.js"] = Reply(200, script, b"text/javascript; charset=utf-8", PAGE_HEADERS)

    async def page(self, call: Call) -> Reply:
        return self._page

    async def file(self, call: Call) -> Reply:
        name = call.params["name"]
        if name not in self._files:
            raise NotFoundError(f"There is no file {name!r} for the page.")
        return self._files[name]


def _package() -> Path:
    spec = find_spec("flask_swagger_ui")  # found, not imported: it would bring Flask along
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("The files of Swagger UI are missing; install flyteops[server].")
    return Path(spec.origin).parent / "dist"
