"""The three flows of the specification, on all the paths that their authors had in mind."""

import pytest

from tests.support.model import Play

CI_FAILED = """
edition: 2
name: ci-failed
dedupe: {key: "{{ Event.Payload.body.workflow_run.id }}", within: 1h}
steps:
- {id: alert, event: {packName: Webhook, name: github},
   criteria: "{{ Event.Payload.event == 'workflow_run' and Event.Payload.body.workflow_run.conclusion == 'failure' }}",
   command: {packName: Slack, name: SendMessage, input: {channelId: ci, message: "Failed: {{ Event.Payload.body.workflow_run.html_url|quote_slack }}"}}}
- {id: seen, dependsOn: [alert], timeout: 10m, correlate: {event: "{{ Event.Payload.threadTimestamp }}", with: "{{ Steps.alert.Payload.timestamp }}"},
   event: [{packName: Slack, name: ReactionAdded, key: "{{ Event.Payload.item.timestamp }}"}, {packName: Slack, name: ReceivedMessage}]}
- {id: escalate, event: {resultOf: seen, name: TimedOut}, command: {packName: Email, name: SendEmail, input: {from: ci@example.com, to: [oncall@example.com], subject: CI is red}}}
"""

DEPLOY = """
edition: 2
name: deploy
concurrency: {key: "{{ Event.Payload.arguments.app }}"}
steps:
- {id: approval, event: {packName: Slack, name: CommandReceived}, criteria: "{{ Event.Payload.command == 'deploy' }}",
   context: {app: "{{ Event.Payload.arguments.app }}", channel: "{{ Event.Payload.channelId }}"},
   command: {packName: Flyte, name: Ask, input: {question: "Deploy {{ Context.app }}?", who: ["group:ops"], requestedBy: "Slack:{{ Event.Payload.user.id }}",
     within: 15m, where: {packName: Slack, channelId: "{{ Context.channel }}"}}}}
- {id: deploy, dependsOn: [approval], command: {packName: Shell, name: Shell, input: "./deploy {{ Context.app|shellquote }}"}}
- {id: verify, dependsOn: [deploy], command: {packName: Http, name: Request, input: {url: "https://{{ Context.app }}.example.com/"},
   retry: {attempts: 9, maxBackoff: 10s, on: [failed]}}}
- {id: done, dependsOn: [verify], command: {packName: Slack, name: SendMessage, input: {channelId: "{{ Context.channel }}", message: "{{ Context.app }} runs"}}}
- {id: rollback, event: [{resultOf: deploy, state: FAILED}, {resultOf: verify, state: FAILED}],
   command: {packName: Shell, name: Shell, input: "./rollback {{ Context.app|shellquote }}"}}
- {id: failed, event: {resultOf: rollback}, command: {packName: Flyte, name: Fail, input: {message: "rollback of {{ Context.app }}: {{ Steps.rollback.State }}"}}}
"""

DISK_FULL = """
edition: 2
name: disk-full
batch: {key: "{{ Event.Payload.body.commonLabels.cluster }}", within: 30s}
steps:
- {id: clean, event: {packName: Webhook, name: alertmanager},
   criteria: "{{ Event.Payload.event == 'firing' and Event.Payload.body.commonLabels.alertname == 'DiskFull' }}",
   forEach: {in: "{{ Event.Payload.events|map('payload.body.alerts')|flatten|map('labels.instance')|unique }}", parallel: 3},
   command: {packName: Shell, name: Shell, input: "ssh -- {{ Item|shellquote }} clean-disk"}}
- {id: verify, event: {resultOf: clean}, delay: 2m, forEach: {in: "{{ Event.Payload.results|select('state', 'SUCCEEDED')|map('item') }}"},
   command: {packName: Shell, name: Shell, input: "ssh -- {{ Item|shellquote }} disk-is-fine", retry: {backoff: 1m, on: [failed]}}}
- {id: page, event: {resultOf: verify}, criteria: "{{ Execution.FailedSteps|length > 0 }}",
   command: {packName: Slack, name: SendMessage, input: {channelId: ops, message: "Disks of {{ Trigger.Payload.key }} are still full: {{ Execution.Link }}"}}}
"""

# --------------------------------------------------------------------------------- ci-failed


def ci() -> Play:
    play = Play(CI_FAILED)
    run(play, 1)
    return play


def run(play: Play, number: int, conclusion: str = "failure") -> None:
    body = {"workflow_run": {"id": number, "conclusion": conclusion, "html_url": "https://ci/<1>"}}
    play.send("Webhook", "github", {"event": "workflow_run", "body": body})


