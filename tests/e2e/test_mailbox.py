"""What the Email pack tells of a mailbox, on a real IMAP server."""

import logging
from collections.abc import Iterator

import pytest

from flyteops.errors import FlyteError
from flyteops.packs import email
from flyteops.sdk import Event, Pack
from flyteops.sdk.testing import PackTester
from tests.imap import PASSWORD, Post, post, wire, write_certificate

pytestmark = pytest.mark.servers


@pytest.fixture
def mailbox() -> Iterator[Post]:
    with post() as box:
        yield box


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_certificate(tmp_path_factory.mktemp("imap"))


def pack_for(url: str, trusted: str, **environ: str) -> Pack:
    settings = {
        "FLYTE_EMAIL_IMAP_URL": url,
        "FLYTE_EMAIL_IMAP_PASSWORD": PASSWORD,
        "FLYTE_EMAIL_CA_CERT_FILE": trusted,
    }
    return email.create({**settings, **environ})


async def until_told(tester: PackTester, count: int) -> list[Event]:
    await tester._wait(lambda: len(tester.sent) >= count, f"event {count}")
    return tester.sent


def mail(subject: str, body: str = "x") -> bytes:
    return (
        f"From: Ann <ann@example.com>\nTo: flyte@example.com\nSubject: {subject}\n\n{body}\n"
    ).encode()


async def read_to_the_end(mailbox: Post, tester: PackTester) -> None:
    """Wait until the pack has marked everything: it tells first and marks then."""
    for _ in range(100):
        if not mailbox.unread():
            return
        await tester.server.until(lambda: True)
    raise AssertionError(mailbox.unread())


async def test_mail_that_arrives_is_told_at_once(mailbox: Post, trusted: str) -> None:
    """The mailbox is asked every minute; within the patience of the test it is the server that
    tells of the mail.
    """
    async with PackTester(pack_for(mailbox.url(), trusted)) as tester:
        for number in range(1, 4):
            mailbox.deliver(mail(f"number {number}"))
            event = (await until_told(tester, number))[-1]
            assert (event.name, event.payload["subject"]) == ("ReceivedEmail", f"number {number}")
    assert event.payload["from"] == "ann@example.com"
    assert event.payload["fromName"] == "Ann"
    assert event.payload["text"] == "x\n"
    assert event.payload["truncated"] is False


async def test_what_was_unread_before_is_told_oldest_first_and_what_was_read_is_not(
    mailbox: Post, trusted: str
) -> None:
    mailbox.deliver(mail("read"), b"\\Seen")
    for subject in ("one", "two", "three"):
        mailbox.deliver(mail(subject))
    mailbox.deliver(mail("deleted"), b"\\Deleted")
    async with PackTester(pack_for(mailbox.url(), trusted)) as tester:
        events = await until_told(tester, 3)
        mailbox.deliver(mail("four"))
        events = await until_told(tester, 4)
    assert [event.payload["subject"] for event in events] == ["one", "two", "three", "four"]


async def test_each_mail_is_told_once_whatever_happens_in_between(
    mailbox: Post, trusted: str
) -> None:
    """A pack that ended after it told and before it marked tells once more, under the key that
    the server knows.
    """
    mailbox.deliver(mail("once"))
    async with PackTester(pack_for(mailbox.url(), trusted)) as tester:
        tester.server.lose_answer(on="/events")
        await until_told(tester, 1)
        mailbox.deliver(mail("twice"))
        await until_told(tester, 2)
        assert len(tester.sent) == 2
        first = set(tester.server.keys)
    mailbox.client.remove_flags([1, 2], [b"\\Seen"])
    async with PackTester(pack_for(mailbox.url(), trusted)) as tester:
        await until_told(tester, 2)
        assert tester.server.keys == first
        mailbox.deliver(mail("last"))
        await until_told(tester, 3)
    assert mailbox.unread() in ([], [3])


async def test_what_the_server_of_flyte_does_not_have_stays_unread(
    mailbox: Post, trusted: str
) -> None:
    async with PackTester(pack_for(mailbox.url(), trusted)) as tester:
        held = tester.server.hold(on="/events")
        mailbox.deliver(mail("waiting"))
        await tester._wait(lambda: True, "")
        assert mailbox.unread() == [1]
        held.set()
        await until_told(tester, 1)


