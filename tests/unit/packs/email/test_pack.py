"""What the Email pack sends, through a mail server with real sockets."""

import asyncio
import base64
import logging
from pathlib import Path
from typing import Any

import pytest

from flyteops.errors import FlyteError, SettingsError
from flyteops.packs import email
from flyteops.packs.email.header import read_mailboxes
from flyteops.sdk import Event
from flyteops.sdk.testing import PackTester
from tests.certificate import Certificate, server_context
from tests.smtp import MailServer, mail_server

LETTER = {
    "from": "flyte@example.com",
    "to": ["ann@example.com"],
    "subject": "Hello",
    "body": "How are you?",
}
ECHO = {**LETTER, "isHtmlEmail": False}


async def send(server: MailServer | str, command_input: Any, **environ: str) -> Event:
    place = server if isinstance(server, str) else server.place
    async with PackTester(email.create({"SMTPSERVER": place, **environ})) as tester:
        return await tester.run("SendEmail", command_input)


def failed(why: str, **more: Any) -> Event:
    return Event("SendEmailFailed", {**ECHO, "refused": [], "error": why, "Err": why, **more})


# ------------------------------------------------------------------------------------- what is sent


async def test_a_mail_is_sent_and_its_input_told_again() -> None:
    async with mail_server() as server:
        event = await send(server, LETTER)
    (mail,) = server.mails
    assert event == Event(
        "EmailSent", {**ECHO, "refused": [], "messageId": str(mail.message["Message-ID"])}
    )
    assert (mail.sender, mail.recipients) == ("flyte@example.com", ["ann@example.com"])
    headers = {name: str(value) for name, value in mail.message.items()}
    assert headers.pop("Message-ID").endswith("@example.com>")
    assert headers == {
        "From": "flyte@example.com",
        "To": "ann@example.com",
        "Subject": "Hello",
        "Date": "Mon, 01 Jan 2024 12:00:00 +0000",
        "Auto-Submitted": "auto-generated",
        "Content-Type": 'text/plain; charset="utf-8"',
        "Content-Transfer-Encoding": "7bit",
        "MIME-Version": "1.0",
    }
    assert mail.message.get_content() == "How are you?\n"


async def test_input_is_read_as_the_original_pack_does() -> None:
    async with mail_server() as server:
        event = await send(
            server,
            {
                "FROM": "a@x.de",
                "To": ["b@x.de"],
                "Subject": None,
                "isHtmlEmail": "true",
                "colour": 3,
            },
        )
        assert event.payload["isHtmlEmail"] is True
        assert event.payload["subject"] == ""
        assert server.mails[0].message.get_content_type() == "text/html"
        event = await send(server, {**LETTER, "to": 7})
    assert event == Event(
        "FATAL",
        "Could not unmarshal input for 'SendEmail' command: Expected `str | array | null`, got"
        " `int` - at `$.to`",
    )


async def test_one_recipient_may_be_a_text() -> None:
    async with mail_server() as server:
        event = await send(server, {**LETTER, "to": "Ann <ann@example.com>, bob@example.com"})
    assert event.payload["to"] == ["Ann <ann@example.com>, bob@example.com"]
    assert server.mails[0].recipients == ["ann@example.com", "bob@example.com"]


async def test_copies_go_to_everybody_once_and_blind_ones_are_not_told() -> None:
    copies = {
        "cc": ["Bob <bob@example.com>", "ann@example.com"],
        "bcc": "carl@example.com",
        "replyTo": "desk@example.com",
    }
    async with mail_server() as server:
        await send(server, {**LETTER, **copies})
    (mail,) = server.mails
    assert mail.recipients == ["ann@example.com", "bob@example.com", "carl@example.com"]
    assert str(mail.message["Cc"]) == "Bob <bob@example.com>, ann@example.com"
    assert str(mail.message["Reply-To"]) == "desk@example.com"
    assert b"carl" not in mail.content


