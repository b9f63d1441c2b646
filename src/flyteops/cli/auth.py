"""`flyte auth`: the decision of an auth policy about a request, with its reason."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime

import click
import msgspec

from flyteops.cli.command import FlyteGroup
from flyteops.cli.output import clean
from flyteops.errors import FlyteError, UnauthorizedError
from flyteops.server.auth import load_policy
from flyteops.service.token import PREFIX
from flyteops.web.api.request import normal_path
from flyteops.web.auth.jwt import TokenParts, check_claims, read_token
from flyteops.web.auth.oidc import Issuer, OidcVerifier
from flyteops.web.auth.policy import Claims, PolicyMatch

STDIN = "-"


@click.group(cls=FlyteGroup)
def auth() -> None:
    """Explain the decisions of an auth policy."""


@auth.command("check")
@click.argument("method")
@click.argument("path")
@click.option(
    "--policy",
    metavar="FILE",
    envvar="FLYTE_AUTH_POLICY_PATH",
    required=True,
    help="The policy file.  [FLYTE_AUTH_POLICY_PATH]",
)
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="FLYTE_JWT",
    help="The token; - reads it from standard input.  [FLYTE_JWT]",
)
@click.option(
    "--issuer",
    metavar="URL",
    envvar="FLYTE_OIDC_ISSUER_URL",
    help="The required issuer.  [FLYTE_OIDC_ISSUER_URL]",
)
@click.option(
    "--audience",
    metavar="ID",
    envvar="FLYTE_OIDC_ISSUER_CLIENT_ID",
    help="The required audience.  [FLYTE_OIDC_ISSUER_CLIENT_ID]",
)
@click.option(
    "--offline",
    is_flag=True,
    help="Do not fetch the issuer's keys and do not verify the signature.",
)
async def check(  # noqa: PLR0913, PLR0917 - an option each
    method: str,
    path: str,
    policy: str,
    token: str | None,
    issuer: str | None,
    audience: str | None,
    offline: bool,
) -> None:
    """Show the decision of a server with this policy on a request, and the reason.

    The claims of the token are shown, its signature is not. The exit code is 0 if the request is
    let through, and 1 if not.
    """
    match = load_policy(policy).find(
        method.upper(), normal_path(path.partition("?")[0].encode().decode("latin-1"))
    )
    print_line(
        "entry", "none" if match is None else f"{match.entry.path}, in line {match.entry.line}"
    )
    if match is None:
        raise refused("the policy has no entry for it")
    print_line("needs", " or ".join(_wanted(match)) or "no token")
    if match.is_open:
        click.echo("let through")
        return
    if token is None:
        raise refused("it has no token")
    text = sys.stdin.read().strip() if token == STDIN else token.strip()
    if text.startswith(PREFIX):
        raise FlyteError(
            "this token was created by a Flyte server; `flyte tokens list` shows its validity and"
            " its bearer"
        )
    claims = await _checked(text, issuer, audience, offline=offline)
    for name, values in match.wanted():
        has = f"has {_json(claims[name])}" if name in claims else "has no such claim"
        print_line(f"  {name}", f"{has}; wanted is {' or '.join(map(_json, values))}")
    if not match.is_satisfied_by(claims):
        raise refused("the token has none of the claims")
    click.echo("let through" + (", if the issuer has signed the token" if offline else ""))


async def _checked(
    token: str, issuer: str | None, audience: str | None, *, offline: bool
) -> Claims:
    """Show a token and return its claims; raise the error of the server's answer."""
    try:
        parts = read_token(token)
        _show(parts)
        if issuer is None or audience is None:
            raise click.UsageError("give --issuer and --audience as in the server's settings")
        if offline:
            check_claims(parts.claims, issuer, audience, datetime.now(UTC))
            return parts.claims
        claims = await OidcVerifier(Issuer(issuer), audience).verify(token)
    except UnauthorizedError as error:
        raise refused(error.message.removesuffix(".")) from error
    print_line("signature", f"good, by a key of {issuer}")
    return claims


def _show(parts: TokenParts) -> None:
    key = "without key id" if parts.key_id is None else f"key {parts.key_id}"
    print_line("token", f"{parts.algorithm or 'no algorithm'}, {key}")
    for name, value in parts.claims.items():
        print_line(f"  {name}", _json(value) + _as_time(name, value))


def _as_time(name: str, value: object) -> str:
    if (
        name not in ("exp", "nbf", "iat", "auth_time")
        or isinstance(value, bool)
        or not isinstance(value, int | float)
    ):
        return ""
    try:
        return f"  {datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):
        return ""


def _wanted(match: PolicyMatch) -> Iterator[str]:
    for name, values in match.wanted():
        yield f"{name} = {' or '.join(map(_json, values))}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def print_line(label: str, text: str) -> None:
    """Print a line of the explanation."""
    click.echo(f"{clean(label):10} {clean(text)}")


def refused(why: str) -> FlyteError:
    """Return the error for a request that is refused."""
    return FlyteError(f"refused, with 401: {why[:1].lower()}{why[1:]}")
