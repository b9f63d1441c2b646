"""The examples that come along do what they say, with a server, packs and a chat in processes of
their own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import start_server

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"
FLYTE = [sys.executable, "-m", "flyteops"]


class Place:
    """A server, a Shell pack, and the command `flyte`, in the folder above the examples."""

    def __init__(self, url):
        own = {
            "FLYTE_API": url,
            "FLYTE_PACK_POLL_INTERVAL": "100ms",
            "FLYTE_PACK_HEALTH_PORT": "off",
        }
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("FLYTE_", "PACK_"))
        }
        self.environment = kept | own

    def start(self, *words):
        return subprocess.Popen(
            [*FLYTE, *words], cwd=EXAMPLES.parent, env=self.environment, stderr=subprocess.DEVNULL
        )

    def flyte(self, *words, say=None):
        command = [*FLYTE, *words]
        done = subprocess.run(
            command,
            cwd=EXAMPLES.parent,
            env=self.environment,
            input=say,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def chat(self, line):
        return self.flyte("chat", "--wait", "20", say=f"{line}\n")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    process, url = start_server(tmp_path_factory.mktemp("examples"))
    place = Place(url)
    place.flyte("apply", "examples")
    for item in EXAMPLES.glob("*/datastore/*.json"):
        place.flyte("data", "set", item.stem, str(item))
    shell = place.start("pack", "run", "Shell")
    yield place
    shell.terminate()
    assert shell.wait(20) == 0
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


def test_hello_is_answered(place):
    assert "Hello " in place.chat("hello")


def test_bank_holidays_are_told_in_the_thread_of_the_question(place):
    printed = place.chat("flyte uk-bank-holidays 2027")
    assert "Bank holidays in England and Wales" in printed
    assert "2027-03-26  Good Friday" in printed
    assert "2028" not in printed
    lines = [line.strip() for line in place.flyte("why", "bank-holidays").splitlines()]
    (question,) = (
        line for line in lines if line.startswith("payload") and "uk-bank-holidays 2027" in line
    )
    timestamp = json.loads(question.removeprefix("payload "))["timestamp"]
    assert f" in {timestamp}]" in printed


@pytest.mark.slow
def test_holidays_of_a_year_that_is_not_in_the_file_are_not_known(place):
    assert "none that I know of" in place.chat("flyte uk-bank-holidays 1999")


@pytest.mark.slow
def test_the_inventory_is_listed_from_the_datastore(place):
    assert "local runs this demonstration in your house" in place.chat("inventory")


def test_a_host_of_the_inventory_is_looked_up(place):
    assert "127.0.0.1" in place.chat("inventory local")


@pytest.mark.slow
def test_an_unknown_host_is_not_in_the_inventory(place):
    assert "nowhere is not in the inventory" in place.chat("inventory nowhere")


def test_a_deployment_is_reported_with_who_and_what(place):
    assert "shop 1.2 is deployed: shop 1.2 answers on" in place.chat("deploy shop 1.2")


@pytest.mark.slow
def test_a_deployment_that_fails_says_why(place):
    assert "deploying shop 0.0 failed: there is no version 0.0 of shop" in place.chat(
        "deploy shop 0.0"
    )


@pytest.mark.slow
def test_an_application_that_may_not_be_deployed_is_refused(place):
    assert "I may not deploy bank; I know shop, search." in place.chat("deploy bank 1.0")


@pytest.mark.slow
def test_what_is_not_meant_for_a_flow_never_reaches_the_shell(place):
    before = place.flyte("executions", "list", "--json")
    place.flyte("chat", "--wait", "1", say="deploy shop 1.2; echo pwned\ninventory `id`\n")
    assert place.flyte("executions", "list", "--json") == before


def results(place, flow):
    """The standard output of the actions of the latest execution of a flow, in order."""
    execution = json.loads(place.flyte("executions", "list", "--flow", flow, "--json"))["flows"][0]
    ordered = sorted(
        execution["actions"].values(), key=lambda action: action["trigger"]["receivedAt"]
    )
    return [
        (action["input"], action.get("result", {}).get("payload", {}).get("stdout"))
        for action in ordered
    ]


def wait_for_results(place, flow, count):
    for _ in range(100):
        found = results(place, flow)
        if len(found) == count and all(output is not None for _, output in found):
            return found
    raise AssertionError(f"{flow} did not end: {found}")


def test_the_first_lesson_prints_what_a_pack_says(place):
    place.flyte("send-event", "--register", "MessageSender", "SendMessage", '"hello"')
    ((command, output),) = wait_for_results(place, "learn-one-step", 1)
    assert command == "echo -e the payload: hello the pack: MessageSender"
    assert output == "the payload: hello the pack: MessageSender\n"


def test_the_second_lesson_looks_at_the_message(place):
    place.flyte("send-event", "--register", "MessageSender", "SendMessage", '"hello"')
    assert (
        json.loads(place.flyte("executions", "list", "--flow", "learn-criteria", "--json"))["flows"]
        == []
    )
    place.flyte("send-event", "MessageSender", "SendMessage", '"deploy app1.0"')
    assert wait_for_results(place, "learn-criteria", 1) == [
        ("echo -e command: 'deploy app1.0'", "command: deploy app1.0\n")
    ]


@pytest.mark.slow
def test_the_second_lesson_takes_no_commands_from_anybody(place):
    place.flyte("send-event", "--register", "MessageSender", "SendMessage", '"deploy; echo mine"')
    ((_, output),) = wait_for_results(place, "learn-criteria", 1)
    assert output == "command: deploy; echo mine\n"


def test_the_third_lesson_has_two_steps_and_shared_configuration(place):
    place.flyte("send-event", "--register", "MessageSender", "SendMessage", '"10000"')
    assert wait_for_results(place, "learn-datastore", 2) == [
        ("echo -e 'teama@example.com'", "teama@example.com\n"),
        ("echo -e 'the second step has run'", "the second step has run\n"),
    ]


@pytest.mark.slow
def test_a_chat_in_slacks_place_is_slack_to_flows(place):
    flow = (
        (EXAMPLES / "hello" / "flow.yaml")
        .read_text()
        .replace("packName: Chat", "packName: Slack")
        .replace("name: hello", "name: slack")
    )
    printed = subprocess.run(
        [*FLYTE, "apply", "-"],
        env=place.environment,
        input=flow,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "created" in printed.stdout
    assert "Hello " in place.flyte("chat", "--name", "Slack", "--wait", "20", say="hello\n")
