"""The commands that talk to a server: the server is a process, the commands run here."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from flyteops.cli import main
from tests.e2e.conftest import start_server

pytestmark = pytest.mark.slow

FLOW = """\
name: {name}
description: {description}
steps:
  - id: deploy
    event: {{packName: Chat, name: Said}}
    criteria: "{{{{ Event.Payload.text|match:'^deploy' }}}}"
    command: {{packName: Shell, name: Shell, input: "echo {{{{ Event.Payload.text|shellquote }}}}"}}
  - id: report
    dependsOn: [deploy]
    event: {{packName: Shell, name: Output}}
    command: {{packName: Chat, name: Say}}
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    process, url = start_server(tmp_path_factory.mktemp("server"))
    yield url
    process.terminate()
    assert process.wait(20) == 0
    process.stdout.close()


@pytest.fixture
def flyte(url, capfdbinary, monkeypatch):
    monkeypatch.setenv("FLYTE_API", url)

    def run(*args, stdin=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main(args)
        out, err = capfdbinary.readouterr()
        return ended.value.code, out.decode(), err.decode()

    return run


@pytest.fixture
def file(tmp_path):
    def write(name, description="Deploys", text=FLOW):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.format(name=name, description=description))
        return path

    return write


# -------------------------------------------------------------------------------------------- apply


def test_apply_tells_created_unchanged_and_changed_with_the_difference(flyte, file):
    path = file("applied")
    assert flyte("apply", str(path)) == (0, f"created    applied  {path}\n", "")
    assert flyte("apply", str(path)) == (0, f"unchanged  applied  {path}\n", "")
    file("applied", description="Deploys more")
    code, out, err = flyte("apply", str(path))
    assert (code, err) == (0, "")
    assert (
        out
        == f"changed    applied  {path}\n  -description: Deploys\n  +description: Deploys more\n"
    )


def test_apply_reads_standard_input(flyte):
    assert flyte("apply", "-", stdin=b"name: from-stdin\n")[:2] == (
        0,
        "created    from-stdin  stdin\n",
    )
    assert flyte("apply", "-", stdin=b'{"name": "from-stdin-json"}')[:2] == (
        0,
        "created    from-stdin-json  stdin\n",
    )


def test_apply_tells_every_problem_with_its_place_and_applies_the_others(flyte, file, tmp_path):
    file("good")
    command = "{{packName: B, name: C, input: '{{{{ 1|nofilter }}}}'}}"
    file("bad", text=f"name: bad\nsteps:\n  - event: {{{{packName: A}}}}\n    command: {command}\n")
    (tmp_path / "teams.json").write_text('{"a": 1}')
    code, out, err = flyte("apply", str(tmp_path))
    assert code == 1
    assert re.search(r"^created +good ", out, re.MULTILINE)
    assert re.search(r"^failed +- ", out, re.MULTILINE)
    assert f"{tmp_path}/bad.yaml:3:12: steps[0].event" in err
    assert (
        f"{tmp_path}/bad.yaml:4:44: steps[0].command.input: in the template, line 1, column 6: "
        in err
    )
    assert f"left out  {tmp_path}/teams.json is not a flow" in err
    assert flyte("flows", "show", "good")[0] == 0
    assert flyte("flows", "show", "bad")[0] == 1


def test_apply_saves_a_template_that_cannot_be_parsed_only_when_it_is_forced_to(flyte, file):
    step = (
        "- event: {{name: E, packName: A}}\n  criteria: '{{{{ 1 +'\n  command: {{name: C, packName:"
        " A}}\n"
    )
    path = file("faulty", text=f"name: faulty\nsteps:\n{step}")
    code, out, err = flyte("apply", str(path))
    assert (code, out) == (1, f"failed     -  {path}\n")
    assert "steps[0].criteria: in the template, line 1" in err
    assert flyte("flows", "show", "faulty")[0] == 1
    code, out, err = flyte("apply", "--force", str(path))
    assert (code, out) == (0, f"created    faulty  {path}\n")
    assert "steps[0].criteria: in the template, line 1" in err
    assert "(warning)" in err
    assert flyte("flows", "show", "faulty")[0] == 0


