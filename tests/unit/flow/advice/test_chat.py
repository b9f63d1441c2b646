"""Advice about chat messages: where the words of strangers are read as markup."""

import json
from typing import Any

import pytest

from flyteops.document import parse_json
from flyteops.flow.file import lint, read_flow

HOOK = {"packName": "Webhook", "name": "github"}
MAIL = {"packName": "Email", "name": "ReceivedEmail"}
TITLE = "{{ Event.Payload.body.title }}"


def step(
    event: dict[str, str],
    command_input: Any,
    pack: str = "Slack",
    name: str = "SendMessage",
    **more: Any,
) -> dict[str, Any]:
    return {
        "id": "a",
        "event": event,
        "command": {"packName": pack, "name": name, "input": command_input},
        **more,
    }


def advice_on(*steps: dict[str, Any]) -> list[str]:
    numbered = [{**each, "id": str(number)} for number, each in enumerate(steps)]
    document = parse_json(json.dumps({"name": "f", "steps": numbered}).encode())
    return [str(problem) for problem in lint(document, read_flow(document))]


@pytest.mark.parametrize("pack", ["Slack", "SlackProd", "Chat"])
@pytest.mark.parametrize(
    ("event", "text"),
    [
        (HOOK, TITLE),
        (HOOK, "{{ Event.Payload }}"),
        (HOOK, "{{ Event.Payload.event }} {{ Event.Payload.receivedAt }}"),
        (HOOK, "{% for a in Event.Payload.body.alerts %}{{ a.summary }}{% endfor %}"),
        (HOOK, "{{ Event.Payload.body.title|quote_slack|upper }}"),
        (MAIL, "{{ Event.Payload.subject }}"),
        (MAIL, "mail from {{ Event.Payload.fromName }}"),
    ],
)
def test_words_of_strangers_in_a_message_are_to_be_quoted(pack, event, text):
    [advice] = advice_on(step(event, {"channelId": "c", "message": text}, pack))
    assert "steps[0].command.input.message" in advice
    assert "is text from outside" in advice
    assert "|quote_slack }}" in advice


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (HOOK, "{{ Event.Payload.body.title|quote_slack }}"),
        (HOOK, "{{ Event.Payload.body.title|escape }} {{ Event.Payload.body.size|integer }}"),
        (
            HOOK,
            (
                "{{ Event.Payload.hook }} {{ Event.Payload.vendor }} {{ Event.Payload.receivedAt }}"
                " {{ Event.Name }}"
            ),
        ),
        (HOOK, "{% if Event.Payload.body.title == 'x' %}it is x{% endif %}"),
        (MAIL, "{{ Event.Payload.receivedAt }} {{ Event.Payload.size }}"),
        ({"packName": "Slack", "name": "ReceivedMessage"}, "{{ Event.Payload.message }}"),
        ({"packName": "Shell", "name": "Output"}, "{{ Event.Payload.stdout }}"),
        ({"packName": "Chat", "name": "CommandReceived"}, "{{ Event.Payload.arguments.app }}"),
    ],
)
def test_what_is_quoted_or_no_word_of_strangers_gets_no_advice(event, text):
    assert advice_on(step(event, {"channelId": "c", "message": text})) == []


def test_words_of_strangers_are_followed_through_contexts():
    first = step(
        HOOK,
        {"message": "new"},
        context={"title": TITLE, "quoted": TITLE.replace(" }}", "|quote_slack }}")},
    )
    told = {"packName": "Slack", "name": "MessageSent"}
    second = step(
        told,
        {"message": "{{ Context.title }}"},
        dependsOn=["0"],
        context={"copy": "about {{ Context.title }}"},
    )
    third = step(told, {"message": "{{ Context.copy }}"}, dependsOn=["1"])
    fourth = step(
        told, {"message": "{{ Context.quoted }} {{ Event.Payload.message }}"}, dependsOn=["2"]
    )
    found = advice_on(first, second, third, fourth)
    assert [advice.partition(" ")[0] for advice in found if "from outside" in advice] == [
        "steps[1].command.input.message",
        "steps[2].command.input.message",
    ]


def test_only_texts_with_markup_are_looked_at():
    plain = {"type": "header", "text": {"type": "plain_text", "text": TITLE}}
    marked = {"type": "section", "text": {"type": "mrkdwn", "text": TITLE}}
    given = {
        "channel": TITLE,
        "thread_ts": TITLE,
        "text": "x",
        "blocks": [plain, marked],
        "attachments": [{"text": TITLE}],
    }
    found = advice_on(step(HOOK, given, name="SendRichMessage"))
    assert [advice.partition(" ")[0] for advice in found] == [
        "steps[0].command.input.blocks[1].text.text",
        "steps[0].command.input.attachments[0].text",
    ]
    assert (
        advice_on(
            step(HOOK, {"channel": "c", "text": TITLE, "escape_text": True}, name="SendRichMessage")
        )
        == []
    )
    assert advice_on(step(HOOK, {"message": TITLE}, "Email", "SendEmail")) == []
    assert advice_on(step(HOOK, TITLE)) == []


def test_matrix_reads_markup_only_where_the_flow_says_so():
    assert advice_on(step(HOOK, {"message": TITLE}, "Matrix")) == []
    [advice] = advice_on(step(HOOK, {"message": TITLE, "markdown": True}, "Matrix"))
    assert "|quote_md }}" in advice
    [advice] = advice_on(step(HOOK, {"message": "x", "html": TITLE}, "Matrix"))
    assert "|escape }}" in advice
    quoted = TITLE.replace(" }}", "|quote_md }}")
    assert advice_on(step(HOOK, {"message": quoted, "markdown": True}, "Matrix")) == []
