"""Commands in a chat: who may say them, who must agree, and what flows hear of it."""

# ruff: noqa: RUF001 - people type such characters

from typing import Any

import msgspec
import pytest

from flyteops.errors import InputError
from flyteops.packs.chat import Room, User, pack_for
from flyteops.packs.chatops.catalog import CommandCatalog, read_catalog
from flyteops.packs.chatops.dispatcher import (
    ChatAction,
    ChatMessage,
    CommandDispatcher,
    PostReply,
    SendEvent,
    SettleQuestion,
)
from flyteops.packs.chatops.message import User as ChatUser
from flyteops.packs.chatops.pattern import CommandPattern
from flyteops.packs.chatops.permission import Person
from flyteops.packs.chatops.service import LOOK_AGAIN
from flyteops.sdk.testing import PackTester, settle

DEPLOY = {"pattern": "deploy {app} [{version}]", "help": "Deploys an application."}
NOTE = {"pattern": "note {text...}"}
GROUPS = {"ops": ["ann", "@Bob"]}


def catalog(*commands: dict[str, Any], **more: Any) -> CommandCatalog:
    return read_catalog({"commands": list(commands), **more})


def person(name: str) -> Person:
    return Person.known_as(ChatUser(f"U-{name}", name), (f"U-{name}", name))


def said(text: str, by: str = "ann", **more: Any) -> ChatMessage:
    return ChatMessage(text, person(by), "C1", "1.1", "1.0", "message.C1.1.1", **more)


def desk() -> CommandDispatcher:
    ids = iter(["k1", "k2", "k3"])
    return CommandDispatcher(lambda: next(ids))


def hear(declared: CommandCatalog, text: str, by: str = "ann", **more: Any) -> list[ChatAction]:
    return desk().hear(declared, said(text, by, **more), 0)


def told(deeds: list[ChatAction]) -> list[Any]:
    return [deed.payload for deed in deeds if isinstance(deed, SendEvent)]


def replies(deeds: list[ChatAction]) -> list[str]:
    return [deed.text for deed in deeds if isinstance(deed, PostReply)]


# ----------------------------------------------------------------------------------------- patterns


@pytest.mark.parametrize(
    ("pattern", "text", "arguments"),
    [
        ("deploy {app} {version}", "deploy shop 1.2", {"app": "shop", "version": "1.2"}),
        ("deploy {app} {version}", "  DEPLOY  shop\t1.2 ", {"app": "shop", "version": "1.2"}),
        ("deploy {app} {version}", "deploy 'my shop' “1 2”", {"app": "my shop", "version": "1 2"}),
        ("deploy {app} {version}", "deploy shop", None),
        ("deploy {app} {version}", "deploy shop 1.2 now", None),
        ("deploy {app} {version}", "please deploy shop 1.2", None),
        ("deploy {app}", 'deploy ""', {"app": ""}),
        ("deploy {app}", "deploy 'a'b", {"app": "'a'b"}),
        ("deploy {app}", "'deploy' shop", None),
        ("deploy {app}", "deploy don't", {"app": "don't"}),
        ("deploy {app}", 'deploy "open', {"app": '"open'}),
        ("deploy {app} [{version}]", "deploy shop", {"app": "shop", "version": ""}),
        ("deploy [{app}] to {stage:test|live}", "deploy to LIVE", {"app": "", "stage": "live"}),
        (
            "deploy [{app}] to {stage:test|live}",
            "deploy to to test",
            {"app": "to", "stage": "test"},
        ),
        ("deploy [{app}] to {stage:test|live}", "deploy shop to moon", None),
        ("note {text...}", "note  it's  'so' ", {"text": "it's  'so'"}),
        ("note {text...}", "note", None),
        ("note [{text...}]", "note", {"text": ""}),
        ("a [b {x}] [c {y}]", "a c 2", {"x": "", "y": "2"}),
        ("grüße {wen}", "GRÜSSE Ann", {"wen": "Ann"}),
        ("grüße {wen}", "Grüße 🚀", {"wen": "🚀"}),
        ("a {b}", "", None),
        ("a {b}", "a " + "x" * 20_000, None),
    ],
)
def test_patterns_find_their_arguments(
    pattern: str, text: str, arguments: dict[str, str] | None
) -> None:
    assert CommandPattern.parse(pattern).match(text) == arguments


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("", "does not begin with a word"),
        ("{app} {version}", "does not begin with a word"),
        ("[deploy] {app}", "does not begin with a word"),
        ("deploy {app", "'{app' is neither a word nor {name}"),
        ("deploy {app} {app}", "{app} is there twice"),
        ("note {text...} {more}", "{text...} takes the rest of the line, so nothing can follow it"),
        ("deploy [{app}", "[ without a closing ]"),
        ("deploy {app}]", "] without an opening ["),
        ("deploy [[{app}]]", "brackets cannot be nested"),
        ("deploy []", "the brackets are empty"),
        ("deploy {a b}", "'{a b}' is neither"),
        ("say 'hello'", "begins with a quote"),
        ("x" * 501, "at most 500 characters"),
    ],
)
def test_patterns_that_are_none_say_why(pattern: str, fault: str) -> None:
    with pytest.raises(InputError) as failed:
        CommandPattern.parse(pattern)
    assert fault in str(failed.value)


