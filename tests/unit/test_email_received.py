"""How mail is read, the broken kind too."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from flyteops.packs.email.received import ReceivedEmail, read_email

THEN = datetime(2024, 5, 17, 12, tzinfo=UTC)


def read(content: bytes, **more: Any) -> ReceivedEmail:
    return read_email(content.replace(b"\n", b"\r\n"), **{"size": 0, "received_at": THEN, **more})


def test_headers_and_text_are_read() -> None:
    received = read(
        b"From: =?utf-8?q?J=C3=B6rg?= <j@example.com>\n"
        b"To: Ann <a@example.com>, b@example.com\n"
        b"Cc: c@example.com\n"
        b"Reply-To: desk@example.com\n"
        b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\n  and more\n"
        b"Date: Fri, 17 May 2024 10:00:00 +0200\n"
        b"Message-ID: <2@example.com>\n"
        b"In-Reply-To: <1@example.com>\n"
        b"References: <0@example.com>\n <1@example.com>\n"
        b"\nHello\nworld\n"
    )
    assert received == ReceivedEmail(
        message_id="<2@example.com>",
        from_="j@example.com",
        from_name="Jörg",
        to=["a@example.com", "b@example.com"],
        cc=["c@example.com"],
        reply_to=["desk@example.com"],
        subject="Grüße and more",
        date=datetime(2024, 5, 17, 8, tzinfo=UTC),
        received_at=THEN,
        in_reply_to="<1@example.com>",
        references=["<0@example.com>", "<1@example.com>"],
        text="Hello\nworld\n",
        size=0,
    )


PARTS = b"""MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=A

--A
Content-Type: multipart/alternative; boundary=B

--B
Content-Type: text/plain; charset=iso-8859-1
Content-Transfer-Encoding: quoted-printable

Gr=FC=DFe
--B
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PGI+R3LDvMOfZTwvYj4=
--B--
--A
Content-Type: application/pdf
Content-Disposition: attachment; filename*=utf-8''..%2F%C3%9Cbersicht.pdf
Content-Transfer-Encoding: base64

JVBERg==
--A
Content-Type: text/plain; name="notes.txt"

notes
--A
Content-Type: message/rfc822

Subject: inner

inside
--A
Content-Type: text/plain

footer
--A--
"""


def test_text_html_and_files_are_told_apart() -> None:
    received = read(PARTS)
    assert (received.text, received.html) == ("Grüße\nfooter", "<b>Grüße</b>")
    assert [(file.filename, file.content_type, file.size) for file in received.attachments] == [
        ("Übersicht.pdf", "application/pdf", 4),
        ("notes.txt", "text/plain", 5),
        ("", "message/rfc822", 22),
    ]
    assert received.attachments[0].content == "JVBERg=="


@pytest.mark.parametrize(
    ("header", "automatic"),
    [
        (b"Auto-Submitted: auto-replied", True),
        (b"Auto-Submitted: no", False),
        (b"Precedence: Bulk", True),
        (b"List-Id: <l.example.com>", True),
        (b"Return-Path: <>", True),
        (b"X-Mailer: x", False),
    ],
)
def test_mail_of_programs_is_told_from_mail_of_people(header: bytes, automatic: bool) -> None:
    assert read(header + b"\n\nx").automatic is automatic


BROKEN = {
    "empty": b"",
    "no headers": b"\nbody",
    "bytes in headers": b"Subject: Gr\xfc\xdfe \xff\nFrom: \xff <a@x.de>\n\nx",
    "unknown charset": b"Content-Type: text/plain; charset=no-such\n\n\xff",
    "charset that is no text": b"Content-Type: text/plain; charset=zlib\n\nx",
    "broken base64": b"Content-Transfer-Encoding: base64\n\n%%%AAA",
    "broken encoded word": b"Subject: =?utf-8?b?%%%?= =?x?q?=ff?=\n\nx",
    "no boundary": b"Content-Type: multipart/mixed\n\nx",
    "boundary that never comes": b"Content-Type: multipart/mixed; boundary=A\n\nx",
    "cut in the middle": PARTS[:300],
    "addresses that are none": b"From: <<<>>>, @, a@\nTo: undisclosed-recipients:;\n\nx",
    "a quote that never ends": b'From: "a <b@x.de>\nTo: a@[\n\nx',
    "dates that are none": b"Date: Fri, 99 May 99999 10:00:00 +9999\n\nx",
    "an id with blanks": b"Message-ID: <a b>@[x\nReferences: ,;<\n\nx",
    "a name with line breaks": b"Content-Disposition: attachment; filename*=utf-8''%0d%0a..%5cx\n\nx",
    "disposition that is none": b"Content-Disposition: ;;;=\n\nx",
    "types that are none": b'Content-Type: ;;/="\n\nx',
    "zero bytes": b"Subject: a\0b\n\nc\0d",
    "nested for ever": b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(1500)),
    "comments in comments": b"From: " + b"(" * 5000 + b" a@x.de\n\nx",
    "words without end": b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\n\nx",
    "lines without end": b"Content-Type: multipart/mixed; boundary=A\n\n--A\n\n" + b"\n" * 1_000_000,
    "a message in a message": b"Content-Type: message/rfc822\n\n" * 300,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_every_mail_can_be_read_and_told(content: bytes) -> None:
    received = read(content)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(received)), ReceivedEmail) == received
    for text in (received.subject, received.from_, received.message_id, *(file.filename for file in received.attachments)):
        assert text.isprintable() or "\0" in text
        assert "/" not in text


def test_what_is_in_a_broken_mail_is_still_there() -> None:
    assert read(BROKEN["bytes in headers"]).subject.startswith("Gr")
    assert read(BROKEN["bytes in headers"]).from_ == "a@x.de"
    assert read(BROKEN["unknown charset"]).text == "�"
    assert read(BROKEN["no boundary"]).attachments or read(BROKEN["no boundary"]).text


def test_of_a_mail_that_is_too_large_the_beginning_is_told() -> None:
    received = read(b"Subject: large\n\nabc", size=1_000_000)
    assert (received.truncated, received.subject, received.text) == (True, "large", "abc")
    parts = b"Content-Type: multipart/mixed; boundary=A\n\n" + b"--A\nContent-Type: application/x\n\n\n" * 500
    received = read(parts)
    assert (received.truncated, len(received.attachments)) == (True, 100)
