"""`flyte tokens`: the server's own tokens, for packs and people."""

import click

from flyteops.cli.api import connect, decode, path
from flyteops.cli.command import FlyteGroup, json_option, url_option
from flyteops.cli.output import format_ago, label_text, local_time, print_json, print_table
from flyteops.sdk.environment import labels as read_labels
from flyteops.service.token import READABLE
from flyteops.web.auth.tokens import CreateTokenRequest, NewToken, TokenList, TokenView


@click.group(cls=FlyteGroup)
def tokens() -> None:
    """Create, list and revoke tokens for packs and people.

    A pack's token lets it work as that pack and nothing else; an admin's token allows everything.
    Clients send the token in FLYTE_JWT.
    """


@tokens.command("create")
@click.option("--pack", metavar="NAME", help="For the pack with this name.")
@click.option(
    "--label",
    "pairs",
    metavar="KEY=VALUE",
    multiple=True,
    help="A label that the pack has; may be repeated.",
)
@click.option("--admin", is_flag=True, help="For a person or program with full access.")
@click.option(
    "--item",
    "items",
    metavar="KEY",
    multiple=True,
    help=(
        "A datastore item that the pack may read if it declares it; may be repeated. Without it,"
        " chatops."
    ),
)
@click.option(
    "--expires",
    metavar="DURATION",
    help="How long it is valid, such as 90d; default: until it is revoked.",
)
@click.option("--description", metavar="TEXT", default="", help="A description.")
@url_option
@json_option
async def create_token(  # noqa: PLR0913, PLR0917 - an option each
    pack: str | None,
    pairs: tuple[str, ...],
    admin: bool,
    items: tuple[str, ...],
    expires: str | None,
    description: str,
    as_json: bool,
) -> None:
    """Create a token, and print it: it cannot be shown again.

    export FLYTE_JWT="$(flyte tokens create --pack Slack)"
    """
    if (pack is None) is not admin:
        raise click.UsageError("give either --pack NAME or --admin", click.get_current_context())
    if items and admin:
        raise click.UsageError(
            "--item is for a pack; an admin may read every item", click.get_current_context()
        )
    order = CreateTokenRequest(
        pack=pack,
        labels=_labels(pairs),
        admin=admin,
        items=items or None,
        expires_in=expires,
        description=description,
    )
    async with connect() as client:
        answer = await client.request("POST", path("tokens"), json=order)
    if as_json:
        print_json(answer.content)
        return
    made = decode(answer.content, NewToken)
    click.echo(made.token)
    until = "it is revoked" if made.expires_at is None else local_time(made.expires_at)
    click.echo(
        f"This is the token {made.id}, valid until {until}. It is not shown again.", err=True
    )


def _labels(pairs: tuple[str, ...]) -> dict[str, str]:
    try:
        return {key: value for pair in pairs for key, value in read_labels(pair).items()}
    except ValueError as error:
        raise click.BadParameter(
            str(error), click.get_current_context(), param_hint="--label"
        ) from error


@tokens.command("list")
@url_option
@json_option
async def list_tokens(as_json: bool) -> None:
    """List the tokens, the oldest first."""
    async with connect() as client:
        answer = await client.request("GET", path("tokens"))
    if as_json:
        print_json(answer.content)
        return
    rows = [_row(token) for token in decode(answer.content, TokenList).tokens]
    empty = "No tokens; create one with `flyte tokens create`."
    print_table(["id", "for", "last used", "expires", "description"], rows, empty=empty)


def _row(token: TokenView) -> list[str]:
    items = f"reads {', '.join(token.items)}" if tuple(token.items) not in ((), READABLE) else ""
    whom = (
        "admin"
        if token.admin
        else " ".join(filter(None, [f"pack {token.pack}", label_text(token.labels), items]))
    )
    used = "never" if token.last_used_at is None else format_ago(token.last_used_at)
    return [
        token.id,
        whom,
        used,
        "never" if token.expires_at is None else local_time(token.expires_at),
        token.description,
    ]


@tokens.command("revoke")
@click.argument("token_ids", metavar="ID...", nargs=-1, required=True)
@url_option
@json_option
async def revoke_tokens(token_ids: tuple[str, ...], as_json: bool) -> None:
    """Revoke tokens: from now on, they are refused."""
    async with connect() as client:
        for token_id in token_ids:
            await client.request("DELETE", path("tokens", token_id))
            if not as_json:
                click.echo(f"revoked token {token_id}")
    if as_json:
        print_json({"revoked": token_ids})