# --------------------------------------------------------------------------------- what is declared


def test_every_fault_of_what_is_declared_is_told_at_once() -> None:
    with pytest.raises(InputError) as failed:
        catalog(
            {"pattern": "{app}"},
            {"pattern": "deploy", "alow": {}},
            {"pattern": "deploy {app}", "allow": {"groups": ["opps"]}},
            {"pattern": "help me"},
            {"pattern": "good {one}", "confirm": {"within": "soon"}},
            {"pattern": "fine {one}"},
            {"pattern": "fine {two}"},
            {"pattern": "bad {one}", "allow": {"user": ["ann"]}},
            {"pattern": "worse {one}", "confirm": {"within": "0"}},
            groups=GROUPS,
        )
    assert [str(problem) for problem in failed.value.problems] == [
        "commands[0]: '{app}' does not begin with a word, so it would match every message",
        "commands[1]: Object contains unknown field `alow`; did you mean `allow`?",
        "commands[2]: there is no group 'opps'; there are: ops",
        "commands[3]: a command cannot begin with 'help', which has a meaning of its own",
        "commands[4]: 'soon' is not a duration such as 30s, 5m or 1h30m",
        "commands[6]: another command is called 'fine'; give this one a `name`",
        "commands[7]: Object contains unknown field `user` - at `$.allow`",
        "commands[8]: '0' is too short to confirm",
    ]
    for wrong in ({"commands": [], "comands": []}, [], "text", {"prefix": "flyte"}):
        with pytest.raises(InputError):
            read_catalog(wrong)


def test_every_fault_of_each_command_is_told_and_of_the_rest_too() -> None:
    with pytest.raises(InputError) as failed:
        read_catalog(
            {
                "prefix": 5,
                "group": {},
                "groups": {"ops": ["ann"], "bad": "eve"},
                "commands": [
                    {"pattern": "{app}", "alow": {}, "help": 7, "allow": {"user": ["x"]}},
                    {
                        "pattern": "help me",
                        "allow": {"groups": ["opps", "ops", "devs"]},
                        "confirm": {"within": "soon", "groups": ["x"]},
                    },
                    {"name": "nothing"},
                    "text",
                ],
            }
        )
    assert [str(problem) for problem in failed.value.problems] == [
        "Expected `str`, got `int` - at `$.prefix`",
        "Object contains unknown field `group`; did you mean `groups`?",
        "Expected `array`, got `str` - at `$.groups[...]`",
        "commands[0]: Object contains unknown field `alow`; did you mean `allow`?",
        "commands[0]: Expected `str`, got `int` - at `$.help`",
        "commands[0]: Object contains unknown field `user` - at `$.allow`",
        "commands[0]: '{app}' does not begin with a word, so it would match every message",
        "commands[1]: a command cannot begin with 'help', which has a meaning of its own",
        "commands[1]: there is no group 'opps'; there are: ops",
        "commands[1]: there is no group 'devs'; there are: ops",
        "commands[1]: there is no group 'x'; there are: ops",
        "commands[1]: 'soon' is not a duration such as 30s, 5m or 1h30m",
        "commands[2]: Object missing required field `pattern`",
        "commands[3]: Expected `object`",
    ]