async def test_text_and_html_and_files_go_together() -> None:
    file = {"filename": "Übersicht.pdf", "content": base64.encodebytes(b"%PDF\0" * 40).decode()}
    note = {"filename": "a\r\nX-Evil: 1.txt", "contentType": "text/x-note", "content": ""}
    async with mail_server() as server:
        await send(server, {**LETTER, "html": "<p>Wie geht's?</p>", "attachments": [file, note]})
    message = server.mails[0].message
    assert message.get_body(("plain",)).get_content() == "How are you?\n"  # type: ignore[union-attr]
    assert message.get_body(("html",)).get_content() == "<p>Wie geht's?</p>\n"  # type: ignore[union-attr]
    pdf, text = message.iter_attachments()
    assert (pdf.get_filename(), pdf.get_content_type(), pdf.get_content()) == (
        "Übersicht.pdf",
        "application/pdf",
        b"%PDF\0" * 40,
    )
    assert (text.get_filename(), text.get_content_type()) == ("a X-Evil: 1.txt", "text/x-note")
    assert message["X-Evil"] is None


OUTLOOK_ID = "<AM9PR04MB8505A1B2C3D4E5F60718293A4B5C6D7E8@AM9PR04MB8505.eurprd04.prod.outlook.com>"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (OUTLOOK_ID, OUTLOOK_ID),
        ("<20260302.101500.77>", "<20260302.101500.77>"),
        ("<1@example.com> (Ann's mail of Monday)", "<1@example.com> (Ann's mail of Monday)"),
        ("1@example.com", "<1@example.com>"),
        ("20260302.77", "20260302.77"),
        (f"<{'x' * 800}@example.com>", f"<{'x' * 800}@example.com>"),
        ("<=?utf-8?q?a?=@example.com>", "<=?utf-8?q?a?=@example.com>"),
        (f"{OUTLOOK_ID} {OUTLOOK_ID}", f"{OUTLOOK_ID} {OUTLOOK_ID}"),
    ],
)
async def test_the_id_of_the_mail_that_is_answered_is_sent_as_it_is(given: str, sent: str) -> None:
    async with mail_server() as server:
        await send(server, {**LETTER, "inReplyTo": given})
    headers = server.mails[0].content.replace(b"\r\n ", b" ").split(b"\r\n")
    assert f"In-Reply-To: {sent}".encode() in headers


async def test_an_answer_names_all_mails_of_its_thread_and_no_id_is_broken() -> None:
    thread = [OUTLOOK_ID.replace("AM9", f"AM{number}") for number in range(5)]
    async with mail_server() as server:
        await send(
            server,
            {
                **LETTER,
                "inReplyTo": thread[-1],
                "references": [" ".join(thread[:3]), thread[3], thread[4]],
            },
        )
    assert (
        b"References: " + b"\r\n ".join(each.encode() for each in thread) + b"\r\n"
        in server.mails[0].content
    )


async def test_of_a_long_thread_the_first_and_the_last_mails_are_named() -> None:
    thread = [f"<{number}@example.com>" for number in range(500)]
    async with mail_server() as server:
        await send(server, {**LETTER, "inReplyTo": "<500@example.com>", "references": thread})
    named = str(server.mails[0].message["References"]).split()
    assert (named[0], named[1], named[-1], len(named)) == (
        thread[0],
        "<452@example.com>",
        "<500@example.com>",
        50,
    )


@pytest.mark.parametrize("wrong", ["<é@example.com>", f"<{'x' * 1000}@example.com>"])
async def test_ids_that_no_mail_can_carry_are_refused(wrong: str) -> None:
    async with mail_server() as server:
        event = await send(server, {**LETTER, "inReplyTo": wrong})
    assert (
        "cannot be sent: ids of messages are ASCII, at most 900 characters each"
        in event.payload["error"]
    )


async def test_addresses_longer_than_a_line_stay_whole() -> None:
    long = f"{'x' * 60}@{'y' * 60}.example.com"
    people = [
        f"bounces+{long}",
        f"Jörg Müller <{long}>",
        f'"Bee, Ann" <{long}>',
        f"{'Long Name ' * 20}<{long}>",
        f"{'Größe ' * 20}<{long}>",
    ]
    async with mail_server() as server:
        await send(server, {**LETTER, "from": long, "to": people})
    (mail,) = server.mails
    found = read_mailboxes(
        [mail.content.partition(b"To: ")[2].partition(b"Subject:")[0].decode()]
    ).found
    names = ["", "Jörg Müller", "Bee, Ann", ("Long Name " * 20).strip(), ("Größe " * 20).strip()]
    assert found == [(name, f"bounces+{long}" if not name else long) for name in names]
    assert mail.content.isascii()
    assert b"=?utf-8?q?=3C" not in mail.content


