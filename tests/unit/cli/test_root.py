"""The commands, as far as no server is needed."""

import logging
import os
import re
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from flyteops.cli import main
from flyteops.cli.command import Failure
from flyteops.cli.manual import every_command, reference
from flyteops.cli.output import clean, one_line, print_table
from flyteops.cli.pack import fields, liveness
from flyteops.cli.root import COMMANDS, root
from flyteops.cli.width import display_width
from flyteops.errors import (
    InputError,
    NotFoundError,
    Problem,
    SettingsError,
    StoreError,
    UnavailableError,
)
from flyteops.packs import list_packs
from flyteops.server.logs import Formatter
from flyteops.settings import option_of, table

PAGE = Path(__file__).parents[3] / "docs/reference/cli.md"
NOBODY = "http://127.0.0.1:9"
ALL = dict(every_command())


@pytest.fixture
def flyte(capsys, monkeypatch):
    for name in ("FLYTE_API", "FLYTE_API_URL", "FLYTE_JWT", "FLYTE_PORT"):
        monkeypatch.delenv(name, raising=False)

    def run(*args):
        with pytest.raises(SystemExit) as ended:
            main(args)
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    return run


def test_the_reference_page_is_what_the_commands_say():
    assert PAGE.read_text() == reference()


@pytest.mark.parametrize("words", list(ALL))
def test_the_reference_page_has_every_command_with_every_option(words):
    section = PAGE.read_text().split(f"\n## `{words}`\n")[1].split("\n## ")[0]
    options = [
        each for each in ALL[words].params if isinstance(each, click.Option) and not each.hidden
    ]
    for name in (name for option in options for name in option.opts):
        assert (
            f"{name} " in section
            or f"{name}`" in section
            or f"{name}," in section
            or f"{name} /" in section
        )


@pytest.mark.parametrize("words", list(ALL))
def test_every_command_explains_itself(words, flyte):
    code, _, err = flyte(*words.split()[1:], "--help")
    assert (code, err) == (0, "")
    assert ALL[words].help
    for parameter in ALL[words].params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, parameter.name


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if entry.section])
def test_the_list_of_commands_names_each_with_a_word_about_it(name, flyte):
    code, out, _ = flyte("--help")
    assert code == 0
    line = next(line for line in out.splitlines() if line.strip().startswith(f"{name} "))
    assert line.strip().endswith(COMMANDS[name].help)


def test_commands_of_other_distributions_are_listed_with_their_summary(flyte):
    _, out, _ = flyte("--help")
    assert re.search(
        r"Added by other distributions:\n +torture +Inject faults into a scratch server", out
    )


@pytest.fixture
def broken_distributions(tmp_path, monkeypatch):
    """Install distributions with broken commands and packs, one with damaged metadata among
    them.
    """
    (tmp_path / "broken_for_tests.py").write_text("raise RuntimeError('of others')")
    (tmp_path / "exits_for_tests.py").write_text("raise SystemExit(0)")
    commands = (
        "fails = broken_for_tests:x\nexits = exits_for_tests:x\nother = json:dumps\n--help ="
        " json:dumps\nno = json:no\n"
    )
    texts = {
        "one": f"[flyte.commands]\n{commands}[flyte.packs]\nExits = exits_for_tests:x\n".encode(),
        "two": b"[flyte.commands]\nhidden\n[flyte.packs]\nhidden\n",
        "three": b"[flyte.commands]\n\xff = json:dumps\n",
    }
    for name, text in texts.items():
        info = tmp_path / f"{name}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_bytes(
            b"Metadata-Version: 2.1\nName: one\nSummary: \xff\n" if name == "one" else b"\xff"
        )
        (info / "entry_points.txt").write_bytes(text)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.usefixtures("broken_distributions")
def test_broken_distributions_do_not_break_the_help_nor_other_commands(flyte):
    code, out, _ = flyte("--help")
    assert code == 0
    assert re.search(r"\n +torture +Inject", out)
    assert "\n  --help" not in out
    assert "did you mean 'version'?" in flyte("versoin")[2]
    assert "did you mean 'data'?" in flyte("datastore")[2]
    assert {pack.name: pack.fault for pack in list_packs()}["Exits"] == "SystemExit: 0"


@pytest.mark.usefixtures("broken_distributions")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fails", "cannot be loaded: RuntimeError: of others"),
        ("exits", "cannot be loaded: SystemExit: 0"),
        ("other", "cannot be run: json:dumps is not a click command"),
        ("no", "cannot be loaded: AttributeError: module 'json' has no attribute 'no'"),
    ],
)
def test_a_broken_command_of_another_distribution_is_reported_in_one_line(flyte, name, reason):
    code, _, err = flyte(name)
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith(f"flyte: the command `flyte {name}` of the distribution ")
    assert reason in err