async def test_faults_are_in_the_log_before_anybody_speaks(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with PackTester(pack_for(Room(user=ANN))) as tester:
        tester.server.data["chatops"] = {"commands": [{"patern": "x"}]}
        await tester.advance(LOOK_AGAIN)
        await settle()
    assert (
        "not valid: commands[0]: Object contains unknown field `patern`; did you mean `pattern`?;"
        " keeping" in caplog.text
    )


# ----------------------------------------------------------------------------------------- commands


def test_a_command_tells_flows_its_name_and_arguments() -> None:
    (payload,) = told(hear(catalog(DEPLOY), "deploy shop"))
    assert (payload.command, payload.arguments, payload.text) == (
        "deploy",
        {"app": "shop", "version": ""},
        "deploy shop",
    )
    assert (payload.channel_id, payload.timestamp, payload.thread_timestamp) == ("C1", "1.1", "1.0")
    assert (payload.user.name, payload.approved_by) == ("ann", None)
    assert hear(catalog(DEPLOY), "let us deploy shop") == []
    assert hear(CommandCatalog(), "help") == []


def test_with_a_prefix_only_what_is_for_the_bot_counts() -> None:
    declared = catalog(DEPLOY, prefix="flyte")
    assert told(hear(declared, "Flyte  deploy shop"))
    assert told(hear(declared, "deploy shop", is_addressed=True))
    for text in (
        "deploy shop",
        "flytedeploy shop",
        "help",
        "flyte",
        "flyte dance",
        "flyte deployed shop",
    ):
        assert hear(declared, text) == []


@pytest.mark.parametrize(
    ("allow", "name", "channels", "reply"),
    [
        ({"users": ["ann"]}, "bob", [], "bob, you may not use `deploy`."),
        ({"groups": ["ops"]}, "eve", [], "eve, you may not use `deploy`."),
        ({"users": [], "groups": []}, "ann", [], "ann, you may not use `deploy`."),
        ({"channels": ["#deploys"]}, "ann", ["general"], "ann, `deploy` is not for this channel."),
        (
            {"users": ["ann"], "channels": ["deploys"]},
            "bob",
            ["general"],
            "bob, you may not use `deploy`.",
        ),
    ],
)
def test_who_may_not_is_told_so_and_nothing_more(
    allow: dict[str, Any], name: str, channels: list[str], reply: str
) -> None:
    declared = catalog({**DEPLOY, "allow": allow}, groups=GROUPS)
    deeds = hear(declared, "deploy shop", name, channel_names=frozenset(channels))
    assert replies(deeds) == [reply]
    (payload,) = told(deeds)
    assert (type(payload).__name__, payload.reason) == (
        "CommandRefused",
        "channel" if "channel" in reply else "person",
    )


@pytest.mark.parametrize(
    ("allow", "name", "channels"),
    [
        ({"users": ["U-bob"]}, "bob", []),
        ({"users": ["@BOB"]}, "bob", []),
        ({"groups": ["ops"]}, "bob", []),
        ({"users": ["eve"], "groups": ["ops"]}, "eve", []),
        ({"channels": ["C1"]}, "eve", []),
        ({"channels": ["#Deploys"]}, "eve", ["deploys"]),
    ],
)
def test_who_may_is_heard(allow: dict[str, Any], name: str, channels: list[str]) -> None:
    declared = catalog({**DEPLOY, "allow": allow}, groups=GROUPS)
    deeds = hear(declared, "deploy shop", name, channel_names=frozenset(channels))
    assert [type(payload).__name__ for payload in told(deeds)] == ["CommandReceived"]


def test_help_shows_what_one_may_ask_for_here() -> None:
    declared = catalog(
        {**DEPLOY, "confirm": {}},
        NOTE,
        {"pattern": "drop {database}", "allow": {"users": ["bob"]}},
        prefix="flyte",
    )
    assert replies(hear(declared, "flyte help")) == [
        (
            "`flyte deploy {app} [{version}]`  Deploys an application. (requires approval)\n`flyte"
            " note {text...}`"
        )
    ]
    assert replies(hear(declared, "flyte help note")) == ["`flyte note {text...}`"]
    assert replies(hear(declared, "flyte help drop")) == ["No commands are available to you here."]
    assert "drop" in replies(hear(declared, "flyte help", "bob"))[0]


def test_a_command_that_lacks_something_is_answered_with_its_usage() -> None:
    declared = catalog(
        DEPLOY, {"pattern": "drop {database}", "allow": {"users": ["bob"]}}, prefix="flyte"
    )
    assert replies(hear(declared, "flyte deploy")) == [
        "Unknown or incomplete command:\n`flyte deploy {app} [{version}]`  Deploys an application."
    ]
    assert hear(declared, "flyte drop") == []


@pytest.mark.parametrize(
    ("more", "text", "usage"),
    [
        ({}, "deploy is broken today, again", "`deploy {app} [{version}]`"),
        ({}, "Deploy", "`deploy {app} [{version}]`"),
        ({}, "roll the dice", "`roll back {app}`"),
        ({}, "\u200b\u2060deploy a b c", "`deploy {app} [{version}]`"),
        ({}, "deploy: shop", "`deploy {app} [{version}]`"),
        ({}, "*deploy shop*", "`deploy {app} [{version}]`"),
        ({}, "“deploy shop”", "`deploy {app} [{version}]`"),
        ({}, "« deploy shop ».", "`deploy {app} [{version}]`"),
        ({}, "`deploy", "`deploy {app} [{version}]`"),
        ({"prefix": "flyte"}, "flyte deploy a b c", "`flyte deploy {app} [{version}]`"),
        ({"prefix": "flyte"}, "`flyte\u200b deploy`", "`flyte deploy {app} [{version}]`"),
        ({"prefix": "hey flyte"}, "Hey  Flyte deploy", "`hey flyte deploy {app} [{version}]`"),
    ],
)
def test_what_begins_with_the_first_word_of_a_command_is_answered_in_any_mode(
    more: dict[str, Any], text: str, usage: str
) -> None:
    deeds = hear(catalog(DEPLOY, {"pattern": "roll back {app}"}, **more), text)
    assert told(deeds) == []
    assert replies(deeds)[0].startswith(f"Unknown or incomplete command:\n{usage}")


@pytest.mark.parametrize(
    "text", ["let us deploy shop", "deployed", "'deploy' it", "rolling", "> deploy", "deploy:er"]
)
def test_what_does_not_begin_with_a_command_is_left_alone(text: str) -> None:
    assert hear(catalog(DEPLOY, {"pattern": "roll back {app}"}), text) == []


def test_of_several_commands_with_one_first_word_the_usage_of_those_that_begin_alike_is_shown() -> (
    None
):
    declared = catalog({"pattern": "roll back {app}"}, {"pattern": "roll forward {app}"})
    assert "forward" not in replies(hear(declared, "roll back"))[0]
    assert "forward" in replies(hear(declared, "roll over"))[0]


def test_help_is_answered_without_commands_where_it_is_for_the_bot() -> None:
    assert (
        "No commands are declared yet"
        in replies(hear(CommandCatalog(), "help", is_addressed=True))[0]
    )
    assert (
        "No commands are declared yet"
        in replies(hear(CommandCatalog(), "help", is_console=True))[0]
    )
    assert replies(hear(catalog(DEPLOY, prefix="flyte"), "help", is_console=True)) == [
        "`flyte deploy {app} [{version}]`  Deploys an application."
    ]


# -------------------------------------------------------------------------------- as phones type it

PHONE = "deploy {app} [{version}] [--dry-run] [--force] [to {stage:test|pre-live}]"


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("deploy\u200b shop", {"app": "shop"}),
        ("\ufeffdeploy\u00a0sh\u200bop\u202f1.2\u2060", {"app": "shop", "version": "1.2"}),
        ("\u202adeploy shop\u202c", {"app": "shop"}),
        ("de\u00adploy \u200b shop", {"app": "shop"}),
        ("deploy \u3164shop", {"app": "shop"}),
        ("deploy 👩\u200d💻 ❤\ufe0f", {"app": "👩\u200d💻", "version": "❤\ufe0f"}),
        ("deploy shop 1.2 —force", {"app": "shop", "version": "1.2"}),
        ("deploy shop –force", {"app": "shop"}),
        ("deploy shop --force", {"app": "shop"}),
        ("deploy shop ‑‑dry‑run −−force", {"app": "shop"}),
        ("deploy shop —dry–run to pre–live", {"app": "shop", "stage": "pre-live"}),
        ("deploy shop '--force'", {"app": "shop", "version": "--force"}),
        ("deploy —all", {"app": "--all"}),
        ("deploy –5", {"app": "–5"}),
        ('deploy “my shop"', {"app": "my shop"}),
        ('deploy "my shop”', {"app": "my shop"}),
        ("deploy „my shop“ „1 2”", {"app": "my shop", "version": "1 2"}),
        ("deploy ”my shop” ‚1 2‘", {"app": "my shop", "version": "1 2"}),
        ("deploy «my shop» »1 2«", {"app": "my shop", "version": "1 2"}),
        ("deploy ‹my shop› ›1 2‹", {"app": "my shop", "version": "1 2"}),
        ("deploy 「my shop」 『1 2』", {"app": "my shop", "version": "1 2"}),
        ("deploy ＂my shop＂ 〝1 2〟", {"app": "my shop", "version": "1 2"}),
        ("deploy ’my shop’ \u200b‘1 2'\u200b", {"app": "my shop", "version": "1 2"}),
        ("deploy 'don't do'", {"app": "don't do"}),
        ('deploy "a” b"', {"app": "a” b"}),
        ('deploy "a b” "c d"', {"app": "a b", "version": "c d"}),
        ("`deploy shop 1.2`", {"app": "shop", "version": "1.2"}),
        ("``deploy shop``", {"app": "shop"}),
        ("```deploy shop 1.2```", {"app": "shop", "version": "1.2"}),
        ("```\ndeploy shop\n```\n", {"app": "shop"}),
        ("```sh\ndeploy shop 1.2\n```", {"app": "shop", "version": "1.2"}),
        ("`deploy` `my shop` 1.2", {"app": "my shop", "version": "1.2"}),
        ("`deploy shop` 1.2", {"app": "shop", "version": "1.2"}),
        ("deploy shop ```1.2```", {"app": "shop", "version": "1.2"}),
        ("`deploy shop", {"app": "shop"}),
        ("```\ndeploy shop", {"app": "shop"}),
        ("~~~\ndeploy shop 1.2\n~~~", {"app": "shop", "version": "1.2"}),
        ("deploy «\u00a0my shop\u202f» ‹ 1 2 ›", {"app": "my shop", "version": "1 2"}),
        ("deploy ´my shop´ ″1 2″", {"app": "my shop", "version": "1 2"}),
        ("deploy `shop", {"app": "`shop"}),
    ],
)
def test_commands_are_understood_as_phones_and_pages_write_them(
    text: str, arguments: dict[str, str]
) -> None:
    found = CommandPattern.parse(PHONE).match(text)
    assert found is not None
    assert {name: value for name, value in found.items() if value} == arguments