def test_a_failed_build_is_announced_once_an_hour():
    play = ci()
    run(play, 1)
    run(play, 2, "success")
    run(play, 3)
    assert [e.flow.name for e in play.executions] == ["ci-failed", "ci-failed"]
    assert play.open_actions[0].input["message"].startswith("Failed: https://ci/")
    assert "<1>" not in play.open_actions[0].input["message"]


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("ReactionAdded", {"item": {"timestamp": "17.5"}, "threadTimestamp": "9.9"}),
        ("ReceivedMessage", {"threadTimestamp": "17.5", "message": "on it"}),
    ],
)
def test_a_reaction_or_a_reply_ends_the_alarm(name, payload):
    play = ci()
    play.do("MessageSent", {"timestamp": "17.5"}, pack="Slack")
    play.send("Slack", "ReceivedMessage", {"threadTimestamp": "1.1"})
    play.send("Slack", "ReceivedMessage", {"timestamp": "17.5"})
    play.wait("9m59s")
    assert play.steps["seen"] is None
    play.send("Slack", name, payload)
    assert play.execution.state == "SUCCEEDED"
    play.wait("1h")
    assert play.open_actions == ()


def test_an_alarm_that_nobody_sees_is_escalated():
    play = ci()
    play.do("MessageSent", {"timestamp": "17.5"}, pack="Slack")
    play.wait("10m")
    assert play.open_actions[0].input["to"] == ["oncall@example.com"]
    play.do("EmailSent", pack="Email")
    assert play.execution.state == "SUCCEEDED"
    assert play.steps == {"alert": "SUCCEEDED", "seen": "FAILED", "escalate": "SUCCEEDED"}


def test_an_alarm_that_cannot_be_sent_has_failed():
    play = ci()
    play.do("SendMessageFailed", failure=True, pack="Slack")
    assert play.execution.state == "FAILED"
    assert play.last("StepFailed")["step"] == "alert"
    assert play.waits == ()


# ------------------------------------------------------------------------------------ deploy

PEOPLE = {"chatops": {"groups": {"ops": ["Slack:U1", "bob@example.com"]}}}


def deployment(app: str = "shop", play: Play | None = None) -> Play:
    play = play or Play(DEPLOY, datastore=PEOPLE)
    payload = {
        "command": "deploy",
        "arguments": {"app": app},
        "channelId": "C1",
        "user": {"id": "U1"},
    }
    play.send("Slack", "CommandReceived", payload)
    return play


def approved() -> Play:
    play = deployment()
    play.answer(play.questions[0].question_id, "approve", "bob@example.com")
    return play


def test_an_approved_deployment_is_verified_and_announced():
    play = approved()
    assert play.do("Output", pack="Shell").input == "./deploy shop"
    assert play.do("Response", {"status": 200}, pack="Http").input == {
        "url": "https://shop.example.com/"
    }
    assert play.do("MessageSent", pack="Slack").input == {"channelId": "C1", "message": "shop runs"}
    assert play.execution.state == "SUCCEEDED"
    assert list(play.steps) == ["approval", "deploy", "verify", "done"]
    assert play.names() == ["Answered"]


def test_the_question_is_asked_where_the_command_was_given_and_others_answer():
    play = deployment()
    question = play.questions[0]
    assert (question.text, question.where) == (
        "Deploy shop?",
        {"packName": "Slack", "channelId": "C1"},
    )
    assert question.requested_by == "Slack:U1"
    for person in ("Slack:U1", "eve@example.com"):
        with pytest.raises(Exception, match=person):
            play.answer(question.question_id, "approve", person)


@pytest.mark.parametrize("end", ["refuse", "time"])
def test_a_deployment_that_is_not_approved_has_failed_and_does_not_run(end):
    play = deployment()
    if end == "refuse":
        play.answer(play.questions[0].question_id, "refuse", "bob@example.com", "not now")
    else:
        play.wait("15m")
    assert play.execution.state == "FAILED"
    assert play.steps == {"approval": "FAILED"}
    assert play.open_actions == ()


