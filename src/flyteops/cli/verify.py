"""`flyte audit verify`: the check of the audit log, and of the store against it."""

import asyncio
import os
import re
from collections.abc import Mapping
from typing import Any

import click

from flyteops.cli.command import FlyteCommand, json_option
from flyteops.cli.output import clean, local_time, print_json
from flyteops.cli.store import checked_store
from flyteops.service.auditlog.entry import AuditEntry, ChainVerifier, Difference
from flyteops.storage import open_store

HEAD = re.compile(r"([0-9]{1,12}):([0-9a-f]{64})")

PAUSE = 2.0
"""Seconds until differences are checked again: a server may have been in the midst of a change."""


@click.command("verify", cls=FlyteCommand)
@click.option(
    "--store",
    metavar="URL",
    help="The store to read; default: that of `flyte serve` in this environment and folder.",
)
@click.option(
    "--expect",
    "expected",
    metavar="CHANGE:HASH",
    multiple=True,
    help="A change and its hash, as they were noted earlier; may be repeated.",
)
@json_option
async def verify(store: str | None, expected: tuple[str, ...], as_json: bool) -> None:
    """Detect tampering with the audit log or the store; exits with 1 if there is any.

    Reads the store itself, not a server, which may go on working meanwhile. Reports the first
    change that was modified, removed, inserted or moved, and everything in the store that differs
    from the changes. The removal of the newest changes, or the rewriting of all, can only be
    detected with changes noted earlier: name them with --expect; at least one must still be in the
    log. The server's log has each with its hash.
    """
    # Not part of the base install, which has `flyte audit changes`.
    from flyteops.service.auditlog.snapshot import take_snapshot  # noqa: PLC0415

    url = checked_store("--store", os.environ, store, must_be_there=True)
    anchors = _anchors(expected)
    found = await take_snapshot(open_store(url), anchors)
    if found.chain.fault is not None or found.differences():
        await asyncio.sleep(PAUSE)
        found = await take_snapshot(open_store(url), anchors)
    chain, differences = found.chain, found.differences()
    if as_json:
        print_json(_as_json(chain, differences))
    else:
        _print(chain, differences)
    # A rewritten log can begin behind all changes that were noted: then it is not known to be the
    # same.
    is_unproven = bool(anchors) and len(chain.unverifiable) == len(anchors)
    if is_unproven:
        message = (
            "flyte: none of the changes given with --expect is still in the log; note newer ones"
            " more often"
        )
        click.echo(message, err=True)
    if chain.fault is not None or differences or is_unproven:
        click.get_current_context().exit(1)


def _anchors(expected: tuple[str, ...]) -> Mapping[int, str]:
    found = [HEAD.fullmatch(each.strip().lower()) for each in expected]
    for text, each in zip(expected, found, strict=True):
        if each is None:
            message = (
                f"{text!r} is not a number, a colon and 64 hexadecimal digits, as `flyte audit"
                " verify` prints them"
            )
            raise click.BadParameter(message, click.get_current_context(), param_hint="--expect")
    return {int(each[1]): each[2] for each in found if each is not None}


def _print(chain: ChainVerifier, differences: list[Difference]) -> None:
    for change in chain.found:
        click.echo(
            f"change {change.seq} recorded that {clean(' '.join(change.resource))} changed outside"
            " the audit log"
        )
    if chain.fault is not None:
        click.echo(f"flyte: {clean(str(chain.fault))}", err=True)
        return
    for difference in differences:
        click.echo(f"flyte: {clean(_told(difference))}", err=True)
    if not differences:
        click.echo(
            f"{chain.seq - chain.base.seq:,} changes are unmodified, and the store matches them"
        )
    if chain.base.seq:
        click.echo(
            f"the oldest is {chain.base.seq + 1}: those up to {chain.base.head} were removed to"
            " bound the log"
        )
    for number in chain.unverifiable:
        click.echo(
            f"change {number} cannot be compared with --expect any more: it was removed to bound"
            " the log"
        )
    click.echo(f"the newest is {chain.head}")


def _told(difference: Difference) -> str:
    name = " ".join(difference.resource)
    entry = difference.entry
    if difference.former is not None:
        said = f"change {difference.former.seq}, which was removed to bound the log,"
        if difference.state is None:
            return f"{name} is not in the store, but {said} said that it is"
        return f"{name} is in the store, but not as {said} said"
    if entry is None:
        return f"{name} is in the store, but no change recorded its creation"
    if difference.state is None:
        return f"{name} is not in the store, but {_by(entry)} says that it is"
    return f"{name} is in the store, but not as {_by(entry)} says"


def _by(entry: AuditEntry) -> str:
    return f"change {entry.seq} ({entry.action} by {entry.who}, {local_time(entry.time)})"


def _as_json(chain: ChainVerifier, differences: list[Difference]) -> dict[str, Any]:
    return {
        "changes": chain.seq - chain.base.seq,
        "removed": chain.base.seq,
        "newest": chain.head,
        "fault": None if chain.fault is None else chain.fault._asdict(),
        "found": [change.seq for change in chain.found],
        "unverifiable": chain.unverifiable,
        "differences": [
            {
                "kind": each.resource[0],
                "name": each.resource[1],
                "change": None if each.entry is None else each.entry.seq,
            }
            for each in differences
        ],
    }