@pytest.mark.parametrize(
    "text", ["deploy shop 1.2 -force", "deploy shop 1.2 force", "de ploy shop", "deploy- shop"]
)
def test_what_is_only_similar_is_not_the_command(text: str) -> None:
    assert CommandPattern.parse(PHONE).match(text) is None


def test_words_are_the_same_however_their_letters_are_composed() -> None:
    assert CommandPattern.parse("gr\u00fc\u00dfe {wen}").match("gru\u0308\u00dfe Ann") == {
        "wen": "Ann"
    }


def test_all_that_is_left_of_a_line_stays_as_typed_but_for_its_ends() -> None:
    assert CommandPattern.parse("note {text...}").match("note \u200bit’s —  “so”\u200b ") == {
        "text": "it’s —  “so”"
    }


# ------------------------------------------------------------------------------------- confirmation


CONFIRMED = {**DEPLOY, "allow": {"groups": ["ops"]}, "confirm": {"within": "5m"}}


def asked(**confirm: Any) -> tuple[CommandDispatcher, CommandCatalog]:
    declared = catalog({**CONFIRMED, "confirm": {"within": "5m", **confirm}}, groups=GROUPS)
    at = desk()
    (reply,) = at.hear(declared, said("deploy shop"), 0)
    assert isinstance(reply, PostReply)
    assert reply.question is not None
    assert reply.text == "ann asks for: deploy shop\nWithin 5 min: `approve k1` or `refuse k1`"
    return at, declared


