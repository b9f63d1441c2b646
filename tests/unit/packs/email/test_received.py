"""How mail is read, the broken kind too."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from flyteops.packs.email.html import html_text
from flyteops.packs.email.received import ReceivedEmail, read_email
from tests.support.step import steps_of

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
    "nested for ever": b"".join(
        b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(1500)
    ),
    "comments in comments": b"From: " + b"(" * 5000 + b" a@x.de\n\nx",
    "words without end": b"Subject: " + b"=?utf-8?q?a?= " * 100_000 + b"\n\nx",
    "lines without end": b"Content-Type: multipart/mixed; boundary=A\n\n--A\n\n"
    + b"\n" * 1_000_000,
    "a message in a message": b"Content-Type: message/rfc822\n\n" * 300,
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_every_mail_can_be_read_and_told(content: bytes) -> None:
    received = read(content)
    assert (
        msgspec.convert(msgspec.json.decode(msgspec.json.encode(received)), ReceivedEmail)
        == received
    )
    for text in (
        received.subject,
        received.from_,
        received.message_id,
        *(file.filename for file in received.attachments),
    ):
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
    parts = (
        b"Content-Type: multipart/mixed; boundary=A\n\n"
        + b"--A\nContent-Type: application/x\n\n\n" * 500
    )
    received = read(parts)
    assert (received.truncated, len(received.attachments)) == (True, 100)


# ------------------------------------------------------------------------------ people and programs

REPORT = (
    b"Content-Type: multipart/report; report-type=%s; boundary=A\n\n--A\n\nnot delivered\n--A--\n"
)
CALENDAR = (
    b"Content-Type: multipart/alternative; boundary=A\n\n--A\n\nok\n--A\nContent-Type:"
    b" text/calendar%s\n\n"
    b"BEGIN:VCALENDAR\n%s\n--A--\n"
)
FORWARDED = (
    b"Content-Type: multipart/mixed; boundary=A\n\n--A\n\nlook\n--A\nContent-Type:"
    b" message/rfc822\n\n" + REPORT % b"x" + b"\n--A--\n"
)

BY_PROGRAMS = {
    "a delivery report": REPORT % b"delivery-status",
    "a read report": REPORT % b"disposition-notification",
    "a report within another mail's frame": b"Content-Type: multipart/mixed; boundary=B\n\n--B\n"
    + REPORT % b"x"
    + b"\n--B--\n",
    "a calendar reply": CALENDAR % (b"; method=REPLY", b""),
    "a calendar reply whose type does not say so": CALENDAR % (b"", b"METHOD:REPLY"),
    "a calendar counter-proposal": CALENDAR % (b"; method=counter", b""),
    "no answers wanted": b"X-Auto-Response-Suppress: OOF, AutoReply\n\nx",
    "an autoresponder": b"X-Autorespond: Re: hello\n\nx",
    "an autoresponder by another name": b"X-Autoresponder: yes\n\nx",
    "an autoreply": b"X-Auto-Reply-From: a@example.com\n\nx",
    "another header about precedence": b"X-Precedence: bulk\n\nx",
    "generated by a helpdesk": b"X-FC-MachineGenerated: true\n\nx",
    "an autoresponder of a provider": b"X-POST-MessageClass: 9; Autoresponder\n\nx",
    "a reply that was automatic": b"X-Auto-Replied: yes\n\nx",
    "a timer of a computer": b"X-Cron-Env: <SHELL=/bin/sh>\n\nx",
    "generated": b"X-Autogenerated: Reply\n\nx",
    "a list without an id": b"List-Unsubscribe: <mailto:off@example.com>\n\nx",
    "a post of a list": b"List-Post: NO (posting not allowed)\n\nx",
    "a comment behind the word": b"Precedence: (sic) bulk\n\nx",
    "an answer with parameters": b'Auto-Submitted: auto-replied; owner-email="a@example.com"\n\nx',
    "an empty return path": b"Return-Path: < > (none)\n\nx",
    "failed recipients": b"X-Failed-Recipients: a@example.com\n\nx",
    "the mailer daemon": b"From: Mail <MAILER-DAEMON@mx.example>\n\nx",
    "said twice": b"Auto-Submitted: no\nAuto-Submitted: auto-generated\n\nx",
}

BY_PEOPLE = {
    "no, with a comment": b"Auto-Submitted: no (sent by hand)\n\nx",
    "no, with a parameter": b"Auto-Submitted: No; x=y\n\nx",
    "no, with comments in comments": b"Auto-Submitted: (a (b)) no\n\nx",
    "nothing suppressed": b"X-Auto-Response-Suppress: None\n\nx",
    "an invitation": CALENDAR % (b"; method=REQUEST", b"METHOD:REQUEST"),
    "a bounce that somebody forwards": FORWARDED,
    "a return path": b"Return-Path: <ann@example.com>\n\nx",
    "another class of message": b"X-POST-MessageClass: 1; Mail\n\nx",
    "urgent": b"Precedence: first-class\n\nx",
    "somebody with a telling name": b"From: mailer-daemon-fan@example.com\n\nx",
}


@pytest.mark.parametrize("content", BY_PROGRAMS.values(), ids=BY_PROGRAMS)
def test_mail_that_a_program_wrote_is_automatic(content: bytes) -> None:
    assert read(content).automatic


@pytest.mark.parametrize("content", BY_PEOPLE.values(), ids=BY_PEOPLE)
def test_mail_that_a_person_wrote_is_not_automatic(content: bytes) -> None:
    assert not read(content).automatic


# ----------------------------------------------------------------------------------------- charsets


@pytest.mark.parametrize(
    ("charset", "content", "text"),
    [
        ("gb2312", "陳總 镕".encode("gbk"), "陳總 镕"),
        ("GB_2312-80", "镕€".encode("gb18030"), "镕€"),
        ("iso-8859-1", b"\x93quoted\x94 \x80", "“quoted” €"),
        ("us-ascii", b"\x85 it\x80s", "… it€s"),
        ("us-ascii", "naïve ☃".encode(), "naïve ☃"),
        ("latin1", "naïve ☃".encode(), "naïve ☃"),
        ("iso-8859-9", b"\x93\xf0\x94", "“ğ”"),
        ("tis-620", b"\x80\xa1", "€ก"),
        ("shift_jis", "①髙".encode("cp932"), "①髙"),
        ("iso-2022-jp", b"\x1b$B-!F|\x1b(B a", "①日 a"),
        ("iso-2022-jp", b"\x1b$B$F", "て"),
        ("euc-jp", b"\xad\xa1\xc6\xfc", "①日"),
        ("ks_c_5601-1987", "똠방".encode("cp949"), "똠방"),
        ("euc-kr", "똠".encode("cp949"), "똠"),
        ("big5", "裏€".encode("cp950"), "裏€"),
        ("x-mac-cyrillic", "Привет".encode("mac_cyrillic"), "Привет"),
        ("iso-8859-6-i", "سلام".encode("iso8859-6"), "سلام"),
        ("dos-862", "שלום".encode("cp862"), "שלום"),
        ("koi8-ru", "Їжак".encode("koi8_u"), "Їжак"),
        ("windows1251", "Привет".encode("cp1251"), "Привет"),
        ("cp-1250", "łódź".encode("cp1250"), "łódź"),
        ("ISO_8859-2:1987", "łódź".encode("iso8859-2"), "łódź"),
        ("csISOLatin2", "łódź".encode("iso8859-2"), "łódź"),
        ("unicode-1-1-utf-7", "ü+".encode("utf-7"), "ü+"),
        ("utf-16", "ü".encode("utf-16"), "ü"),
        ("iso-8859-15", b"\xef\xbb\xbf\xe2\x82\xac", "€"),
        ("utf-8", b"\xff", "�"),
        ("unknown-8bit", b"\xfc", "ü"),
    ],
)
def test_the_name_of_a_charset_means_what_is_written_under_it(
    charset: str, content: bytes, text: str
) -> None:
    encoded = base64.b64encode(content)
    header = (
        f"Content-Type: text/plain; charset={charset.replace(':', '_')}\nContent-Transfer-Encoding:"
        " base64\n\n"
    )
    assert read(header.encode() + encoded).text == text
    word = f"=?{charset}?b?{encoded.decode()}?="
    if text != "�":
        assert read(f"Subject: {word}\n\nx".encode()).subject == text


# --------------------------------------------------------------------------------------- file names


@pytest.mark.parametrize(
    ("parameter", "filename"),
    [
        ("filename=..", "attachment"),
        ('filename="."', "attachment"),
        ('filename=".. . "', "attachment"),
        ('filename="a/.."', "attachment"),
        ('filename="C:\\\\..\\\\.."', "attachment"),
        ("filename*=utf-8''%E2%80%A4%E2%80%A4", "attachment"),
        ('filename="../../etc/passwd"', "passwd"),
        ('filename="CON.txt"', "_CON.txt"),
        ('filename="nul"', "_nul"),
        ('filename="con .txt"', "_con .txt"),
        ('filename="a:b|c?.txt."', "a_b_c_.txt"),
        ("filename*=utf-8''a%E2%80%AEfdp.exe", "a fdp.exe"),
        ("filename*=utf-8''a%00b%0A.txt", "a b .txt"),
        ("filename*=gb2312''%E9F.txt", "镕.txt"),
        ('filename="=?gb2312?b?6UY=?=.txt"', "镕.txt"),
        ("filename*0=a; filename*1=b.txt", "ab.txt"),
        ('filename=""', ""),
        ("filename=.profile", ".profile"),
    ],
)
def test_the_name_of_a_file_can_be_written_into_a_folder(parameter: str, filename: str) -> None:
    (file,) = read(f"Content-Disposition: attachment; {parameter}\n\nx".encode()).attachments
    assert file.filename == filename


def test_a_long_name_of_a_file_keeps_its_ending() -> None:
    (file,) = read(
        f"Content-Disposition: attachment; filename*=utf-8''{'%C3%BC' * 300}.pdf\n\nx".encode()
    ).attachments
    assert file.filename == "ü" * 98 + ".pdf"


# --------------------------------------------------------------------------------------- HTML alone


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Disk <b>full</b> &amp; hot</p><p>host1</p>", "Disk full & hot\n\nhost1"),
        (
            'see <a href="https://x.example/a?b=1&amp;c=2">the\n page</a>.',
            "see the page <https://x.example/a?b=1&c=2>.",
        ),
        ('<a href="https://x.example/">https://x.example</a>', "https://x.example"),
        ('<a href="mailto:ann@example.com">ann@example.com</a>', "ann@example.com"),
        ('<a href="javascript:alert(1)">press</a> <a href=#top>up</a>', "press up"),
        ("a<br>b<br/><br>c", "a\nb\n\nc"),
        ("<ul><li>one<li>two</ul>", "- one\n- two"),
        ("<table><tr><td>a<td>b</tr><tr><td>c</table>", "a b\nc"),
        (
            "<style>p {}</style><script>if (a < b) {}</script><title>t</title>x<!-- no <b> -->y",
            "xy",
        ),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ('<img alt="logo" src=x><p title="a > b">c', "logo\n\nc"),
        ("a < b, 1 <2 and <i>so on", "a < b, 1 <2 and so on"),
        ("a<!-- never ends", "a"),
        ('<a href="https://x.example"><div>deep</div></a>', "deep\n<https://x.example>"),
        ("a&nbsp;b&#128512;", "a b😀"),
    ],
)
def test_mail_that_is_only_html_has_a_text(html: str, text: str) -> None:
    received = read(f"Content-Type: text/html; charset=utf-8\n\n{html}".encode())
    assert (received.text, received.html) == (text, html.replace("\r\n", "\n"))


def test_a_text_that_came_along_is_not_replaced() -> None:
    parts = (
        b"Content-Type: multipart/alternative; boundary=A\n\n--A\n\n%s\n--A\nContent-Type:"
        b" text/html\n\n<p>html</p>\n--A--\n"
    )
    assert read(parts % b"plain").text == "plain"
    assert read(parts % b" ").text == "html"


@pytest.mark.parametrize(
    "piece",
    [
        "<",
        "<a",
        '<a "',
        "<a '\"",
        "<!--",
        "<a href=x>",
        "<p>",
        "<!",
        "&",
        "<title>",
        "<script",
        '<a">',
    ],
)
def test_the_steps_for_html_that_never_ends_grow_with_its_length(piece: str) -> None:
    short, long = (
        steps_of(lambda n=n: html_text(f"{piece * (n // len(piece))}>")) for n in (10_000, 20_000)
    )
    assert long <= 2.5 * short
    # Work inside of C is not counted: it would run into the timeout.
    html_text(f"{piece * (200_000 // len(piece))}>")


# ---------------------------------------------------------------------------------------------- ids


@pytest.mark.parametrize(
    "message_id",
    ["<20260302.101500.77>", "<a.b..c@[10.0.0.1]>", "<a@b@c>", "<a@x> (a comment)", "bare-id"],
)
def test_ids_are_read_as_they_are(message_id: str) -> None:
    received = read(f"Message-ID: {message_id}\nIn-Reply-To:\n {message_id}\n\nx".encode())
    assert (received.message_id, received.in_reply_to) == (message_id, message_id)


def test_references_are_ids_without_comments() -> None:
    assert read(b"References: <1@x> (Ann's mail)\n <2>\n\t<3@x>\n\nx").references == [
        "<1@x>",
        "<2>",
        "<3@x>",
    ]


def test_ids_that_were_encoded_on_the_way_are_decoded() -> None:
    assert read(
        b"In-Reply-To: =?utf-8?q?=3CAM9PR04=40AM9PR?=\n =?utf-8?q?04=2Eoutlook=2Ecom=3E?=\n\nx"
    ).in_reply_to == ("<AM9PR04@AM9PR04.outlook.com>")