def test_a_failed_deployment_is_rolled_back_and_never_announced_as_done():
    play = approved()
    play.do("Output", {"exit_code": 1}, pack="Shell", failure=True)
    assert play.do("Output", pack="Shell").input == "./rollback shop"
    assert play.execution.state == "FAILED"
    assert play.execution.message == "rollback of shop: SUCCEEDED"
    assert play.steps == {
        "approval": "SUCCEEDED",
        "deploy": "FAILED",
        "rollback": "SUCCEEDED",
        "failed": "FAILED",
    }
    assert [e.payload["reason"] for e in play.events if e.name == "StepFailed"] == ["fail"]


def test_a_deployment_that_is_not_healthy_after_nine_attempts_is_rolled_back():
    play = approved()
    play.do("Output", pack="Shell")
    for attempt in range(9):
        assert play.open == ["verify"], attempt
        play.do("Response", {"status": 503}, pack="Http", failure=True)
        play.wait("10s")
    assert len(play.execution.steps["verify"].actions[0].attempts) == 9
    play.do("Output", {"exit_code": 2}, pack="Shell", failure=True)
    assert play.execution.message == "rollback of shop: FAILED"
    assert "done" not in play.steps


def test_a_deployment_that_becomes_healthy_later_is_done():
    play = approved()
    play.do("Output", pack="Shell")
    play.do("Response", {"status": 503}, pack="Http", failure=True)
    play.wait("10s")
    play.do("Response", {"status": 200}, pack="Http")
    play.do("MessageSent", pack="Slack")
    assert play.execution.state == "SUCCEEDED"


def test_deployments_of_one_app_wait_for_each_other():
    play = deployment()
    deployment("shop", play)
    deployment("blog", play)
    assert [e.state for e in play.executions] == ["RUNNING", "QUEUED", "RUNNING"]
    play.answer(play.questions[0].question_id, "refuse", "bob@example.com")
    assert [e.state for e in play.executions] == ["FAILED", "RUNNING", "RUNNING"]
    assert [q.text for q in play.questions] == ["Deploy blog?", "Deploy shop?"]


# --------------------------------------------------------------------------------- disk-full


def disks(*hosts: str) -> Play:
    play = Play(DISK_FULL)
    for host in hosts:
        alerts = [{"labels": {"instance": host}}, {"labels": {"instance": "db 1"}}]
        body = {"commonLabels": {"cluster": "west", "alertname": "DiskFull"}, "alerts": alerts}
        play.send("Webhook", "alertmanager", {"event": "firing", "body": body})
    play.wait("30s")
    return play


def test_the_hosts_of_all_alerts_are_cleaned_once_three_at_a_time():
    play = disks("a", "b", "c")
    assert [a.input for a in play.open_actions] == [
        f"ssh -- {h} clean-disk" for h in ("a", "'db 1'", "b")
    ]
    play.do("Output", pack="Shell")
    assert len(play.open_actions) == 3
    for _ in range(3):
        play.do("Output", pack="Shell")
    assert play.execution.steps["clean"].payload["total"] == 4


def test_disks_that_are_fine_after_two_minutes_page_nobody():
    play = disks("a")
    play.do("Output", pack="Shell")
    play.do("Output", pack="Shell")
    assert play.take("Shell") is None
    play.wait("2m")
    assert play.do("Output", pack="Shell").input == "ssh -- a disk-is-fine"
    play.do("Output", {"exit_code": 1}, pack="Shell", failure=True)
    play.wait("1m")
    play.do("Output", pack="Shell")
    assert play.execution.state == "SUCCEEDED"
    assert play.why("page", "disk-full") == [("skipped", "criteria")]


@pytest.mark.parametrize("step", ["clean", "verify"])
def test_somebody_is_paged_if_cleaning_or_verifying_fails(step):
    play = disks("a")
    for failure in (False, step == "clean"):
        play.do("Output", pack="Shell", failure=failure)
    play.wait("2m")
    if step == "clean":
        assert [a.input for a in play.open_actions] == ["ssh -- a disk-is-fine"]
    else:
        play.do("Output", pack="Shell")
    for _ in range(3 if step == "verify" else 1):
        play.do("Output", pack="Shell", failure=step == "verify")
        play.wait("3m")
    message = play.do("MessageSent", pack="Slack").input["message"]
    assert message == f"Disks of west are still full: {play.execution.link}"
    assert play.execution.state == "SUCCEEDED"


def test_alerts_of_other_kinds_are_not_in_the_batch():
    play = Play(DISK_FULL)
    body = {"commonLabels": {"cluster": "west", "alertname": "Cold"}, "alerts": []}
    play.send("Webhook", "alertmanager", {"event": "firing", "body": body})
    play.wait("1m")
    assert play.executions == ()