@pytest.mark.parametrize("text", ["approve k1", "approve", "Approve K1"])
def test_a_command_that_needs_a_yes_is_one_after_it(text: str) -> None:
    at, declared = asked()
    deeds = at.hear(declared, said(text, "bob"), 10)
    assert isinstance(deeds[0], SettleQuestion)
    assert deeds[0].text == "Approved by bob: deploy shop"
    (payload,) = told(deeds)
    assert (payload.command, payload.user.name, payload.approved_by.name) == (
        "deploy",
        "ann",
        "bob",
    )
    assert told(at.hear(declared, said(text, "bob"), 11)) == []
    assert at.expire("k1") == []


def test_nobody_approves_what_he_asked_for_himself_unless_that_is_declared() -> None:
    at, declared = asked()
    deeds = at.hear(declared, said("approve"), 10)
    assert (replies(deeds), told(deeds)) == (
        ["ann, you cannot approve what you asked for yourself."],
        [],
    )
    assert told(at.hear(declared, said("approve", "bob"), 11))
    at, declared = asked(bySelf=True)
    assert told(at.hear(declared, said("approve"), 10))[0].approved_by.name == "ann"


def test_only_those_who_may_decide_do() -> None:
    at, declared = asked()
    for text in ("approve k1", "refuse k1"):
        deeds = at.hear(declared, said(text, "eve"), 10)
        assert (replies(deeds), told(deeds)) == (["eve, you may not decide about this."], [])
    at, declared = asked(users=["eve"])
    assert told(at.hear(declared, said("approve k1", "bob"), 10)) == []
    assert told(at.hear(declared, said("approve k1", "eve"), 10))[0].approved_by.name == "eve"


