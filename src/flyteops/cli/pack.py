"""`flyte pack` runs installed packs; `flyte packs` manages those known to a server."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec

from flyteops.cli.api import DEFAULT_URL, connect, get_all, path
from flyteops.cli.command import FlyteGroup, json_option, url_option
from flyteops.cli.output import (
    SILENT,
    clean,
    coloured,
    format_age,
    format_ago,
    label_text,
    local_time,
    print_json,
    print_table,
)
from flyteops.model import JsonValue
from flyteops.packs import list_packs, manifest, prepare_all
from flyteops.packs.project import Project
from flyteops.sdk import Environment, Pack
from flyteops.sdk.client import Client
from flyteops.sdk.declaration import Check
from flyteops.sdk.group import run_packs
from flyteops.sdk.health import Endpoint, run_checks
from flyteops.web.api.schemas.wire import PackList, PackView

LIVE = timedelta(minutes=2)
"""The longest time since a running pack was last seen."""

CHECK_WITHIN = 20.0
"""Seconds for each check of a pack."""


@click.group(cls=FlyteGroup)
def pack() -> None:
    """Run packs, and list those installed here. `flyte packs` manages those known to the server."""


@pack.command("run")
@click.argument("names", metavar="PACK...", nargs=-1, required=True)
@click.option(
    "--name",
    "known_as",
    metavar="[PACK=]NAME",
    multiple=True,
    help="The name to register as; default: PACK_NAME, if only one pack is run, else its own name.",
)
@click.option(
    "--labels",
    metavar="KEY=VALUE,...",
    help="Labels that distinguish it from others of its name; default: FLYTE_LABELS.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Do not run the pack; check what it needs and report it. Exits with 1 on failure.",
)
@click.option("--attached", is_flag=True, hidden=True, help="Stop when standard input ends.")
@url_option
@click.pass_context
def run_pack(  # noqa: PLR0913, PLR0917 - one parameter for each option
    ctx: click.Context,
    names: tuple[str, ...],
    known_as: tuple[str, ...],
    labels: str | None,
    check: bool,
    attached: bool,
) -> None:
    """Run packs until SIGTERM or SIGINT; a second signal does not wait for running commands.

    PACK is the name of an installed pack, or its location: `module:pack`, or a file such as
    greeter.py. Packs read their settings from the environment: see the page of each. Several of
    them share a process: one that fails is restarted after a pause, without effect on the others.
    """
    renamed = _renamed(names, known_as)
    environ = {"FLYTE_API": ctx.meta.get("url"), "FLYTE_LABELS": labels}
    environs = [(name, _environ({**environ, "PACK_NAME": renamed.get(name)})) for name in names]
    if len(names) > 1 and os.environ.get("PACK_NAME", "").strip():
        raise click.UsageError(
            "PACK_NAME would give all of these packs the same name; use --name PACK=NAME."
        )
    prepared = prepare_all(environs)
    if check:
        ctx.exit(asyncio.run(_check(prepared)))
    if len(prepared) > 1:
        ctx.exit(run_packs(prepared, health=Endpoint().of(prepared[0][1])))
    only, environment = prepared[0]
    if attached:
        # Only what `flyte dev` starts needs it.
        from flyteops.cli.dev.child import run_attached  # noqa: PLC0415

        sys.exit(run_attached(only, environment))
    only.run(environment=environment)


def _renamed(names: tuple[str, ...], known_as: tuple[str, ...]) -> dict[str, str]:
    """Return the packs that get another name; for a single pack the name is enough."""
    renamed: dict[str, str] = {}
    for text in known_as:
        name, equals, other = text.rpartition("=")
        if not equals and len(names) > 1:
            raise click.BadParameter(
                f"which pack is {text}? Write PACK={text}.", param_hint="--name"
            )
        if equals and name not in names:
            raise click.BadParameter(f"{name} is not one of the packs to run.", param_hint="--name")
        renamed[name if equals else names[0]] = other
    return renamed


def _environ(given: Mapping[str, str | None]) -> dict[str, str]:
    environ = dict(os.environ)
    environ.update({name: value for name, value in given.items() if value is not None})
    if not environ.get("FLYTE_API", "").strip() and not environ.get("FLYTE_API_URL", "").strip():
        environ["FLYTE_API"] = DEFAULT_URL
    return environ


async def _check(prepared: Sequence[tuple[Pack, Environment]]) -> int:
    environment = prepared[0][1]

    async def find_server() -> str:
        async with Client.of(environment) as client:
            await client.link("pack/listPacks")
        return f"there is a server at {environment.api}"

    checks: dict[str, Check] = {"Flyte": find_server}
    for each, its_environment in prepared:
        declaration = each.declaration(its_environment)
        prefix = f"{declaration.name}/" if len(prepared) > 1 else ""
        checks |= {f"{prefix}{name}": check for name, check in declaration.checks.items()}
    outcomes = await run_checks(checks, CHECK_WITHIN)
    for name, health in outcomes.items():
        click.echo(clean(f"{name}: {health.status}"), err=not health.healthy)
    return 0 if all(health.healthy for health in outcomes.values()) else 1


@pack.command("new")
@click.argument("name")
def new_pack(name: str) -> None:
    """Create the project of a new pack, with a module, a passing test, and packaging.

    It gets a folder of its own here. Existing files are never changed.
    """
    project = Project.called(name)
    folder = project.write(Path())
    click.echo(f"created {folder} with {', '.join(project.files())}")
    click.echo(f"\n  cd {folder}\n  python -m pytest\n  flyte pack run {project.module}.py")


@pack.command("manifest")
@click.argument("pack_name", metavar="NAME")
def show_manifest(pack_name: str) -> None:
    """Print the manifest for the other side of a pack, such as an app of Slack."""
    click.echo(manifest(pack_name), nl=False)


@pack.command("list")
@json_option
def list_installed(as_json: bool) -> None:
    """List the packs that can be run here: Flyte's own, and those of other installed packages."""
    found = list_packs()
    if as_json:
        print_json(found)
        return
    rows = [[each.name, each.package, each.fault or "ready"] for each in found]
    print_table(["name", "package", "status"], rows, empty="No packs are installed.")