async def test_letters_of_all_alphabets_arrive() -> None:
    text = "Grüße, привет, 你好 🎉 " * 60
    async with mail_server() as server:
        await send(
            server,
            {**LETTER, "from": "Jörg Müller <j@bücher.example>", "subject": text, "body": text},
        )
    (mail,) = server.mails
    assert mail.content.isascii()
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    assert mail.message["Subject"] == text.strip()
    assert mail.message.get_content() == f"{text}\r\n"
    assert mail.message["From"].addresses[0].display_name == "Jörg Müller"
    assert mail.sender == "j@xn--bcher-kva.example"


async def test_an_address_beyond_ascii_needs_a_server_that_knows_such() -> None:
    async with mail_server(enable_SMTPUTF8=True) as server:
        assert (await send(server, {**LETTER, "to": ["jörg@example.com"]})).name == "EmailSent"
    assert server.mails[0].recipients == ["jörg@example.com"]
    assert "SMTPUTF8" in server.mails[0].options
    async with mail_server() as server:
        event = await send(server, {**LETTER, "to": ["jörg@example.com"]})
    assert (
        event.payload["error"]
        == f"{server.place} does not support addresses with non-ASCII letters (SMTPUTF8)"
    )


async def test_an_answer_belongs_to_the_thread_of_what_it_answers() -> None:
    async with mail_server() as server:
        await send(server, {**LETTER, "inReplyTo": "<1@example.org>"})
    assert (
        server.mails[0].message["In-Reply-To"]
        == server.mails[0].message["References"]
        == "<1@example.org>"
    )


async def test_the_sender_may_be_a_setting() -> None:
    async with mail_server() as server:
        event = await send(
            server, {**LETTER, "from": ""}, FLYTE_EMAIL_FROM="Flyte <desk@example.com>"
        )
    assert event.payload["from"] == "Flyte <desk@example.com>"
    assert server.mails[0].sender == "desk@example.com"


# ------------------------------------------------------------------------------------ what is wrong


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"to": []}, "to: there is no recipient"),
        ({"to": ["", " "]}, "to: there is no recipient"),
        ({"from": "a@x.de, b@x.de"}, "from: is not a single address"),
        ({"from": ""}, "from: is not a single address"),
        ({"to": ["ann"]}, "to: 'ann' is not an address such as ann@example.com"),
        (
            {"to": ["a@x.de;b@x.de"]},
            "to: 'a@x.de;b@x.de' is not an address such as ann@example.com",
        ),
        (
            {"cc": "a@x.de\r\nBcc: b@x.de"},
            "cc: 'a@x.de\\r\\nBcc: b@x.de' is not an address such as ann@example.com",
        ),
        (
            {"to": "<a@x.de> NOTIFY=NEVER"},
            "to: '<a@x.de> NOTIFY=NEVER' is not an address such as ann@example.com",
        ),
        (
            {"inReplyTo": "<1@x>\r\nX: 1"},
            "inReplyTo: '<1@x>\\r\\nX: 1' is not the id of a message such as <1@example.com>",
        ),
        (
            {"attachments": [{"filename": "x", "content": "%"}]},
            "attachments[0].content: is not base64",
        ),
        (
            {
                "attachments": [{"filename": "x", "content": "", "contentType": "message/rfc822"}],
                "replyTo": "x",
            },
            (
                "replyTo: 'x' is not an address such as ann@example.com;"
                " attachments[0].contentType: 'message/rfc822' is not the type of a file such as"
                " application/pdf"
            ),
        ),
    ],
)
async def test_what_is_no_mail_is_not_sent(wrong: dict[str, Any], why: str) -> None:
    async with mail_server() as server:
        event = await send(server, {**LETTER, **wrong})
    assert (event.name, event.payload["error"], event.payload["Err"]) == (
        "SendEmailFailed",
        why,
        why,
    )
    assert server.seen == []


