"""The whole page about commands in a chat, with auth on: a server, tokens, and the packs Chat,
Slack and Shell.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.blocks import blocks_of
from tests.e2e.server import READY
from tests.e2e.test_auth import flyte
from tests.provider import Provider, serving
from tests.slack import Slack

pytestmark = pytest.mark.slow

DOCS = Path(__file__).parents[2] / "docs"
PAGE = blocks_of(DOCS / "howto/chat-ops.md")
CHATOPS, DEPLOY = [
    next(block.text for block in PAGE if f"file={name}" in block.info)
    for name in ("chatops.json", "deploy.yaml")
]
(POLICY,) = [
    block.text for block in blocks_of(DOCS / "howto/let-people-in.md") if block.info == "policy"
]


@pytest.fixture(params=["tokens", "provider"])
def desk(request, serve, tmp_path):
    """A server, the environment of an admin, and a function that makes that of a pack."""
    if request.param == "tokens":
        server = serve(FLYTE_AUTH="tokens")
        url = server.read_until(READY)[1]
        admin = {
            "FLYTE_API": url,
            "FLYTE_JWT": (tmp_path / "flyte.db.admin-token").read_text().strip(),
        }

        def token_of(name):
            code, text, err = flyte("tokens", "create", "--pack", name, **admin)
            assert code == 0, err
            return {"FLYTE_API": url, "FLYTE_JWT": text.strip()}

        yield admin, token_of
        return
    (tmp_path / "policy.yaml").write_text(POLICY)
    with serving(Provider()) as provider:
        server = serve(
            FLYTE_AUTH_POLICY_PATH=str(tmp_path / "policy.yaml"),
            FLYTE_OIDC_ISSUER_URL=provider.url,
            FLYTE_OIDC_ISSUER_CLIENT_ID="flyte",
        )
        url = server.read_until(READY)[1]
        server.read_until("The issuer .* has 2 keys")
        admin = {"FLYTE_API": url, "FLYTE_JWT": provider.token(groups=["flyte-admins"])}

        def claims_of(name):
            return {
                "FLYTE_API": url,
                "FLYTE_JWT": provider.token(groups=["flyte-packs"], pack=name),
            }

        yield admin, claims_of


@pytest.fixture
def run_pack(tmp_path):
    packs = []

    def run(name, environ):
        env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("FLYTE_", "PACK_"))
        }
        env |= {**environ, "FLYTE_PACK_HEALTH_PORT": "off", "XDG_STATE_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "flyteops", "pack", "run", name]
        with (tmp_path / f"{name}.log").open("wb") as log:
            packs.append(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stderr=log))

    yield run
    for pack in packs:
        pack.terminate()
    for pack in packs:
        pack.wait(20)


def declare(desk, folder, name):
    """Declare the commands and the flow of the page, for a chat of that name."""
    (folder / "chatops.json").write_text(
        CHATOPS if name == "Chat" else CHATOPS.replace('"ann", "bob"', '"ann@test", "bob@test"')
    )
    (folder / "deploy.yaml").write_text(DEPLOY.replace("packName: Chat", f"packName: {name}"))
    admin, _ = desk
    assert flyte("data", "set", "chatops", str(folder / "chatops.json"), **admin)[0] == 0
    assert flyte("apply", str(folder / "deploy.yaml"), **admin)[0] == 0


def test_the_page_works_in_the_chat_with_its_own_token(desk, run_pack, tmp_path):
    admin, environ_of = desk
    declare(desk, tmp_path, "Chat")
    run_pack("Shell", environ_of("Shell"))
    lines = "help\ndeploy shop 1.2\n/me bob\napprove\n"
    code, said, err = flyte("chat", "--user", "ann", "--wait", "20", given=lines, **admin)
    assert (code, err) == (0, "")
    for part in (
        "`deploy {app} {version}",
        "ann asks for: deploy shop 1.2",
        "Approved by bob",
        "shop 1.2 runs on test",
    ):
        assert part in said
    code, said, err = flyte(
        "chat", "--user", "eve", "--wait", "2", given="deploy shop 1.2\n", **environ_of("Chat")
    )
    assert (code, "eve, you may not use `deploy`." in said) == (0, True)
    assert err.startswith(
        "flyte: answers of the first 2 s were shown; this token may not read executions"
    )
    code, shown, _ = flyte("packs", "show", "Chat", **admin)
    assert "reads    chatops of the datastore" in shown
    assert "stopped" in shown.splitlines()[0]


async def test_the_page_works_in_slack(desk, run_pack, tmp_path):
    _, environ_of = desk
    async with Slack() as slack:
        await asyncio.to_thread(declare, desk, tmp_path, "Slack")
        shell, environ = (
            await asyncio.to_thread(environ_of, "Shell"),
            await asyncio.to_thread(environ_of, "Slack"),
        )
        run_pack("Shell", shell)
        run_pack("Slack", slack.environ(**environ))
        await slack.connected()
        message = {
            "type": "message",
            "channel": "C1",
            "user": "U1",
            "text": "deploy shop 1.2",
            "ts": "1700000001.000100",
        }
        await slack.happen(message)
        await slack.until(
            lambda: "asks for: deploy shop 1.2" in json.dumps(slack.called("chat.postMessage"))
        )
        await slack.happen({**message, "user": "U2", "text": "approve", "ts": "1700000002.000100"})
        await slack.until(
            lambda: "shop 1.2 runs on test" in json.dumps(slack.called("chat.update"))
        )
    assert "cannot be used" not in (tmp_path / "Slack.log").read_text()


def test_a_pack_whose_token_names_other_items_is_told_so(serve, tmp_path):
    server = serve(FLYTE_AUTH="tokens")
    url = server.read_until(READY)[1]
    admin = {"FLYTE_API": url, "FLYTE_JWT": (tmp_path / "flyte.db.admin-token").read_text().strip()}
    declare((admin, None), tmp_path, "Chat")
    _, token, _ = flyte("tokens", "create", "--pack", "Chat", "--item", "teams", **admin)
    _, listed, _ = flyte("tokens", "list", **admin)
    assert "pack Chat reads teams" in listed
    code, said, err = flyte(
        "chat", "--wait", "1", given="deploy shop 1.2\n", FLYTE_API=url, FLYTE_JWT=token.strip()
    )
    assert (code, said) == (0, "")
    assert (
        "the datastore item chatops cannot be used: Neither the token nor the policy lets a pack"
        " read" in err
    )
    assert "flyte tokens create --item" in err