async def test_a_mail_that_flyte_refuses_is_told_without_what_makes_it_large(
    mailbox: Post, trusted: str
) -> None:
    async with PackTester(pack_for(mailbox.url(), trusted)) as tester:
        tester.server.fail(1, status=413, on="/events")
        mailbox.deliver(mail("large", "y" * 1000))
        (event,) = await until_told(tester, 1)
        assert (event.payload["subject"], event.payload["text"], event.payload["truncated"]) == (
            "large",
            "",
            True,
        )
        tester.server.fail(2, status=400, on="/events")
        mailbox.deliver(mail("never"))
        mailbox.deliver(mail("next"))
        assert (await until_told(tester, 2))[1].payload["subject"] == "next"


async def test_of_a_huge_mail_only_the_beginning_is_fetched(mailbox: Post, trusted: str) -> None:
    async with PackTester(
        pack_for(mailbox.url(), trusted, FLYTE_EMAIL_SIZE_LIMIT="1000")
    ) as tester:
        mailbox.deliver(mail("huge", "z" * 3_000_000))
        (event,) = await until_told(tester, 1)
    assert event.payload["size"] > 3_000_000
    assert (event.payload["truncated"], event.payload["subject"]) == (True, "huge")
    assert 800 < len(event.payload["text"]) < 1000


async def test_bytes_of_any_kind_are_told_somehow(mailbox: Post, trusted: str) -> None:
    async with PackTester(pack_for(mailbox.url(), trusted)) as tester:
        for content in (
            b"\n",
            b"\xff\xfe\n\n\xff",
            b"Subject: \xff\n\n\x80" * 3,
            b"Content-Type: multipart/mixed\n\n--\n",
        ):
            mailbox.deliver(content)
        assert len(await until_told(tester, 4)) == 4


async def test_a_connection_that_breaks_is_made_again(
    mailbox: Post, trusted: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        wire() as carried,
        PackTester(pack_for(mailbox.url(carried.port), trusted)) as tester,
    ):
        mailbox.deliver(mail("before"))
        await until_told(tester, 1)
        carried.cut()
        mailbox.deliver(mail("after"))
        assert (await until_told(tester, 2))[1].payload["subject"] == "after"
    assert carried.connections >= 2
    assert "the source mailbox failed" in caplog.text


async def test_a_server_that_cannot_tell_is_asked_again_and_again(
    mailbox: Post, trusted: str
) -> None:
    async with (
        wire(b"IDLE", b"STARTTLS") as carried,
        PackTester(pack_for(mailbox.url(carried.port), trusted)) as tester,
    ):
        mailbox.deliver(mail("first"))
        await until_told(tester, 1)
        mailbox.deliver(mail("second"))
        for _ in range(200):
            await tester.advance(60)
            if len(tester.sent) == 2:
                break
        assert tester.sent[1].payload["subject"] == "second"


# ------------------------------------------------------------------------------------ what is wrong


async def why(pack: Pack) -> str:
    with pytest.raises(FlyteError) as caught:
        await pack.declaration().checks["IMAP"]()
    return str(caught.value)


async def test_the_check_says_how_it_is(mailbox: Post, trusted: str) -> None:
    mailbox.deliver(mail("unread"))
    place = f"{mailbox.host}:{mailbox.port}"
    check = pack_for(mailbox.url(), trusted).declaration().checks["IMAP"]
    assert await check() == f"opened INBOX of {mailbox.user} at {place}: 1 unread"
    assert mailbox.unread() == [1]
    wrong = {"FLYTE_EMAIL_IMAP_PASSWORD": "wr0ng"}
    assert (await why(pack_for(mailbox.url(), trusted, **wrong))).startswith(
        f"{place} refuses the login of {mailbox.user}: [AUTH"
    )
    missing = await why(pack_for(mailbox.url(folder="No%20such"), trusted))
    assert missing.startswith(f"No such of {mailbox.user} at {place} cannot be opened: ")
    not_trusted = await why(
        email.create({"FLYTE_EMAIL_IMAP_URL": mailbox.url(), "FLYTE_EMAIL_IMAP_PASSWORD": PASSWORD})
    )
    assert not_trusted.startswith(f"{place} presented a certificate that is not trusted: ")
    assert (await why(pack_for("imap://flyte@127.0.0.1:1/", trusted))).startswith("127.0.0.1:1: ")


async def test_a_password_that_is_refused_from_the_start_ends_the_pack(
    mailbox: Post, trusted: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "flyte")
    pack = pack_for(mailbox.url(), trusted, FLYTE_EMAIL_IMAP_PASSWORD="wr0ng")
    with pytest.raises(FlyteError, match="refuses the login of"):
        async with PackTester(pack) as tester:
            await tester.next_sent()
    assert "wr0ng" not in caplog.text
