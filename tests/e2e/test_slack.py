"""Slack and a server with real processes in between: the flow of the pack's page, as a team
would run it.
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx2
import pytest

from tests.docs.blocks import blocks_of
from tests.slack import Slack

PAGE = Path(__file__).parents[2] / "docs/reference/packs/slack.md"
HELLO = {
    "type": "message",
    "channel": "C1",
    "user": "U1",
    "text": "hello",
    "ts": "1700000001.000100",
}


async def run_pack(environ: dict[str, str], *options: str) -> asyncio.subprocess.Process:
    own = {
        key: value for key, value in os.environ.items() if not key.startswith(("FLYTE_", "PACK_"))
    }
    command = (sys.executable, "-m", "flyteops", "pack", "run", "Slack", *options)
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *command, env=own | environ, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )


@pytest.mark.slow
async def test_the_flow_on_the_page_answers_with_a_button_and_says_who_pressed_it(
    server: str,
) -> None:
    (flow,) = [block.text for block in blocks_of(PAGE) if block.language == "yaml"]
    async with Slack() as slack, httpx2.AsyncClient(base_url=server) as http:
        answer = await http.post(
            "/v1/flows", content=flow, headers={"Content-Type": "application/x-yaml"}
        )
        assert answer.status_code == 201, answer.text
        environ = slack.environ(FLYTE_API=server, FLYTE_PACK_HEALTH_PORT="off")
        pack = await run_pack(environ)
        await slack.connected()
        await slack.happen(HELLO)
        await slack.happen(HELLO, retry=1)
        await slack.until(lambda: bool(slack.called("chat.postMessage")))
        button = slack.called("chat.postMessage")[0]["blocks"][1]["elements"][0]
        action = {
            "action_id": button["action_id"],
            "value": button["value"],
            "type": "button",
            "action_ts": "1.7",
        }
        place = {
            "channel": {"id": "C1"},
            "message": {"ts": "1700000000.000001"},
            "user": {"id": "U2"},
        }
        await slack.interact("interactive", {"type": "block_actions", **place, "actions": [action]})
        await slack.until(lambda: bool(slack.called("chat.update")))
        pack.terminate()
        output, _ = await pack.communicate()
    (posted,), (updated,) = slack.called("chat.postMessage"), slack.called("chat.update")
    assert (posted["channel"], posted["thread_ts"], posted["text"]) == (
        "C1",
        HELLO["ts"],
        "Hello Ann",
    )
    assert (updated["ts"], updated["text"]) == ("1700000000.000001", "Bob waves back to <@U1>")
    assert pack.returncode == 0, output.decode()
    assert "xoxb" not in output.decode()
    assert "Traceback" not in output.decode()


@pytest.mark.slow
async def test_the_check_and_a_wrong_token_are_one_line_and_an_exit_code(server: str) -> None:
    async with Slack() as slack:
        environ = slack.environ(FLYTE_API=server, FLYTE_PACK_HEALTH_PORT="off")
        pack = await run_pack(environ, "--check")
        output, _ = await pack.communicate()
        expected = f"Flyte: there is a server at {server}\nSlack: connected to Acme as flyte\n"
        assert (pack.returncode, output.decode()) == (0, expected)
        pack = await run_pack(environ | {"FLYTE_SLACK_APP_TOKEN": "xapp-no"}, "--check")
        output, _ = await pack.communicate()
        assert pack.returncode == 1
        assert "Slack: Slack refuses FLYTE_SLACK_APP_TOKEN: invalid_auth\n" in output.decode()
        pack = await run_pack(environ | {"FLYTE_SLACK_TOKEN": "xoxb-no"})
        output, _ = await pack.communicate()
        assert pack.returncode == 1
        assert (
            output.decode()
            .splitlines()[-1]
            .endswith("Slack stopped: Slack refuses FLYTE_SLACK_TOKEN: invalid_auth")
        )
        assert "Traceback" not in output.decode()