async def test_a_subject_cannot_smuggle_headers() -> None:
    async with mail_server() as server:
        await send(
            server,
            {**LETTER, "subject": "Disk full\r\nBcc: evil@example.com\r\n\r\nbody\x00\u2028!\n"},
        )
    message = server.mails[0].message
    assert str(message["Subject"]) == "Disk full Bcc: evil@example.com body !"
    assert message["Bcc"] is None


async def test_a_line_that_holds_one_dot_does_not_end_the_mail() -> None:
    async with mail_server() as server:
        await send(server, {**LETTER, "body": "a\n.\nRSET\n..b"})
    assert server.mails[0].message.get_content() == "a\n.\nRSET\n..b\n"


# ----------------------------------------------------------------------------- what the server says


async def test_a_recipient_that_is_refused_is_told_and_the_others_get_the_mail() -> None:
    async with mail_server(answers={"bob@example.com": ["550 5.1.1 no such user"]}) as server:
        event = await send(server, {**LETTER, "to": ["ann@example.com", "bob@example.com"]})
    assert event.name == "EmailSent"
    assert event.payload["refused"] == [
        {"address": "bob@example.com", "code": 550, "message": "5.1.1 no such user"}
    ]
    assert server.mails[0].recipients == ["ann@example.com"]


async def test_when_nobody_is_taken_nothing_is_sent() -> None:
    async with mail_server(answers={"ann@example.com": ["550 no such user"]}) as server:
        event = await send(server, LETTER)
    refused = [{"address": "ann@example.com", "code": 550, "message": "no such user"}]
    assert event == failed("ann@example.com: 550 no such user", refused=refused)
    assert server.seen == ["RCPT ann@example.com 550"]


async def test_who_is_refused_for_now_is_tried_again_and_nobody_gets_it_twice() -> None:
    async with mail_server(
        answers={"bob@example.com": ["451 try later", "451 try later"]}
    ) as server:
        event = await send(server, {**LETTER, "to": ["ann@example.com", "bob@example.com"]})
    assert (event.name, event.payload["refused"]) == ("EmailSent", [])
    assert [mail.recipients for mail in server.mails] == [["ann@example.com"], ["bob@example.com"]]
    assert len({mail.message["Message-ID"] for mail in server.mails}) == 1


async def test_who_is_refused_to_the_end_is_told_although_others_got_it() -> None:
    async with mail_server(answers={"bob@example.com": ["451 later"] * 9}) as server:
        event = await send(
            server,
            {**LETTER, "to": ["ann@example.com", "bob@example.com"]},
            FLYTE_EMAIL_RETRIES="1",
        )
        assert event.payload["refused"] == [
            {"address": "bob@example.com", "code": 451, "message": "later"}
        ]
        event = await send(server, {**LETTER, "to": ["bob@example.com"]}, FLYTE_EMAIL_RETRIES="1")
    assert (event.name, event.payload["error"]) == ("SendEmailFailed", "bob@example.com: 451 later")


async def test_a_message_that_is_refused_for_now_is_sent_again() -> None:
    async with mail_server(answers={"DATA": ["451 full"]}) as server:
        assert (await send(server, LETTER)).name == "EmailSent"
    assert server.seen == [
        "RCPT ann@example.com 250",
        "DATA 451",
        "RCPT ann@example.com 250",
        "DATA 250",
    ]


async def test_who_is_refused_in_every_attempt_is_told_once() -> None:
    async with mail_server(
        answers={"bob@example.com": ["550 no", "550 no"], "DATA": ["451 full"]}
    ) as server:
        event = await send(server, {**LETTER, "to": ["ann@example.com", "bob@example.com"]})
    assert event.payload["refused"] == [
        {"address": "bob@example.com", "code": 550, "message": "no"}
    ]