@pytest.mark.usefixtures("broken_distributions")
def test_completion_leaves_broken_commands_out():
    completed = [
        item.value
        for item in ShellComplete(root, {}, "flyte", "_FLYTE_COMPLETE").get_completions([], "")
    ]
    assert {"serve", "torture"} <= set(completed)
    assert not {"fails", "exits", "other", "no"} & set(completed)


def test_serve_has_an_option_for_every_setting(flyte):
    _, out, _ = flyte("serve", "--help")
    assert all(option_of(field) in out for field, _ in table())


def test_listing_the_commands_loads_none_of_them():
    code = (
        "import sys; from flyteops.cli.root import root; root.main(['--help'],"
        " standalone_mode=False); print(sorted(sys.modules))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    for module in ("'msgspec'", "'httpx2'", "'asyncio'", "'flyteops.errors'", "'rich'"):
        assert module not in loaded


SERVER_ONLY = [
    *(
        "cronsim",
        "flask_swagger_ui",
        "google",
        "httptools",
        "prompt_toolkit",
        "python_multipart",
        "re2",
        "rich",
    ),
    *("tzdata", "uvicorn", "uvloop", "yaml"),
]
NEEDS_THE_SERVER = {"audit verify", "dev", "serve", "apply x", "render x", "flows show x"}
NEEDS_NOTHING = {
    *(
        "pack list",
        "packs --help",
        "pack run Shell --help",
        "pack manifest Slack",
        f"version --url {NOBODY}",
        "completion bash",
    ),
}
NEEDS_A_SERVER_SOMEWHERE = {
    *(
        "chat",
        "flows list",
        "flows show x --json",
        "flows delete x",
        "packs list",
        "packs show x",
        "packs delete x",
    ),
    *(
        "data list",
        "data get x",
        "data show x",
        "data set x --value y",
        "data delete x",
        "executions list",
        "executions show x",
    ),
    *(
        "actions list",
        "actions resolve x retry",
        "send-event x y",
        "why",
        "audit changes",
        "audit show 1",
        "upload flow -f /dev/null -c text/plain",
    ),
}


def in_the_base_install(words, folder):
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({SERVER_ONLY!r})); from flyteops.cli import"
        f" main; main({words.split()!r})"
    )
    environ = os.environ | {"FLYTE_API": NOBODY}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environ,
        input="",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", sorted(NEEDS_NOTHING))
