"""`flyte health`: what container engines and other watchmen ask."""

import http.client
import os
import ssl
from collections.abc import Sequence
from urllib.parse import urlsplit

import click
import msgspec

from flyteops.cli.command import Command
from flyteops.cli.output import clean
from flyteops.cli.root import remember_url
from flyteops.errors import FlyteError, UnavailableError
from flyteops.settings import Settings

SECONDS = 4.0
"""How long the answer may take: less than watchmen wait for this command."""


class Answer(msgspec.Struct):
    """What is read of an answer."""

    warnings: list[str] = []


@click.command(cls=Command)
@click.option("--ready", is_flag=True, help="Ask whether it can do its work, the store included, not only whether it answers.")
@click.option(
    "--url", metavar="URL", expose_value=False, callback=remember_url, help="The server's address; else that of the settings."
)
def health(ready: bool) -> None:
    """Ask a server whether it is well; exit code 0 if so, 1 if not, 3 if it cannot be reached.

    With --ready, its warnings are printed as well, such as how far a database of the original is converted.

    Without --url it is the one on this machine, where its settings in the environment say: FLYTE_HOST, FLYTE_PORT and TLS.
    """
    url = click.get_current_context().meta.get("url") or local_url(Settings.read(os.environ)[0])
    status, text = ask(url, "/health/ready" if ready else "/health/live")
    if status != 200:
        raise FlyteError(f"{url} answers with {status}: {' '.join(text.split())[:500]}")
    click.echo(f"{url} is {'ready' if ready else 'alive'}")
    for warning in warnings_in(text):
        click.echo(f"warning: {clean(warning)}", err=True)


def warnings_in(text: str) -> Sequence[str]:
    """Return the warnings of an answer, nothing when it is none of this server."""
    try:
        return msgspec.json.decode(text, type=Answer).warnings
    except msgspec.MsgspecError:
        return ()


def local_url(settings: Settings) -> str:
    """Return where the server with these settings is, as seen from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    return f"{'https' if settings.has_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{settings.port}"


def ask(url: str, path: str) -> tuple[int, str]:
    """Return status and text of an answer. Whose certificate it is does not matter for the question."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl._create_unverified_context()  # noqa: S323, SLF001 - nothing is told that anybody may not hear
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(parts.netloc, timeout=SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnavailableError(f"{url} cannot be reached: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()