async def test_a_message_that_is_refused_is_not() -> None:
    async with mail_server(answers={"DATA": ["554 spam"]}) as server:
        assert await send(server, LETTER) == failed("554 spam")
    assert server.seen == ["RCPT ann@example.com 250", "DATA 554"]


async def test_a_message_that_may_have_been_taken_is_not_sent_twice() -> None:
    async with mail_server(answers={"DATA": ["hang up"]}) as server:
        event = await send(server, LETTER)
    assert event.payload["error"].startswith(
        f"{server.place} did not confirm that it accepted the message: "
    )
    assert server.seen == ["RCPT ann@example.com 250", "DATA han"]


async def test_a_message_that_was_taken_is_not_sent_twice_because_the_server_hangs_up() -> None:
    async with mail_server(answers={"QUIT": ["hang up"]}) as server:
        assert (await send(server, LETTER)).name == "EmailSent"
    assert len(server.mails) == 1


async def test_a_message_larger_than_the_server_takes_is_refused() -> None:
    async with mail_server(data_size_limit=2000) as server:
        event = await send(server, {**LETTER, "body": "x " * 2000})
    assert event.name == "SendEmailFailed"
    assert event.payload["error"].startswith("552 ")


async def test_a_server_that_is_not_there_or_says_nothing_is_told() -> None:
    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
        place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        event = await send(place, LETTER, FLYTE_EMAIL_TIMEOUT="100ms", FLYTE_EMAIL_RETRIES="0")
        assert event.payload["error"].startswith(f"{place}: ")
        assert "imed out" in event.payload["error"]
    event = await send(place, LETTER, FLYTE_EMAIL_RETRIES="2")
    assert event.payload["error"].startswith(f"{place}: ")
    assert "\n" not in event.payload["error"]


# -------------------------------------------------------------------------------- TLS and passwords


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Any, dict[str, str]]:
    return server_context(tmp_path, Certificate()), {
        "FLYTE_EMAIL_CA_CERT_FILE": str(tmp_path / "cert.pem")
    }


LOGIN = {"FLYTE_EMAIL_USER": "flyte", "FLYTE_EMAIL_PASSWORD": "s3cret"}


async def test_tls_is_used_when_it_is_offered(certificate: tuple[Any, dict[str, str]]) -> None:
    async with mail_server(tls_context=certificate[0]) as server:
        assert (await send(server, LETTER)).name == "EmailSent"
    assert server.mails[0].secured


async def test_with_tls_required_nothing_goes_over_the_wire_without(
    certificate: tuple[Any, dict[str, str]],
) -> None:
    tls, trusted = certificate
    async with mail_server() as server:
        event = await send(server, LETTER, FLYTE_EMAIL_TLS="required", **trusted)
    assert (event.name, server.seen) == ("SendEmailFailed", [])
    assert "STARTTLS" in event.payload["error"]
    async with mail_server(tls_context=tls) as server:
        assert (
            await send(server, LETTER, FLYTE_EMAIL_TLS="required", **trusted)
        ).name == "EmailSent"
        event = await send(server, LETTER, FLYTE_EMAIL_TLS="required")
    assert event.payload["error"].startswith(
        f"{server.place} presented a certificate that is not trusted: "
    )


async def test_tls_from_the_start(certificate: tuple[Any, dict[str, str]]) -> None:
    tls, trusted = certificate
    async with mail_server(tls) as server:
        assert (
            await send(server, LETTER, FLYTE_EMAIL_TLS="implicit", **trusted)
        ).name == "EmailSent"
        event = await send(server, LETTER, FLYTE_EMAIL_TLS="implicit")
    assert event.payload["error"].startswith(
        f"{server.place} presented a certificate that is not trusted: "
    )