def test_the_base_install_can_do_what_packs_need(words, tmp_path):
    done = in_the_base_install(words, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_pack_that_lacks_what_it_needs_says_what_to_install(flyte, tmp_path):
    code = (
        "import sys; sys.modules['aiohttp'] = None; from flyteops.cli import main;"
        " main(sys.argv[1:])"
    )
    listed, run = (
        subprocess.run(
            [sys.executable, "-c", code, "pack", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        for words in (["list"], ["run", "Slack"])
    )
    missing = (
        "the pack Slack needs aiohttp; run `make packs PACKS=slack` in the folder of Flyte's source"
    )
    assert missing in listed.stdout
    assert "Shell   flyteops  ready" in listed.stdout
    assert (run.returncode, missing in run.stderr) == (1, True)


def test_a_check_of_a_pack_tells_about_the_server_too(flyte):
    code, out, err = flyte("pack", "run", "Shell", "--check", "--url", NOBODY)
    assert (code, out) == (1, "")
    assert err.startswith(f"Flyte: GET {NOBODY}/v1: ")


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        (None, ""),
        ("no schema", ""),
        ({"type": "string"}, "(string)"),
        (
            {"type": "object", "properties": {"app": {}, "note": {}}, "required": ["app"]},
            "(app, note?)",
        ),
        ({"$ref": "#/$defs/Order", "$defs": {"Order": {"properties": {"item": {}}}}}, "(item?)"),
        ({"$ref": 1, "$defs": 2, "properties": 3, "required": 4, "type": 5}, ""),
    ],
)
def test_a_schema_is_shown_as_its_fields(schema, shown):
    assert fields(schema) == shown


def test_only_packs_with_another_side_have_a_manifest(flyte):
    code, out, err = flyte("pack", "manifest", "Slack")
    assert (code, err) == (0, "")
    assert "socket_mode_enabled: true" in out
    code, out, err = flyte("pack", "manifest", "Shell")
    assert (code, out, err.strip()) == (
        1,
        "",
        "flyte: the pack Shell has no manifest and needs none",
    )


@pytest.mark.slow
@pytest.mark.parametrize("words", sorted(NEEDS_A_SERVER_SOMEWHERE))
def test_the_base_install_can_talk_to_a_server(words, tmp_path):
    done = in_the_base_install(words, tmp_path)
    assert (done.returncode, "cannot be reached" in done.stderr) == (3, True), done.stderr


@pytest.mark.parametrize("words", sorted(NEEDS_THE_SERVER))
def test_other_commands_say_what_must_be_installed(words, tmp_path):
    done = in_the_base_install(words, tmp_path)
    assert done.returncode == 1
    assert (
        f'flyte: `flyte {words.removesuffix(" x")}` needs pip install -e ".[server]" in the folder'
        " of Flyte's source" in done.stderr
    )


def test_what_needs_the_server_is_on_the_page():
    sentence = PAGE.read_text().split("\n## ")[0].split("\n\n")[-1]
    for words in (each.removesuffix(" x") for each in NEEDS_THE_SERVER):
        assert f"`flyte {words}`" in sentence or f"`{words}`" in sentence
    assert not [
        words for words in NEEDS_A_SERVER_SOMEWHERE - {"chat"} if f"`flyte {words}`" in sentence
    ]


def test_an_unknown_command_is_a_usage_error_with_the_nearest_name(flyte):
    code, out, err = flyte("flow")
    assert (code, out) == (2, "")
    assert err == "flyte: there is no command 'flow'; did you mean 'flows'?\nTry 'flyte --help'.\n"


def test_a_limit_that_is_not_a_number_is_a_usage_error(flyte):
    code, _, err = flyte("executions", "list", "--limit", "many")
    assert code == 2
    assert "Invalid value for '--limit': 'many' is not a valid whole number." in err
    assert "0 is not in the range 1<=x<=1000" in flyte("executions", "list", "--limit", "0")[2]


def test_no_server_is_exit_code_3_and_says_what_to_do(flyte):
    code, out, err = flyte("flows", "list", "--url", NOBODY)
    assert (code, out) == (3, "")
    assert err.startswith(f"flyte: the server cannot be reached: GET {NOBODY}/v1/flows")
    assert "flyte serve" in err


def test_the_address_may_stand_before_the_command_or_in_the_environment(flyte, monkeypatch):
    assert NOBODY in flyte("--url", NOBODY, "flows", "list")[2]
    monkeypatch.setenv("FLYTE_API", NOBODY)
    assert NOBODY in flyte("flows", "list")[2]


def test_an_address_that_is_none_is_a_usage_error(flyte):
    code, _, err = flyte("flows", "list", "--url", "localhost")
    assert code == 2
    assert "'localhost' is not an address such as http://localhost:8080" in err


def test_errors_are_json_when_json_is_asked_for(flyte):
    code, out, err = flyte("flows", "list", "--json", "--url", NOBODY)
    assert (code, out) == (3, "")
    assert err.startswith(
        '{"error": {"code": "unavailable", "message": "the server cannot be reached'
    )


def test_version_works_without_a_server(flyte):
    code, out, err = flyte("version", "--url", NOBODY)
    assert (code, err) == (0, "")
    assert f"API URL:         {NOBODY}" in out
    assert "Server version:  not reachable" in out


def test_the_short_version_is_one_line(flyte):
    assert flyte("--version")[1].startswith("flyte 0.")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell, flyte):
    code, out, _ = flyte("completion", shell)
    assert code == 0
    assert "_FLYTE_COMPLETE" in out


def test_bad_settings_are_told_at_once_with_exit_code_2(flyte, monkeypatch):
    monkeypatch.setenv("FLYTE_PORT", "eighty")
    code, out, err = flyte("serve", "--store", "somewhere")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        "flyte: the settings are not valid",
        (
            "  FLYTE_PORT: 'eighty' is not a port; give a whole number from 1 to 65535, or 0 for"
            " any free port"
        ),
        (
            "  --store: 'somewhere' is not a store; give sqlite:///relative.db,"
            " sqlite:////absolute/path.db, postgresql://user:password@host/database or"
            " mongodb://user:password@host/database"
        ),
    ]


def test_tls_files_that_cannot_be_read_stop_the_start(flyte, tmp_path):
    code, _, err = flyte(
        "serve", "--tls-cert-path", str(tmp_path / "cert.pem"), "--tls-key-path", str(tmp_path)
    )
    assert code == 2
    assert "cert.pem' cannot be read: No such file or directory" in err
    assert "cannot be read: Is a directory" in err


