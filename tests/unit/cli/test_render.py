"""`flyte render`: a template tried without a server."""

import io
import json
import sys

import pytest

from flyteops.cli import main


@pytest.fixture
def render(capsys):
    def run(*args):
        with pytest.raises(SystemExit) as ended:
            main(["render", *args])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_the_text_is_printed(render):
    assert render("Hello {{ Event.Payload.user|upper }}!", "--payload", '{"user": "ann"}') == (
        0,
        "Hello ANN!\n",
        "",
    )


def test_a_payload_that_is_no_json_is_text(render):
    assert render("{{ Event.Payload }}", "--payload", "deploy shop")[1] == "deploy shop\n"


def test_the_event_may_be_json_or_a_file(render, tmp_path):
    pack = {"name": "Chat", "labels": {"env": "lab"}}
    event = json.dumps(
        {"event": "Said", "pack": pack, "payload": {"n": 1}, "createdAt": "2026-01-02T03:04:05Z"}
    )
    file = tmp_path / "event.json"
    file.write_text(event)
    template = (
        "{{ Event.Name }} {{ Event.Pack.Id }} {{ Event.Pack.Labels.env }} {{ Event.Payload.n }} {{"
        " Event.CreatedAt.Year }}"
    )
    for given in (event, str(file)):
        assert render(template, "--event", given)[1] == "Said Chat.env.lab lab 1.000000 2026\n"


def test_the_payload_goes_before_that_of_the_event(render):
    assert (
        render("{{ Event.Payload }}", "--event", '{"payload": "a"}', "--payload", "b")[1] == "b\n"
    )


def test_context_and_datastore_can_be_given(render, tmp_path):
    teams = tmp_path / "teams.json"
    teams.write_text('{"a": {"room": "10"}}')
    motto = tmp_path / "motto.txt"
    motto.write_text("onward")
    args = ["--context", "team=a=b", "--data", f"teams={teams}", "--data", f"motto={motto}"]
    template = "{{ Context.team }} {{ datastore('teams').a.room }} {{ datastore('motto') }}"
    assert render(template, *args)[1] == "a=b 10 onward\n"


def test_the_template_may_come_from_a_file_or_from_standard_input(render, tmp_path, monkeypatch):
    file = tmp_path / "template"
    file.write_text("{{ 1 + 1 }}")
    assert render("-f", str(file))[1] == "2\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"{{ 2 + 2 }}")))
    assert render("-f", "-")[1] == "4\n"


def test_the_values_that_were_seen_can_be_shown(render):
    code, out, err = render("{{ Event.Payload.a }}", "--payload", '{"a": "x"}', "--values")
    assert (code, out, err) == (0, "x\n", 'Event.Payload.a = "x"\n')


def test_a_fault_is_shown_with_a_caret_below_its_place(render):
    code, out, err = render("first\n  {{ Event.Payload|uper }}")
    assert (code, out) == (1, "")
    message, line, caret = err.splitlines()
    assert message.startswith("flyte: line 2, column ")
    assert line == "    {{ Event.Payload|uper }}"
    assert line[caret.index("^") :].startswith("uper")


def test_a_fault_at_rendering_time_is_shown_in_the_same_way(render):
    code, _, err = render("{{ 1 / 0 }}")
    assert code == 1
    assert err.splitlines()[-1].strip() == "^"


def test_a_missing_datastore_item_is_a_fault(render):
    code, _, err = render("{{ datastore('teams').a }}")
    assert code == 1
    assert "teams" in err


def test_json_gives_the_result_or_the_place_of_the_fault(render):
    assert json.loads(render("{{ 1 }}", "--json")[1]) == {"result": "1"}
    code, out, err = render("{{ 1|nofilter }}", "--json")
    assert (code, out) == (1, "")
    error = json.loads(err)["error"]
    assert error["code"] == "template"
    assert (error["problems"][0]["line"], error["problems"][0]["column"]) == (1, 6)


@pytest.mark.parametrize(
    "args",
    [[], ["{{ 1 }}", "-f", "x"], ["x", "--context", "novalue"], ["x", "--data", "novalue"]],
)
def test_wrong_usage_is_exit_code_2(args, render):
    code, out, err = render(*args)
    assert (code, out) == (2, "")
    assert "Try 'flyte render --help'." in err


@pytest.mark.parametrize(
    "event",
    [
        "{",
        '{"pack": 1}',
        '{"pack": {"labels": {"a": 1}}}',
        '{"createdAt": "now"}',
        "/does/not/exist",
    ],
)
def test_an_event_that_is_none_is_told_so(event, render):
    code, _, err = render("x", "--event", event)
    assert code == 1
    assert err.startswith("flyte: ")
    assert "Traceback" not in err


def test_edition_2_gives_values_with_their_types(render):
    sizes = ["--edition", "2", "--payload", '{"sizes": [3, 1, 2.5], "name": "web"}']
    assert render("{{ Event.Payload.sizes|sort }}", *sizes)[1] == "[1,2.5,3]\n"
    assert render("{{ Event.Payload.name }}", *sizes)[1] == "web\n"
    assert json.loads(render("{{ Event.Payload.sizes|sum }}", *sizes, "--json")[1]) == {
        "result": 6.5
    }


def test_edition_2_sees_other_names_and_shows_what_was_read(render):
    scope = '{"Steps": {"a": {"Payload": {"x-y": 2}}}}'
    code, out, err = render(
        '{{ Steps.a.Payload["x-y"] }} {{ Steps.b.State }}',
        *("--edition", "2", "--scope", scope, "--values"),
    )
    assert (code, out) == (0, "2 \n")
    assert err == "Steps.a.Payload.x-y = 2\nSteps.b.State = null\n"


def test_a_scope_that_cannot_be_read_is_named(render):
    _, _, err = render("{{ 1 }}", "--edition", "2", "--scope", "{Steps}")
    assert err.startswith("flyte: the scope cannot be used: ")


def test_a_fault_in_a_template_of_edition_2_is_shown_with_its_place(render):
    code, _, err = render("{{ 'a' + 1 }}", "--edition", "2")
    assert code == 1
    assert err.startswith("flyte: line 1, column ")
    assert render("{{ 1 }}", "--scope", "{}")[0] == 2