async def test_a_login_is_told_over_tls_and_nowhere_else(
    certificate: tuple[Any, dict[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flyte")
    caplog.set_level(logging.DEBUG, "aiosmtplib")
    tls, trusted = certificate
    async with mail_server(tls_context=tls, auth_required=True) as server:
        assert (await send(server, LETTER, **LOGIN, **trusted)).name == "EmailSent"
        wrong = {**LOGIN, "FLYTE_EMAIL_PASSWORD": "wr0ng"}
        event = await send(server, LETTER, **wrong, **trusted)
        assert event.payload["error"].startswith(f"{server.place} refuses the login of flyte: 535 ")
        pack = email.create({"SMTPSERVER": server.place, **LOGIN, **trusted})
        assert (
            await pack.declaration().checks["SMTP"]()
            == f"connected to {server.place} over TLS as flyte"
        )
        with pytest.raises(FlyteError, match="refuses the login of flyte: 535"):
            await (
                email.create({"SMTPSERVER": server.place, **wrong, **trusted})
                .declaration()
                .checks["SMTP"]()
            )
    for secret in ("s3cret", "wr0ng"):
        assert secret not in caplog.text


# ----------------------------------------------------------------------------------------- settings


def test_wrong_settings_are_told_all_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        email.create({
            "FLYTE_EMAIL_USER": "flyte",
            "FLYTE_EMAIL_TLS": "offered",
            "FLYTE_EMAIL_FROM": "nobody",
            "FLYTE_EMAIL_RETRIES": "11",
            "FLYTE_EMAIL_TIMEOUT": "soon",
        })  # fmt: skip
    assert [str(problem) for problem in caught.value.problems] == [
        "FLYTE_EMAIL_TIMEOUT: 'soon' is not a duration such as 30s, 5m or 1h30m",
        "SMTPSERVER: is not set: the mail server, such as mail.example.com:587",
        (
            "FLYTE_EMAIL_TLS: with a login, use required, implicit or off: otherwise the password"
            " could be sent without TLS"
        ),
        "FLYTE_EMAIL_FROM: 'nobody' is not an address such as ann@example.com",
        "FLYTE_EMAIL_RETRIES: '11' is not a number from 0 to 10",
    ]


@pytest.mark.parametrize(
    "server", ["smtp://mail.example.com", "mail example", "mail:0", "mail:99999", "user@mail"]
)
def test_what_is_no_mail_server_is_refused(server: str) -> None:
    with pytest.raises(SettingsError, match=r"is not a mail server such as mail\.example\.com:587"):
        email.create({"SMTPSERVER": server})


def test_no_password_is_shown() -> None:
    assert "s3cret" not in repr(
        email.settings.EmailSettings.read({"SMTPSERVER": "mail.example.com", **LOGIN})
    )


IMAP = {
    "FLYTE_EMAIL_IMAP_URL": "imaps://flyte%40example.com@mail.example.com/Some%20folder",
    "FLYTE_EMAIL_IMAP_PASSWORD": "s3cret",
}


def test_a_mailbox_may_be_all_there_is() -> None:
    declaration = email.create(IMAP).declaration()
    assert (list(declaration.commands), list(declaration.events)) == ([], ["ReceivedEmail"])
    assert list(declaration.checks) == ["IMAP"]
    reception = email.settings.EmailSettings.read(IMAP).reception
    assert reception is not None
    assert reception.server.place == "Some folder of flyte@example.com at mail.example.com:993"
    assert "s3cret" not in repr(reception)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (
            "imaps://flyte:s3cret@mail.example.com",
            "contains a password; set it in FLYTE_EMAIL_IMAP_PASSWORD",
        ),
        (
            "imaps://mail.example.com",
            (
                "'imaps://mail.example.com' is not a mailbox such as"
                " imaps://flyte@mail.example.com/INBOX"
            ),
        ),
        ("pop://a@b", "'pop://a@b' is not a mailbox such as imaps://flyte@mail.example.com/INBOX"),
        (
            "imap://a@b:99999",
            "'imap://a@b:99999' is not a mailbox such as imaps://flyte@mail.example.com/INBOX",
        ),
        (
            "imap://a@[b",
            "'imap://a@[b' is not a mailbox such as imaps://flyte@mail.example.com/INBOX",
        ),
    ],
)
def test_what_is_no_mailbox_is_refused(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        email.create({"FLYTE_EMAIL_IMAP_URL": url})
    assert [str(problem) for problem in caught.value.problems] == [f"FLYTE_EMAIL_IMAP_URL: {why}"]
    assert "s3cret" not in str(caught.value)
