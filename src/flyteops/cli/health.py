"""`flyte health`: the health check for container engines and other supervisors."""

import http.client
import os
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import click
import msgspec

from flyteops.cli.command import FlyteCommand
from flyteops.cli.output import clean
from flyteops.cli.root import remember_url
from flyteops.errors import FlyteError, UnavailableError
from flyteops.settings import Settings

SECONDS = 4.0
"""The time limit of the check: less than supervisors wait for this command."""


class HealthResponse(msgspec.Struct):
    """The fields read from a response; none of them if it is not from a Flyte server."""

    reasons: list[str] = []
    warnings: list[str] = []


@click.command(cls=FlyteCommand)
@click.option(
    "--ready",
    is_flag=True,
    help="Check that the server is ready, including its store, not only that it responds.",
)
@click.option(
    "--url",
    metavar="URL",
    expose_value=False,
    callback=remember_url,
    help="The server's address; default: from the settings.",
)
def health(ready: bool) -> None:
    """Check the health of a server; exit code 0 if healthy, 1 if not, 3 if it cannot be reached.

    With --ready, its warnings are printed as well, such as the progress of the conversion of a
    database of the original.

    Without --url it checks the server on this machine that the environment describes: FLYTE_HOST,
    FLYTE_PORT and TLS.
    """
    url = click.get_current_context().meta.get("url") or local_url(Settings.read(os.environ)[0])
    status, text = request_health(url, "/health/ready" if ready else "/health/live")
    answer = read_answer(text)
    for warning in answer.warnings:
        click.echo(f"warning: {clean(warning)}", err=True)
    if status != 200:
        raise FlyteError(refusal(url, status, text, answer.reasons))
    click.echo(f"{url} is {'ready' if ready else 'alive'}")


def read_answer(text: str) -> HealthResponse:
    """Read a response."""
    try:
        return msgspec.json.decode(text, type=HealthResponse)
    except msgspec.MsgspecError:
        return HealthResponse()


def refusal(url: str, status: int, text: str, reasons: Sequence[str]) -> str:
    """Return the error message for a server that is not healthy."""
    if not reasons:
        return f"{url} responded with {status}: {' '.join(text.split())[:500]}"
    return "\n  ".join([f"{url} is not ready:", *map(clean, reasons)])


def local_url(settings: Settings) -> str:
    """Return the URL of the server with these settings, as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    scheme = "https" if settings.has_tls else "http"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{settings.port}"


def request_health(url: str, path: str) -> tuple[int, str]:
    """Return the status and text of a response.

    The owner of the certificate does not matter here.
    """
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - nothing confidential is sent
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.netloc, timeout=SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(
            f"{url} cannot be reached: {str(error) or type(error).__name__};"
            " --url selects another server"
        ) from error
    finally:
        connection.close()