def test_a_log_file_that_cannot_be_written_stops_the_start(flyte, tmp_path):
    code, _, err = flyte("serve", "--log-file", str(tmp_path / "none" / "flyte.log"))
    assert code == 2
    assert "  --log-file: " in err
    assert "cannot be written; give a file in a directory that exists" in err


def test_nothing_is_said_about_the_default_that_stands_in_for_a_faulty_setting(
    flyte, tmp_path, monkeypatch
):
    (tmp_path / "flyte.db").mkdir()  # where the database would be by default
    monkeypatch.chdir(tmp_path)
    assert "flyte.db' is not a file" in flyte("serve")[2]
    assert flyte("serve", "--store", "somewhere")[2].count("\n") == 2


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 1),
        (NotFoundError("x"), 1),
        (StoreError("x"), 1),
        (SettingsError("x"), 2),
        (UnavailableError("x"), 3),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error, code):
    assert Failure(error).exit_code == code


def test_problems_stand_on_lines_of_their_own():
    error = InputError(
        "The flow has 2 problems.",
        problems=[Problem("name", "must not be empty"), Problem("", "is odd", 3, 7)],
    )
    assert (
        Failure(error).format_message()
        == "the flow has 2 problems\n  name: must not be empty\n  (line 3, column 7): is odd"
    )


def test_nothing_that_others_wrote_steers_the_terminal():
    assert clean("a\x1b[31mb\x9bc\u202ed\te\nf\r") == "a\\x1b[31mb\\x9bc\\u202ed\te\nf\\r"
    assert one_line("a\nb\x07", 3) == "a …"


def test_a_log_record_is_one_line_whatever_is_in_it():
    record = make_record("pack %s", "x\n2026-01-01T00:00:00Z INFO forged\x1b[0m")
    line = Formatter().format(record)
    assert "\n" not in line
    assert line.endswith("pack x\\n2026-01-01T00:00:00Z INFO forged\\x1b[0m")


def test_a_traceback_cannot_be_taken_for_records():
    try:
        raise ValueError("one\nforged")
    except ValueError:
        record = make_record("failed", exc_info=sys.exc_info())
    first, *others = Formatter().format(record).split("\n")
    assert first.endswith("failed")
    assert others
    assert all(line.startswith("    ") for line in others)


def make_record(message, *args, exc_info=None):
    return logging.LogRecord("flyte.test", logging.INFO, "", 0, message, args, exc_info)


def test_every_entry_of_the_list_leads_to_a_command():
    context = click.Context(root)
    for name in COMMANDS:
        assert isinstance(root.get_command(context, name), click.Command)