@click.group(cls=FlyteGroup)
def packs() -> None:
    """List, show and delete the registered packs. `flyte pack run` starts one."""


@packs.command("list")
@url_option
@json_option
async def list_registered(as_json: bool) -> None:
    """List the registered packs, by name."""
    async with connect() as client:
        content = await get_all(client, path("packs"), "packs")
    if as_json:
        print_json(content)
        return
    found = msgspec.json.decode(content, type=PackList).packs
    rows = [
        [
            each.id,
            liveness(each.last_seen, stopped_at=each.stopped_at),
            format_ago(each.last_seen),
            label_text(each.labels),
        ]
        for each in found
    ]
    print_table(
        ["id", "status", "last seen", "labels"],
        rows,
        empty="No pack has registered; `flyte pack run NAME` starts one.",
    )


def liveness(last_seen: str, now: datetime | None = None, *, stopped_at: str | None = None) -> str:
    """Return whether a pack was just seen: an idle one asks for work twice a minute.

    A stopped pack has reported its stop.
    """
    if stopped_at is not None:
        return f"stopped {format_ago(stopped_at, now)}"
    age = (now or datetime.now(UTC)) - datetime.fromisoformat(last_seen)
    return "live" if age <= LIVE else f"{SILENT}{format_age(last_seen, now)}"


@packs.command("show")
@click.argument("pack_id", metavar="ID")
@url_option
@json_option
async def show_pack(pack_id: str, as_json: bool) -> None:
    """Show a pack: its commands, and the events that it may send."""
    async with connect() as client:
        answer = await client.request("GET", path("packs", pack_id))
    if as_json:
        print_json(answer.content)
        return
    view = msgspec.json.decode(answer.content, type=PackView)
    seen = f"last seen {local_time(view.last_seen)} ({format_ago(view.last_seen)})"
    click.echo(
        f"pack {clean(view.id)}  {coloured(liveness(view.last_seen, stopped_at=view.stopped_at))},"
        f" {seen}"
    )
    if view.labels:
        click.echo(f"  labels   {clean(label_text(view.labels))}")
    if view.items:
        click.echo(clean(f"  reads    {', '.join(view.items)} of the datastore"))
    for command in view.commands:
        takes = fields(command.input_schema)
        click.echo(
            clean(
                f"  command  {command.name}{takes} →"
                f" {', '.join(command.events) or 'no events declared'}"
            )
        )
    for event in view.events:
        mark = "  (failure)" if event.failure else ""
        click.echo(clean(f"  event    {event.name}{fields(event.payload_schema)}{mark}"))


def fields(schema: JsonValue) -> str:
    """Return a summary of a JSON Schema: the fields of an object, with ? for optional ones."""
    whole = _object(schema)
    named = str(whole.get("$ref", "")).rpartition("/")[2]
    described = _object(_object(whole.get("$defs")).get(named, whole))
    properties, required = _object(described.get("properties")), described.get("required")
    if properties:
        needed = required if isinstance(required, list) else []
        return f"({', '.join(name if name in needed else f'{name}?' for name in properties)})"
    return f"({described['type']})" if isinstance(described.get("type"), str) else ""


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


@packs.command("delete")
@click.argument("pack_ids", metavar="ID...", nargs=-1, required=True)
@url_option
@json_option
async def delete_packs(pack_ids: tuple[str, ...], as_json: bool) -> None:
    """Delete packs. A running one registers again; the history of packs stays in the audit."""
    async with connect() as client:
        for pack_id in pack_ids:
            await client.request("DELETE", path("packs", pack_id))
            if not as_json:
                click.echo(f"deleted pack {pack_id}")
    if as_json:
        print_json({"deleted": pack_ids})