@pytest.mark.parametrize("by", ["bob", "ann"])
def test_a_no_or_a_withdrawal_is_told_to_flows(by: str) -> None:
    at, declared = asked()
    deeds = at.hear(declared, said("refuse", by), 10)
    (payload,) = told(deeds)
    assert (payload.reason, payload.refused_by.name) == ("refused", by)
    assert told(at.hear(declared, said("approve k1", "bob"), 11)) == []


def test_a_yes_that_comes_too_late_does_not_count() -> None:
    at, declared = asked()
    assert told(at.hear(declared, said("approve k1", "bob"), 300)) == []
    deeds = at.expire("k1")
    assert isinstance(deeds[0], SettleQuestion)
    assert deeds[0].text == "Expired without a decision: deploy shop"
    assert [payload.reason for payload in told(deeds)] == ["expired"]
    assert at.expire("k1") == []


def test_of_several_questions_the_answer_says_which() -> None:
    at, declared = asked()
    at.hear(declared, said("deploy bank"), 1)
    assert replies(at.hear(declared, said("approve", "bob"), 2)) == [
        "Several questions are open here; give the id: `k1`, `k2`."
    ]
    assert told(at.hear(declared, said("approve k2", "bob"), 3))[0].arguments["app"] == "bank"
    assert told(at.hear(declared, said("approve", "bob"), 4))[0].arguments["app"] == "shop"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("approve", "No question is open in this channel."),
        ("refuse", "No question is open in this channel."),
        (
            "approve k9",
            (
                "There is no open question `k9` in this channel: it was answered, it expired, or it"
                " was asked elsewhere."
            ),
        ),
        (
            "`refuse k9`",
            (
                "There is no open question `k9` in this channel: it was answered, it expired, or it"
                " was asked elsewhere."
            ),
        ),
    ],
)
def test_an_answer_that_fits_no_open_question_is_answered(text: str, answer: str) -> None:
    for more in ({}, {"prefix": "flyte"}):
        assert replies(hear(catalog(CONFIRMED, groups=GROUPS, **more), text)) == [answer]
    assert hear(CommandCatalog(), text) == []