def test_apply_shows_advice_and_goes_on(flyte, file):
    path = file("advised", text=FLOW + "autor: me\n")
    code, out, err = flyte("apply", str(path))
    assert (code, out) == (0, f"created    advised  {path}\n")
    place = f"{path}:12:8: autor: the key 'autor' is ignored (warning)"
    assert err == f"  {place}\n      12 | autor: me\n         |        ^\n"


def test_a_dry_run_changes_nothing(flyte, file):
    code, out, err = flyte("apply", "--dry-run", str(file("dry")))
    assert (code, out.split()[0]) == (0, "created")
    assert "nothing was changed" in err
    assert flyte("flows", "show", "dry")[0] == 1


def test_a_dry_run_works_without_a_server(flyte, file):
    code, out, _ = flyte("apply", "--dry-run", str(file("offline")), "--url", "http://127.0.0.1:9")
    assert (code, out.split()[0]) == (0, "valid")


def test_apply_as_json(flyte, file):
    _, out, _ = flyte("apply", "--json", str(file("as-json")))
    (result,) = json.loads(out)
    assert (result["flow"], result["result"], result["problems"]) == ("as-json", "created", [])


# ------------------------------------------------------------------------------- list, show, delete


def test_flows_can_be_listed_shown_applied_again_and_deleted(flyte, file):
    flyte("apply", str(file("listed")))
    assert "listed  Deploys" in re.sub(" +", "  ", flyte("flows", "list")[1])
    assert "listed" in [
        flow["name"] for flow in json.loads(flyte("flows", "list", "--json")[1])["flows"]
    ]
    shown = flyte("flows", "show", "listed")[1]
    assert flyte("apply", "-", stdin=shown.encode())[1].startswith("unchanged")
    assert flyte("flows", "delete", "listed") == (0, "deleted flow listed\n", "")
    code, out, err = flyte("flows", "delete", "listed")
    assert (code, out) == (1, "")
    assert err == "flyte: there is no flow 'listed'\n"


def test_data_can_be_set_read_byte_for_byte_and_deleted(flyte, tmp_path, capfdbinary):
    file = tmp_path / "blob.bin"
    file.write_bytes(b"\x00\xff\r\n")
    assert (
        flyte("data", "set", "blob", str(file), "--description", "Bytes")[1]
        == "created datastore item blob\n"
    )
    assert (
        flyte("data", "set", "blob", str(file), "--description", "Bytes")[1]
        == "replaced datastore item blob\n"
    )
    with pytest.raises(SystemExit):
        main(["data", "get", "blob"])
    assert capfdbinary.readouterr().out == b"\x00\xff\r\n"
    assert "blob application/octet-stream Bytes" in re.sub(" +", " ", flyte("data", "list")[1])
    assert flyte("data", "delete", "blob")[0] == 0
    assert flyte("data", "get", "blob")[0] == 1


def test_faults_of_chat_commands_are_shown_when_they_are_set(flyte):
    wrong = {"commands": [{"pattern": "{app}", "help": 5}, {"pattern": "help"}]}
    code, out, err = flyte("data", "set", "chatops", "--value", json.dumps(wrong))
    assert (code, out) == (0, "created datastore item chatops\n")
    assert [line.partition("chatops: ")[2] for line in err.splitlines()][:-1] == [
        "commands[0]: Expected `str`, got `int` - at `$.help`",
        "commands[0]: '{app}' does not begin with a word, so it would match every message",
        "commands[1]: a command cannot begin with 'help', which has a meaning of its own",
    ]
    assert flyte("data", "set", "chatops", "--value", '{"commands": []}')[2] == ""
    assert "chatops" in flyte("data", "set", "chatops", "--value", "no JSON")[2]
    assert flyte("data", "delete", "chatops")[0] == 0


