"""What the Matrix pack makes of settings, of what flows say and of what strangers write; talking
is tested with a homeserver.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flyteops.errors import SettingsError
from flyteops.packs.chatops.message import User
from flyteops.packs.matrix import create
from flyteops.packs.matrix.api import MatrixIdentity
from flyteops.packs.matrix.content import MOST_BYTES, MessageText, edit, markdown, message
from flyteops.packs.matrix.messenger import person
from flyteops.packs.matrix.settings import MatrixSettings
from flyteops.packs.matrix.timeline import (
    RoomEvent,
    RoomMembers,
    SyncResponse,
    display_names,
    read_events,
    read_message,
    read_reaction,
    without_address,
)
from flyteops.sdk.health import run_checks

OWN = MatrixIdentity("@flyte:flyte.test", "Flyte Bot")
GOOD = {"FLYTE_MATRIX_HOMESERVER": "https://matrix.flyte.test", "FLYTE_MATRIX_TOKEN": "syt_secret"}


KEYS = [
    *(
        "body",
        "msgtype",
        "m.relates_to",
        "m.mentions",
        "user_ids",
        "m.in_reply_to",
        "event_id",
        "rel_type",
        "key",
    ),
    *("info", "size", "mimetype", "url", "filename", "membership", "displayname"),
]


def objects(inner: Any) -> Any:
    return st.dictionaries(
        st.sampled_from(KEYS),
        inner | st.sampled_from(["m.image", "m.thread", "m.annotation", "join"]),
    )


def said(body: Any, **content: Any) -> RoomEvent:
    return RoomEvent(
        "m.room.message",
        "$1",
        "@ann:flyte.test",
        content={"msgtype": "m.text", "body": body, **content},
    )


# ----------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("environ", "problems"),
    [
        (
            {},
            [
                "FLYTE_MATRIX_HOMESERVER: is not set",
                "FLYTE_MATRIX_TOKEN: is not set: the access token of the bot, or ",
            ],
        ),
        (
            {"FLYTE_MATRIX_HOMESERVER": "flyte.test", "FLYTE_MATRIX_TOKEN": "a b"},
            ["'flyte.test' is not an address", "a token cannot have"],
        ),
        (
            {**GOOD, "FLYTE_MATRIX_PASSWORD": "x"},
            [
                "FLYTE_MATRIX_TOKEN: FLYTE_MATRIX_PASSWORD is set as well",
                "the user of the password",
            ],
        ),
        (
            {**GOOD, "FLYTE_MATRIX_TOKEN_FILE": "/nowhere"},
            ["FLYTE_MATRIX_TOKEN_FILE: FLYTE_MATRIX_TOKEN is set as well"],
        ),
        (
            {**GOOD, "FLYTE_MATRIX_TOKEN": "", "FLYTE_MATRIX_TOKEN_FILE": "/nowhere"},
            ["cannot read '/nowhere': No such file"],
        ),
        (
            {**GOOD, "FLYTE_MATRIX_INVITES": "@ann, flyte.test"},
            ["'@ann' is neither a user such as"],
        ),
        (
            {**GOOD, "FLYTE_MATRIX_USER": "@flyte", "FLYTE_MATRIX_NOTICES": "yes"},
            ["is not a user such as", "neither true nor false"],
        ),
    ],
)
def test_settings_tell_every_fault_at_once_and_no_secret(
    environ: dict[str, str], problems: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        create(environ)
    assert len(caught.value.problems) == len(problems)
    assert all(problem in str(caught.value) for problem in problems)
    assert "secret" not in str(caught.value)


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" correct horse \n")
    by_file = {
        "FLYTE_MATRIX_TOKEN": "",
        "FLYTE_MATRIX_USER": "flyte",
        "FLYTE_MATRIX_PASSWORD_FILE": str(file),
    }
    read = MatrixSettings.read(GOOD | by_file)
    assert read.account.password == " correct horse "
    assert "horse" not in repr(read)


def test_invitations_are_for_people_and_servers_by_their_whole_names() -> None:
    invites = MatrixSettings.read(
        GOOD | {"FLYTE_MATRIX_INVITES": "@ann:other.test, flyte.test"}
    ).invites
    accepted = ["@ann:other.test", "@bob:flyte.test"]
    declined = ["@bob:other.test", "@ann:other.test.evil", "@x:evil.flyte.test", "flyte.test", ""]
    assert [user for user in accepted + declined if invites.allow(user)] == accepted
    assert not MatrixSettings.read(GOOD).invites.allow("@flyte:flyte.test")


async def test_the_check_says_that_nobody_is_there() -> None:
    pack = create(GOOD | {"FLYTE_MATRIX_HOMESERVER": "http://127.0.0.1:9"})
    health = (await run_checks(pack.declaration().checks, 10))["Matrix"]
    assert (health.healthy, health.status.startswith("http://127.0.0.1:9 cannot be reached: ")) == (
        False,
        True,
    )


# ----------------------------------------------------------------------------------- what flows say


def test_markdown_becomes_html_and_html_in_it_stays_text() -> None:
    text = markdown("**1** <b>2</b> [3](javascript:x)\n~~4~~")
    assert (
        text.html
        == "<p><strong>1</strong> &lt;b&gt;2&lt;/b&gt; [3](javascript:x)<br />\n<s>4</s></p>"
    )


@pytest.mark.parametrize(
    "text",
    [
        MessageText('é"' * 100_000),
        markdown("# é\n" * 30_000),
        MessageText("\x01" * 60_000, html="<b>"),
    ],
)
def test_what_is_too_large_is_cut_to_what_matrix_takes_and_says_so(text: MessageText) -> None:
    for content in (message(text, thread="$1"), edit(text, "$1")):
        assert MOST_BYTES - 100 < len(msgspec.json.encode(content)) <= MOST_BYTES
        assert content["body"].endswith(f" of {len(text.plain)} characters]")
        assert "formatted_body" not in content


def test_a_text_that_is_too_large_only_with_its_format_loses_the_format() -> None:
    content = message(MessageText("x" * 40_000, html="y" * 40_000))
    assert (content["body"], "formatted_body" in content) == ("x" * 40_000, False)


def test_who_is_meant_by_id_is_alarmed_and_a_whole_room_never() -> None:
    content = message(
        MessageText("@room @ann:flyte.test, and @bob:other.test:8448: look. @ann:flyte.test. a@b")
    )
    assert content["m.mentions"] == {"user_ids": ["@ann:flyte.test", "@bob:other.test:8448"]}
    assert message(MessageText("@room look"))["m.mentions"] == {}


def test_a_whole_room_is_alarmed_where_the_flow_says_so() -> None:
    assert message(MessageText("@room look", mentions_room=True))["m.mentions"] == {"room": True}
    assert (
        message(MessageText("a@room @rooms @room:flyte.test", mentions_room=True))[
            "m.mentions"
        ].get("room")
        is None
    )


# ----------------------------------------------------------------------------- what strangers write


def test_what_is_no_event_is_left_out_and_the_others_are_read() -> None:
    good = {"type": "m.room.message", "event_id": "$1", "sender": "@ann:flyte.test", "content": {}}
    bad: list[Any] = [
        None,
        5,
        [],
        {},
        {"type": 3},
        {**good, "content": []},
        {**good, "sender": None},
    ]
    assert [event.event_id for event in read_events([*bad, good])] == ["$1"]


@pytest.mark.parametrize(
    "relation", [None, 5, [], "x", {"rel_type": 5}, {"m.in_reply_to": []}, {"rel_type": "m.thread"}]
)
def test_a_relation_that_is_none_makes_a_message_of_its_own(relation: Any) -> None:
    received = read_message(said("hi", **{"m.relates_to": relation}), "!r", RoomMembers(OWN, {}))
    assert received is not None
    assert (received.message, received.thread_timestamp, received.reply_to) == ("hi", "$1", "")
    assert read_reaction(said("hi", **{"m.relates_to": relation})) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | objects(inner),
        max_leaves=15,
    )
)
@settings(deadline=None, max_examples=50)
def test_whatever_somebody_writes_can_be_read(value: Any) -> None:
    for event in (
        said(value),
        said("hi", **{"m.relates_to": value}),
        RoomEvent("m.sticker", unsigned={"age": value}),
    ):
        for content in (event.content, value if isinstance(value, dict) else {}):
            made = RoomEvent(
                event.type,
                "$1",
                "@ann:flyte.test",
                "@ann:flyte.test",
                content,
                {"prev_content": value, "age": value},
            )
            received = read_message(made, "!r", RoomMembers(OWN, display_names([made])))
            assert isinstance(made.age, float)
            assert made.comes in (True, False)
            read_reaction(made)
            if received is not None:
                without_address(made, received.message, OWN)


@pytest.mark.parametrize("event_id", ["$é:flyte.test", "", "$" + "x" * 300, "$a b"])
def test_every_event_has_a_key_that_flyte_takes_and_that_is_its_own(event_id: str) -> None:
    key = RoomEvent("m.room.message", event_id).key
    assert key.isascii()
    assert 0 < len(key) <= 200
    assert key != RoomEvent("m.room.message", f"{event_id}2").key
    assert RoomEvent("m.room.message", "$-_aB3").key == "$-_aB3"


def test_messages_of_unknown_kinds_are_none() -> None:
    people = RoomMembers(OWN, {})
    kinds = ["m.key.verification.request", "org.example.poll", None, ["m.text"], 5]
    assert not [kind for kind in kinds if read_message(said("hi", msgtype=kind), "!r", people)]
    assert read_message(RoomEvent("m.room.message", "$1", "@ann:flyte.test"), "!r", people) is None


def test_what_is_said_of_a_file_is_bounded_and_only_believed_as_far_as_it_goes() -> None:
    info = {"size": -1, "mimetype": "x" * 1000}
    received = read_message(
        said("y" * 1000, msgtype="m.file", url="https://evil.test/", info=info),
        "!r",
        RoomMembers(OWN, {}),
    )
    assert received is not None
    assert received.media is not None
    assert (received.media.url, received.media.size) == ("", None)
    assert (len(received.media.name), len(received.media.mime_type)) == (255, 255)


def test_names_come_from_ids_and_what_people_call_themselves_is_cleaned() -> None:
    shown = {
        "@ann:flyte.test": "bob \u202e\x00\n Lee",
        "@ann:other.test": "ann",
        "@old:flyte.test": "",
    }
    people = RoomMembers(OWN, shown)
    assert people.user("@ann:flyte.test") == User(
        "@ann:flyte.test", "ann", first_name="bob", last_name="Lee"
    )
    assert people.user("@ann:other.test").name == "@ann:other.test"
    assert people.user("@old:flyte.test").first_name == "old"
    names = [
        RoomEvent("m.room.member", state_key="@x:y", content={"displayname": ["no"]}),
        RoomEvent("m.room.member"),
    ]
    assert display_names(names) == {"@x:y": ""}


@pytest.mark.parametrize(
    "user_id",
    [
        "@Ann:flyte.test",
        "@@ann:flyte.test",
        "@#ann:flyte.test",
        "@ann :flyte.test",
        "@ß:flyte.test",
    ],
)
def test_who_could_be_taken_for_another_is_nobody_to_rules(user_id: str) -> None:
    assert person(User(user_id, "")).names == frozenset()
    assert person(User("@ann:flyte.test", "")).names == {"ann:flyte.test"}


@pytest.mark.parametrize(
    ("text", "mentions", "rest"),
    [
        ("flyte: deploy x", [], "deploy x"),
        ("Flyte bot, deploy x", [], "deploy x"),
        ("@flyte: deploy x", [], "deploy x"),
        ("@flyte:flyte.test deploy x", [], "deploy x"),
        ("@flyte:flyte.test: deploy x", [], "deploy x"),
        ("Flyte Bot deploy x", ["@flyte:flyte.test"], "deploy x"),
        ("flyte deploy x", [], None),
        ("flytes: deploy x", [], None),
        ("deploy x for flyte: y", ["@flyte:flyte.test"], None),
        ("flyte deploy x", 5, None),
    ],
)
def test_the_bot_is_called_by_id_or_by_name_and_colon(
    text: str, mentions: Any, rest: str | None
) -> None:
    assert without_address(said(text, **{"m.mentions": {"user_ids": mentions}}), text, OWN) == rest


def test_news_without_anything_are_news() -> None:
    assert msgspec.convert({"next_batch": "s1"}, SyncResponse).rooms.join == {}