@pytest.mark.parametrize(
    "text", ["approve k1 please", "approve, k1", "refuse — K1", "`approve` the last one"]
)
def test_an_answer_with_further_words_is_answered(text: str) -> None:
    at, declared = asked()
    assert replies(at.hear(declared, said(text, "bob"), 1)) == [
        "Write `approve` or `refuse`, and the id alone. Open here: `k1`."
    ]
    at.expire("k1")
    answers = "".join(replies(at.hear(declared, said(text, "bob"), 2))).casefold()
    assert ("no open question `k1`" in answers) is ("k1" in text.casefold())


def test_an_approval_of_something_else_is_left_alone() -> None:
    for more in ({}, {"prefix": "flyte"}):
        assert hear(catalog(CONFIRMED, groups=GROUPS, **more), "approve the budget") == []


def test_a_question_is_answered_only_where_it_was_asked() -> None:
    at, declared = asked()
    elsewhere = msgspec.structs.replace(said("approve k1", "bob"), channel_id="C2")
    (reply,) = at.hear(declared, elsewhere, 1)
    assert isinstance(reply, PostReply)
    assert (reply.channel_id, reply.text.split(":")[0]) == (
        "C2",
        "There is no open question `k1` in this channel",
    )
    assert at.answer("k1", "C2", person("bob"), 2, is_yes=True) == []
    assert told(at.answer("k1", "C1", person("bob"), 3, is_yes=True))


def test_ids_of_questions_do_not_collide_even_with_those_that_were_settled() -> None:
    at, declared = CommandDispatcher(lambda: "K1"), catalog(CONFIRMED, groups=GROUPS)
    for number, app in enumerate(("shop", "bank", "till")):
        (reply,) = at.hear(declared, said(f"deploy {app}"), 0)
        assert isinstance(reply, PostReply)
        assert reply.question is not None
        assert reply.question.id == ("k1", "k1-2", "k1-3")[number]
        if app != "bank":
            assert (
                told(at.hear(declared, said(f"approve {reply.question.id}", "bob"), 1))[
                    0
                ].arguments["app"]
                == app
            )