@pytest.mark.parametrize(
    ("args", "stdin", "content_type"),
    [
        (["teams.json"], b"", "application/json"),
        (["-"], b'{"a": 1}', "application/json"),
        (["--value", "{{ braces"], b"", "text/plain; charset=utf-8"),
        (["-"], b"plain", "text/plain; charset=utf-8"),
        (["-", "--content-type", "text/json"], b"[1]", "text/json"),
    ],
)
def test_the_content_type_is_what_one_would_say(
    flyte, url, tmp_path, monkeypatch, args, stdin, content_type
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teams.json").write_text("{}")
    assert flyte("data", "set", "typed/key", *args, stdin=stdin)[0] == 0
    assert httpx2.get(f"{url}/v1/datastore/typed%2Fkey").headers["content-type"] == content_type


def test_a_value_comes_from_one_place(flyte):
    assert flyte("data", "set", "x")[0] == 2
    assert flyte("data", "set", "x", "-", "--value", "y")[0] == 2


def test_a_server_with_nothing_says_how_to_begin(tmp_path, flyte):
    process, url = start_server(tmp_path)
    try:
        hints = [
            flyte("--url", url, *words.split())[1:]
            for words in ("flows list", "packs list", "data list", "executions list", "why")
        ]
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
    assert all("flyte " in out + err for out, err in hints)


# ----------------------------------------------------------------------------------- events and why


def test_an_event_is_sent_and_what_follows_is_told(flyte, file):
    flyte("apply", str(file("told")))
    flyte("send-event", "Chat", "Hello", "--register")
    code, out, err = flyte("send-event", "Chat", "Said", '{"text": "deploy shop"}')
    assert (code, err) == (0, "")
    assert re.match(r"sent event [0-9a-f]{24}\n", out)
    assert "ran  told / deploy: the criteria are true\n" in out
    assert '    Event.Payload.text = "deploy shop"\n' in out
    execution_id = re.search(r"ran  told / .*\n.*\n    flyte executions show ([0-9a-f]{24})", out)[
        1
    ]
    shown = flyte("executions", "show", execution_id)[1]
    assert "of flow told" in shown
    assert "deploy: Shell by pack Shell  NEW" in shown
    assert "input   echo 'deploy shop'" in shown
    assert "did not run: report" in shown


def test_why_explains_an_event_by_its_id(flyte, file):
    flyte("apply", str(file("by-id")))
    event_id = flyte("send-event", "Chat", "Said", "plain words", "--no-why", "--register")[
        1
    ].split()[-1]
    code, out, _ = flyte("why", event_id)
    assert code == 0
    assert f"event Said of pack Chat  {event_id}" in out
    assert "payload plain words" in out
    assert re.search(r"failed  by-id / deploy: .*\n    in criteria, line 1, column \d+\n", out)


def test_why_explains_a_flow(flyte, file):
    flyte("apply", str(file("explained")))
    flyte("send-event", "Chat", "Said", '{"text": "hello"}', "--register")
    out = flyte("why", "explained")[1]
    assert "skipped  explained / deploy: the criteria are false" in out
    assert " told / " not in out


def test_why_says_nothing_about_senders_of_events_that_only_a_filter_hides(flyte, file):
    flyte("apply", str(file("filtered")))
    flyte("send-event", "Chat", "Said", '{"text": "hello"}', "--register")
    out = flyte("why", "filtered", "--event", "Nothing")[1]
    assert "No event has reached a step of flow filtered that matches." in out
    assert "filtered / deploy waits for event Said of pack Chat" in out
    assert "has not sent it yet" not in out


def test_why_knows_a_flow_whose_name_looks_like_the_id_of_an_event(flyte, file):
    name = "abcdef" * 4
    flyte("apply", str(file(name)))
    assert f"No event has reached a step of flow {name} yet." in flyte("why", name)[1]


def test_why_names_the_schedule_of_a_flow_that_has_not_run(flyte, file):
    step = (
        "{id: yearly, schedule: {cron: 0 0 1 1 *, timeZone: UTC}, command: {name: C, packName: P}}"
    )
    flyte(
        "apply",
        str(
            file(
                "new-year",
                text="name: {name}\nsteps:\n- " + step.replace("{", "{{").replace("}", "}}"),
            )
        ),
    )
    assert "new-year / yearly runs on the schedule 0 0 1 1 * in UTC" in flyte("why", "new-year")[1]


def test_why_knows_what_a_flow_waits_for(flyte, file):
    path = file(
        "waiting",
        text=FLOW.replace("name: Said", "name: Sung").replace("packName: Chat", "packName: Choir"),
    )
    flyte("apply", str(path))
    assert "No event has reached a step of flow waiting yet." in flyte("why", "waiting")[1]
    assert "no pack Choir has registered" in flyte("why", "waiting")[1]
    flyte("send-event", "Choir", "Hummed", "--register")
    assert (
        "pack Choir has registered, but declares other events: Hummed" in flyte("why", "waiting")[1]
    )


def test_an_event_that_nobody_listens_to_is_told_with_what_comes_nearest(flyte, file):
    flyte("apply", str(file("near")))
    out = flyte("send-event", "Chat", "said", "--register")[1]
    assert "no step listens to event said of pack Chat" in out
    assert re.search(r"nearest: \S+ / deploy listens to event Said of pack Chat", out)


def test_an_event_for_a_later_step_only_is_told_so(flyte, file):
    flyte(
        "apply",
        str(
            file(
                "later",
                text=FLOW.replace("packName: Shell, name: Output", "packName: Bell, name: Rang"),
            )
        ),
    )
    out = flyte("send-event", "Bell", "Rang", "--register")[1]
    assert "later / report does, but depends on other steps" in out


@pytest.mark.parametrize("subject", ["no-such-flow", "0123456789abcdef01234567"])
def test_why_about_nothing_is_not_found(flyte, subject):
    code, out, err = flyte("why", subject)
    assert (code, out) == (1, "")
    assert subject in err


def test_a_pack_that_is_unknown_cannot_send(flyte):
    code, out, err = flyte("send-event", "Nobody", "Said")
    assert (code, out) == (1, "")
    assert "there is no pack 'Nobody'" in err
    assert "--register" in err


@pytest.mark.parametrize(
    ("args", "stdin", "payload"),
    [
        (["[1, 2.50]"], b"", [1, 2.5]),
        (["[1", "--no-why"], b"", "[1"),
        (["12", "--text"], b"", "12"),
        (["-"], b'{"a": null}', {"a": None}),
        ([], b"", None),
    ],
)
def test_a_payload_is_json_or_else_text(flyte, url, args, stdin, payload):
    flyte("send-event", "Payer", "Paid", *args, "--register", stdin=stdin)
    events = httpx2.get(
        f"{url}/v1/audit/events", params={"packName": "Payer", "limit": "1"}
    ).json()["events"]
    assert events[0]["payload"] == payload


def test_why_shows_the_event_that_explains_why_a_flow_stopped(flyte, file, url):
    flyte("apply", str(file("stopped")))
    flyte("send-event", "Chat", "Said", '{"text": "deploy shop"}', "--register")
    with httpx2.Client(base_url=f"{url}/v1/packs/") as client:
        client.post("", json={"name": "Shell"})
        action = client.post("Shell/actions/take")
        while action.status_code == 200:
            client.post(
                action.json()["links"][0]["href"], json={"event": "Failed", "payload": "disk full"}
            )
            action = client.post("Shell/actions/take")
    out = flyte("why", "stopped")[1]
    assert "event Failed of pack Shell" in out
    assert "  payload disk full\n" in out
    assert (
        "  the result of step deploy of flow stopped\n  no step of the flow listens to event Failed"
        " of pack Shell\n" in out
    )
    assert "  step report comes after deploy, but waits for event Output of pack Shell\n" in out
    assert "Failed" not in flyte("why", "stopped", "--event", "Said")[1]
    events = json.loads(flyte("why", "stopped", "--limit", "1", "--json")[1])["events"]
    assert [event["event"] for event in events] == ["Failed"]
    assert "deploy SUCCESS (Failed)" in flyte("executions", "list", "--flow", "stopped")[1]


def test_executions_show_failures_that_a_pack_has_registered_or_marked(flyte, file, url):
    flyte(
        "apply",
        str(
            file(
                "marked",
                text=FLOW.replace("Said", "Marked").replace("packName: Shell", "packName: Marker"),
            )
        ),
    )
    results = [{"event": "Broken"}, {"event": "Output", "failure": True}, {"event": "Output"}]
    with httpx2.Client(base_url=f"{url}/v1/packs/") as client:
        client.post("", json={"name": "Marker", "events": [{"name": "Broken", "failure": True}]})
        for result in results:
            flyte("send-event", "Chat", "Marked", '{"text": "deploy shop"}', "--register")
            action = client.post("Marker/actions/take").json()
            client.post(action["links"][0]["href"], json=result)
    listed = flyte("executions", "list", "--flow", "marked")[1]
    for ending in ("SUCCESS (Broken, failure)", "SUCCESS (Output, failure)", "SUCCESS (Output)"):
        assert f"deploy {ending}" in listed
    found = json.loads(flyte("executions", "list", "--flow", "marked", "--json")[1])["flows"]
    actions = {
        each["actions"]["deploy"]["result"]["event"]: each["actions"]["deploy"] for each in found
    }
    assert actions["Broken"]["outcome"] == "FAILED"
    assert (
        "SUCCESS (Broken, failure)"
        in flyte("executions", "show", actions["Broken"]["correlationId"])[1]
    )
    assert ", a failure" in flyte("why", "marked")[1]


def test_why_shows_events_that_no_longer_reach_a_flow_because_its_trigger_was_renamed(flyte, file):
    path = file("renamed")
    path.write_text(path.read_text().replace("name: Said", "name: OldName"))
    flyte("apply", str(path))
    flyte("send-event", "Chat", "OldName", '{"text": "no"}', "--register")
    path.write_text(path.read_text().replace("name: OldName", "name: Replaced"))
    flyte("apply", str(path))
    flyte("send-event", "Chat", "OldName", '{"text": "lost"}', "--register")
    out = flyte("why", "renamed", "--limit", "1")[1]
    assert (
        "no step listens to event OldName of pack Chat\n  flow renamed is started by event Replaced"
        " of this pack\n" in out
    )


def test_executions_are_listed_by_filters(flyte, file):
    flyte("apply", str(file("filtered")))
    flyte("send-event", "Chat", "Said", '{"text": "deploy"}', "--register")
    rows = flyte(
        "executions",
        "list",
        "--flow",
        "filtered",
        "--step",
        "deploy",
        "--action",
        "Shell",
        "--pack",
        "Shell",
    )[1]
    assert rows.splitlines()[1].split()[1] == "filtered"
    assert rows.splitlines()[1].endswith("deploy NEW")  # the latest comes first
    assert flyte("executions", "list", "--flow", "filtered", "--label", "env=lab")[1:] == (
        "",
        "No execution matches.\n",
    )
    assert flyte("executions", "list", "--label", "env")[0] == 2


def test_a_pack_is_shown_with_what_it_declares_and_forgotten(flyte):
    flyte("send-event", "Shown", "Seen", "--register")
    out = flyte("packs", "show", "Shown")[1]
    assert out.startswith("pack Shown  live, last seen ")
    assert "  event    Seen\n" in out
    assert "Shown" in flyte("packs", "list")[1]
    assert flyte("packs", "delete", "Shown")[1] == "deleted pack Shown\n"
    assert flyte("packs", "show", "Shown")[0] == 1


def test_the_version_of_the_server_is_shown(flyte):
    assert re.search(r"Server version:  \d", flyte("version")[1])


def test_the_earlier_uploads_still_work(flyte, file, tmp_path, url):
    assert (
        flyte("upload", "flow", "-f", str(file("uploaded")))[1]
        == f"Location: {url}/v1/flows/uploaded\n"
    )
    (tmp_path / "env.json").write_text("{}")
    assert (
        flyte("upload", "ds", "-f", str(tmp_path / "env.json"), "-d", "x")[1]
        == f"Location: {url}/v1/datastore/env\n"
    )
    assert flyte("upload", "flow", "-f", str(tmp_path / "flow.txt"))[0] == 1


def test_a_lost_action_is_listed_and_resolved(flyte, file, url):
    command = "{packName: Loser, name: Do, timeout: 100ms, onLost: ask}"
    flow = (
        "name: lost\nsteps:\n  - id: do\n    event: {packName: Loser, name: Asked}\n    command:"
        f" {command}\n"
    )
    assert (
        flyte("apply", str(file("lost", text=flow.replace("{", "{{").replace("}", "}}"))))[0] == 0
    )
    assert httpx2.post(f"{url}/v1/packs", json={"name": "Loser"}).status_code == 201
    assert flyte("send-event", "Loser", "Asked")[0] == 0
    taken = httpx2.post(f"{url}/v1/packs/Loser/actions/take?wait=10").json()
    assert (taken["command"], taken["leaseSeconds"]) == ("Do", 0.1)
    while "UNKNOWN" not in (listed := flyte("actions", "list", "--overdue", "--pack", "Loser")[1]):
        assert "Do" in listed or listed == ""
    action_id = re.search(r"^([0-9a-f]{24}) ", listed, re.MULTILINE)[1]
    assert flyte("actions", "resolve", action_id, "succeeded", "--payload", "{")[0] == 2
    assert flyte("actions", "resolve", action_id, "succeeded", "--event", "Done", "--payload", "1")[
        1
    ] == (f"action {action_id} has succeeded\n")
    code, _, err = flyte("actions", "resolve", action_id, "failed")
    assert code == 1
    assert "is SUCCESS" in err
    execution = flyte("executions", "list", "--flow", "lost", "--json")[1]
    correlation_id = json.loads(execution)["flows"][0]["correlationId"]
    assert "attempt 1 by pack Loser" in flyte("executions", "show", correlation_id)[1]


@pytest.mark.parametrize("words", ["flows list --json", "data get unread", "data show unread"])
def test_output_that_nobody_reads_any_more_is_no_drama(url, flyte, words):
    flyte("data", "set", "unread", "--value", "x")
    # The buffer is what may still complain at exit.
    env = os.environ | {"FLYTE_API": url, "PYTHONUNBUFFERED": ""}
    reading, writing = os.pipe()
    os.close(reading)
    process = subprocess.run(
        [sys.executable, "-m", "flyteops", *words.split()],
        env=env,
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert process.stderr == b""
    assert process.returncode == 1


@pytest.mark.parametrize("words", ["flows list --json", "version", "flows --help"])
def test_output_that_cannot_be_written_is_one_clear_line(url, words):
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            [sys.executable, "-m", "flyteops", *words.split()],
            env=os.environ | {"FLYTE_API": url},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert process.stderr == "flyte: the output cannot be written: No space left on device\n"
    assert process.returncode == 1


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../../v1/flows"])
def test_a_name_never_leads_to_another_resource(flyte, name):
    assert flyte("flows", "show", name)[0] == 1
    assert flyte("packs", "delete", name)[0] == 1
    assert flyte("data", "set", name, "--value", "kept")[0] == 0
    assert flyte("data", "get", name)[1] == "kept"
    assert flyte("data", "delete", name)[0] == 0


def test_an_empty_name_is_refused(flyte):
    code, _, err = flyte("flows", "delete", "")
    assert (code, err) == (1, "flyte: a name must not be empty\n")


def test_the_size_of_what_is_too_large_is_told_in_words(flyte, tmp_path):
    (tmp_path / "large").write_bytes(bytes(10 * 1024 * 1024 + 1))
    assert "larger than the 10 MiB" in flyte("data", "set", "large", str(tmp_path / "large"))[2]


def test_without_a_command_it_tells_what_there_is():
    for words in ([], ["flows"]):
        command = [sys.executable, "-m", "flyteops", *words]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (process.returncode, process.stderr) == (0, "")
        assert process.stdout.startswith("Usage: flyte")


def test_a_url_that_is_none_is_told_by_the_name_of_the_option():
    process = subprocess.run(
        [sys.executable, "-m", "flyteops", "flows", "list", "--url", "foo"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 2
    assert "--url: 'foo' is not an address such as http://localhost:8080" in process.stderr


def test_ctrl_c_ends_a_command_quietly():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        command = [
            sys.executable,
            "-m",
            "flyteops",
            "flows",
            "list",
            "--url",
            f"http://127.0.0.1:{silent.getsockname()[1]}",
        ]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        connection, _ = silent.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.strip()) == (130, "", "")


# --------------------------------------------------------------------------------------------- chat


PARROT = b"""\
name: parrot
steps:
  - event: {packName: Parrot, name: ReceivedMessage}
    command:
      packName: Parrot
      name: SendMessage
      input: {channelId: "{{ Event.Payload.channelId }}", message: "{{ Event.Payload.message }}!"}
"""


def test_a_chat_through_a_pipe_says_its_lines_and_stays_for_the_answers(url, flyte):
    flyte("apply", "-", stdin=PARROT)
    command = [sys.executable, "-m", "flyteops", "chat", "--name", "Parrot", "--user", "polly"]
    env = os.environ | {"FLYTE_API": url}
    done = subprocess.run(
        command, env=env, input="hello\n/nonsense\n", text=True, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert any(re.fullmatch(r"\[#general [\d.]+\] flyte: hello!", line) for line in lines)
    assert "! unknown command /nonsense; see /help" in lines


def test_a_chat_tells_what_it_did_not_wait_for(url, flyte, file):
    flyte(
        "apply",
        str(
            file(
                "slow",
                text=FLOW.replace(
                    "packName: Chat, name: Said", "packName: Talker, name: ReceivedMessage"
                ).replace("text|match:'^deploy'", "message|match:'^deploy'"),
            )
        ),
    )
    command = [sys.executable, "-m", "flyteops", "chat", "--name", "Talker", "--wait", "0.1"]
    done = subprocess.run(
        command,
        env=os.environ | {"FLYTE_API": url},
        input="deploy x\n",
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        "gave up waiting for: slow / deploy: Shell of pack Shell waits for a pack that takes it"
        in done.stderr
    )


def test_answers_that_another_chat_of_the_same_name_took_are_shown_all_the_same(url, flyte):
    flyte("apply", "-", stdin=PARROT)
    env = os.environ | {"FLYTE_API": url}
    command = [sys.executable, "-m", "flyteops", "chat", "--name", "Parrot"]
    other = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        words = [f"word {number}" for number in range(20)]
        done = subprocess.run(
            command, env=env, input="\n".join(words), text=True, capture_output=True, check=False
        )
    finally:
        other.terminate()
        other.communicate(timeout=20)
    assert (done.returncode, done.stderr, other.returncode) == (0, "", 0)
    assert sorted(line.rpartition(": ")[2] for line in done.stdout.splitlines()) == sorted(
        f"{word}!" for word in words
    )