def test_rows_fit_the_terminal_and_keep_the_name_of_what_they_are_about(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    name = "0123456789abcdef0123456789abcdef"
    print_table(
        ["id", "state", "words"],
        [[name, "FATAL", "long " * 40], [name, "silent for 12 min", "x"]],
        empty="",
    )
    lines = [click.unstyle(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 3
    assert all(len(line) <= 60 for line in lines)
    assert all(line.startswith(name) for line in lines[1:])
    assert lines[1].endswith("…")


ACTIONS = ["action", "state", "since", "flow", "step", "command", "attempt", "due"]


def shown_on_terminal(monkeypatch, capsys, columns, headers, rows):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(headers, rows, empty="")
    return [click.unstyle(line) for line in capsys.readouterr().out.splitlines()]


def test_a_list_of_many_columns_fits_eighty_with_times_that_can_be_read(monkeypatch, capsys):
    year = f"{datetime.now(UTC).astimezone():%Y}"
    row = ["1a22fc2a269ad626125cb268", "SUCCESS", f"{year}-12-01 04:00:14"]
    row += ["bank-holidays", "question", "Shell: Shell", "1", ""]
    older = [*row[:2], "1999-12-31 23:59:59", *row[3:]]
    lines = shown_on_terminal(monkeypatch, capsys, 80, ACTIONS, [row, older])
    assert len(lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert "due" not in lines[0]
    assert lines[1].split()[:4] == [row[0], "SUCCESS", "12-01", "04:00"]
    assert lines[2].split()[:3] == [row[0], "SUCCESS", "1999-12-31"]


def test_wide_characters_count_as_the_two_columns_that_they_take(monkeypatch, capsys):
    rows = [["a", "\u65e5\u672c\u8a9e" * 20, "x"], ["b", "e\u0301" * 5, "x"]]
    lines = shown_on_terminal(monkeypatch, capsys, 40, ["id", "words", "end"], rows)
    assert all(display_width(line) <= 40 for line in lines)
    assert len({display_width(line[: line.rindex("x")]) for line in lines[1:]}) == 1


def test_colours_of_rows_are_codes_for_a_terminal_and_what_is_in_them_is_text(monkeypatch, capsys):
    row = ["1", "NEW", "a \x1b[31mname"]
    print_table(["id", "state", "name"], [row], empty="")
    assert capsys.readouterr().out.splitlines()[1].split(maxsplit=2) == [
        "1",
        "NEW",
        "a \\x1b[31mname",
    ]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(["id", "state", "name"], [row], empty="")
    shown = capsys.readouterr().out
    assert click.unstyle(shown).splitlines()[1].split(maxsplit=2) == ["1", "NEW", "a \\x1b[31mname"]


def test_rows_for_programs_are_whole(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "60")
    print_table(["id", "words"], [["a", "long " * 40]], empty="")
    assert capsys.readouterr().out.splitlines()[1] == "a   " + " ".join(["long"] * 40)


@pytest.mark.parametrize(
    "options",
    [("--content-type", "application/json"), ("--content-type", "TEXT/JSON; charset=utf-8")],
)
@pytest.mark.parametrize(
    ("value", "place"),
    [('{"a": }', "line 1, column 7"), ("", "line 1, column 1"), ("[NaN]", "NaN is not JSON")],
)
def test_a_value_that_is_not_the_json_that_it_is_declared_as_is_refused(
    flyte, options, value, place
):
    code, _, error = flyte("data", "set", "config", "--value", value, *options, "--url", NOBODY)
    assert code == 1
    assert "the value of config is not JSON; correct it, or store it as text" in error
    assert place in error


@pytest.mark.parametrize(
    "value",
    [
        '{"a": 1,}',
        '{"a": ',
        "{'a': 1}",
        "{a: 1}",
        '["a", "b"',
        "[1, 2,]",
        '[{"a": 1},]',
        "[[1], [2]]]",
        "  {\n}}",
        "[true, fals]",
    ],
)
def test_a_value_that_looks_like_json_and_is_not_is_refused_unless_it_is_said_to_be_text(
    flyte, value
):
    code, _, error = flyte("data", "set", "config", "--value", value, "--url", NOBODY)
    assert (code, "looks like JSON but is not" in error, "line " in error) == (1, True, True)
    for options in (("--content-type", "text/plain"), ("--secret",)):
        _, _, error = flyte("data", "set", "config", "--value", value, *options, "--url", NOBODY)
        assert "looks like JSON" not in error


@pytest.mark.parametrize(
    "value",
    [
        "{{ x }}",
        "{% if x %}[1]{% endif %}",
        "[1] first note",
        "[[wiki]] page",
        "[WARN] disk",
        "{ not json",
        "hello",
        "[ERROR] [x]",
    ],
)
def test_text_in_brackets_is_text(flyte, value):
    _, _, error = flyte("data", "set", "config", "--value", value, "--url", NOBODY)
    assert "cannot reach" in error or "Is it running" in error, error


@pytest.mark.parametrize(
    ("last_seen", "state"),
    [
        ("2026-01-08T00:00:00Z", "live"),
        ("2026-01-07T23:58:00Z", "live"),
        ("2026-01-07T23:48:00Z", "silent for 12 min"),
        ("2026-01-01T00:00:00Z", "silent for 7 d"),
    ],
)
def test_a_pack_that_was_not_heard_of_is_silent_and_not_live(last_seen, state):
    assert liveness(last_seen, datetime(2026, 1, 8, tzinfo=UTC)) == state


def test_a_pack_that_stopped_is_not_silent():
    now = datetime(2026, 1, 8, tzinfo=UTC)
    assert (
        liveness("2026-01-07T23:58:00Z", now, stopped_at="2026-01-07T23:58:00Z")
        == "stopped 2 min ago"
    )


def test_a_fault_of_tls_is_not_taken_for_a_server_that_does_not_run():
    def failure(cause):
        error = UnavailableError("GET https://flyte.test/v1: failed")
        error.__cause__ = cause
        return Failure(error).format_message()

    outer = OSError("connect")
    outer.__context__ = ssl.SSLCertVerificationError("self-signed certificate")
    assert "TLS failed. FLYTE_CA_CERT_FILE names" in failure(outer)
    assert "Is it running?" not in failure(outer)
    assert "Is it running?" in failure(OSError("refused"))