def test_a_command_that_was_withdrawn_from_the_datastore_is_still_judged_by_what_it_was() -> None:
    at, _ = asked()
    assert told(at.hear(CommandCatalog(), said("approve k1", "bob"), 10))


# -------------------------------------------------------------------------------------- in the room


ANN, BOB = User.named("ann"), User.named("bob")


def names(tester: PackTester) -> list[str]:
    return [event.name for event in tester.sent]


async def test_in_the_room_a_command_is_asked_for_approved_and_told_to_flows() -> None:
    room = Room(user=ANN)
    async with PackTester(pack_for(room)) as tester:
        tester.server.data["chatops"] = {"commands": [{**DEPLOY, "confirm": {}}]}
        question = await room.say("deploy shop 1.2")
        assert names(tester) == ["ReceivedMessage"]
        answer = room.messages[-1]
        assert (answer.thread, answer.text.split("\n")[0]) == (
            question.timestamp,
            "ann asks for: deploy shop 1.2",
        )
        await room.say("approve", user=BOB)
        assert names(tester) == ["ReceivedMessage", "ReceivedMessage", "CommandReceived"]
        payload = tester.sent[-1].payload
        assert payload["arguments"] == {"app": "shop", "version": "1.2"}
        assert (payload["user"]["name"], payload["approvedBy"]["name"]) == ("ann", "bob")
        assert (payload["channelId"], payload["threadTimestamp"]) == (
            room.channels[0].id,
            question.timestamp,
        )
        assert [message.text for message in room.messages if message.is_edited] == [
            "Approved by bob: deploy shop 1.2"
        ]


async def test_in_the_room_a_question_that_nobody_answers_is_over_after_its_time() -> None:
    room = Room(user=ANN)
    async with PackTester(pack_for(room)) as tester:
        tester.server.data["chatops"] = {"commands": [{**DEPLOY, "confirm": {"within": "5m"}}]}
        await room.say("deploy shop")
        await tester.advance(299)
        assert names(tester) == ["ReceivedMessage"]
        await tester.advance(1)
        await settle()
        assert tester.sent[-1].payload["reason"] == "expired"
    assert room.messages[-1].text == "Expired without a decision: deploy shop"


async def test_what_is_declared_is_read_again_and_what_is_faulty_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = Room(user=ANN)
    async with PackTester(pack_for(room)) as tester:
        await room.say("deploy shop")
        assert "CommandReceived" not in names(tester)
        tester.server.data["chatops"] = {"commands": [DEPLOY]}
        await tester.advance(10)
        await room.say("deploy shop")
        assert names(tester).count("CommandReceived") == 1
        for broken in ({"commands": [{"pattern": "deploy"}, {"patern": "x"}]}, "text"):
            tester.server.data["chatops"] = broken
            await tester.advance(10)
            await room.say("deploy shop")
        tester.server.fail(status=503, on="/chatops")
        await tester.advance(10)
        await room.say("deploy shop")
        assert names(tester).count("CommandReceived") == 4
        del tester.server.data["chatops"]
        await tester.advance(10)
        await room.say("deploy shop")
        assert names(tester).count("CommandReceived") == 4
    assert (
        "chatops cannot be used: not valid: commands[1]: Object contains unknown field `patern`; did"
        " you mean `pattern`?; keeping" in caplog.text
    )


async def test_a_channel_is_meant_by_its_name() -> None:
    room = Room(user=ANN, channels=["general", "deploys"])
    async with PackTester(pack_for(room)) as tester:
        tester.server.data["chatops"] = {
            "commands": [{**DEPLOY, "allow": {"channels": ["#deploys"]}}]
        }
        await room.say("deploy shop")
        await room.say("deploy shop", channel="deploys")
        assert [name for name in names(tester) if name != "ReceivedMessage"] == [
            "CommandRefused",
            "CommandReceived",
        ]
