"""Addresses of mail that arrived: those that mail programs use, never a name, with what is wrong
beside them.
"""

from datetime import UTC, datetime

import pytest

from flyteops.packs.email.received import ReceivedEmail, read_email


def read(headers: bytes) -> ReceivedEmail:
    content = headers.replace(b"\n", b"\r\n") + b"\r\n\r\nx"
    return read_email(content, size=0, received_at=datetime(2024, 5, 17, 12, tzinfo=UTC))


SENDERS = [
    # As they should be.
    (b"ann@example.com", "ann@example.com", "", []),
    (b"Ann Bee <ann@example.com>", "ann@example.com", "Ann Bee", []),
    (b'"Bee, Ann" <ann@example.com>', "ann@example.com", "Bee, Ann", []),
    (b'Ann "Bee" O\'Hara <ann@example.com>', "ann@example.com", "Ann Bee O'Hara", []),
    (b"ann@example.com <ann@example.com>", "ann@example.com", "ann@example.com", []),
    (b"ann@example.com (Ann (the one) Bee)", "ann@example.com", "Ann (the one) Bee", []),
    (b"Ann(a comment) <ann@example.com>", "ann@example.com", "Ann", []),
    (b"Ann\n <ann@example.com>", "ann@example.com", "Ann", []),
    (b"< ann @ example . com >", "ann@example.com", "", []),
    (b'"ann bee"@example.com', '"ann bee"@example.com', "", []),
    (b"ann@[IPv6:::1]", "ann@[IPv6:::1]", "", []),
    (b"<@a.example,@b.example:ann@example.com>", "ann@example.com", "", []),
    (b"Ann <mailto:ann@example.com>", "ann@example.com", "Ann", []),
    (
        b"=?iso-8859-1?q?M=FCller?= =?iso-8859-1?q?_x?= <m@example.com>",
        "m@example.com",
        "Müller x",
        [],
    ),
    (b'"=?utf-8?q?J=C3=B6rg?=" <j@example.com>', "j@example.com", "Jörg", []),
    (b"=?utf-8?b?w7w=?= =?utf-8?b?w7w?= <m@example.com>", "m@example.com", "üü", []),
    (b"M\xc3\xbcller <m@example.com>", "m@example.com", "Müller", []),
    (b"M\xfcller <m@example.com>", "m@example.com", "Müller", []),
    (b"ann@b\xc3\xbccher.example", "ann@xn--bcher-kva.example", "", []),
    # Names that look like addresses.
    (
        b"boss@corp.example <mallory@evil.example>",
        "mallory@evil.example",
        "boss@corp.example",
        ["name-has-address"],
    ),
    (
        b'"boss@corp.example" <mallory@evil.example>',
        "mallory@evil.example",
        "boss@corp.example",
        ["name-has-address"],
    ),
    (
        b'"Boss <boss@corp.example>" <m@evil.example>',
        "m@evil.example",
        "Boss <boss@corp.example>",
        ["name-has-address"],
    ),
    (
        b"=?utf-8?q?boss=40corp.example?= <m@evil.example>",
        "m@evil.example",
        "boss@corp.example",
        ["name-has-address"],
    ),
    (
        b"=?utf-8?q?B_=3Cb=40corp.example=3E=2C?= <m@evil.example>",
        "m@evil.example",
        "B <b@corp.example>,",
        ["name-has-address"],
    ),
    (
        b"m@evil.example (boss@corp.example)",
        "m@evil.example",
        "boss@corp.example",
        ["name-has-address"],
    ),
    (
        b"<m@evil.example> boss@corp.example",
        "m@evil.example",
        "boss@corp.example",
        ["malformed", "name-has-address"],
    ),
    (
        b"boss@corp.example" + b" " * 20_000 + b"<m@evil.example>",
        "m@evil.example",
        "boss@corp.example",
        ["name-has-address"],
    ),
    (
        b"boss@corp.example\0<m@evil.example>",
        "m@evil.example",
        "boss@corp.example",
        ["control-characters", "name-has-address"],
    ),
    (
        b"boss@corp.example> <m@evil.example>",
        "m@evil.example",
        "boss@corp.example",
        ["malformed", "name-has-address"],
    ),
    (
        b'"boss@corp.example\\" <m@evil.example>',
        "m@evil.example",
        "boss@corp.example\\",
        ["malformed", "name-has-address"],
    ),
    (
        b"Ann <m@evil.example>: boss@corp.example",
        "m@evil.example",
        "Ann : boss@corp.example",
        ["malformed", "name-has-address"],
    ),
    (
        "boss\uff20corp.example <m@evil.example>".encode(),
        "m@evil.example",
        "boss\uff20corp.example",
        ["name-has-address"],
    ),
    (
        b"=?utf-8?q?boss=EF=B9=ABcorp.example?= <m@evil.example>",
        "m@evil.example",
        "boss\ufe6bcorp.example",
        ["name-has-address"],
    ),
    # More than one, and commas where none should be.
    (b"Bee, Ann <ann@example.com>", "ann@example.com", "Bee, Ann", ["unquoted-comma"]),
    (b"Bee, Ann, PhD <ann@example.com>", "ann@example.com", "Bee, Ann, PhD", ["unquoted-comma"]),
    (
        b"B\xfc, =?utf-8?q?=C3=84nn?= <ann@example.com>",
        "ann@example.com",
        "Bü, Änn",
        ["unquoted-comma"],
    ),
    (b"ann@example.com, bob@example.com", "ann@example.com", "", ["several"]),
    (b"Team: ann@example.com, bob@example.com;", "ann@example.com", "", ["several"]),
    (b"Boss <boss@corp.example> <m@evil.example>", "m@evil.example", "Boss", ["several"]),
    # None at all.
    (b"", "", "", ["missing"]),
    (b"undisclosed-recipients:;", "", "", ["missing"]),
    (b"<>", "", "", ["missing", "unreadable"]),
    (b"Boss", "", "Boss", ["missing", "unreadable"]),
    (b"=?utf-8?q?boss=40corp.example?=", "", "boss@corp.example", ["missing", "unreadable"]),
    (b"<=?utf-8?q?boss=40corp.example?=>", "", "", ["missing", "unreadable"]),
    (
        b"boss@corp.example@evil.example",
        "",
        "boss@corp.example@evil.example",
        ["missing", "unreadable"],
    ),
    (
        b"<boss@corp.example\0@evil.example>",
        "",
        "",
        ["control-characters", "missing", "unreadable"],
    ),
    # Domains that encoding would turn into something else than a domain.
    (
        "m@evil.example\uff20corp.example".encode(),
        "",
        "m@evil.example\uff20corp.example",
        ["missing", "unreadable"],
    ),
    (
        "<m@evil.example\uff0fx\uff20corp.example>".encode(),
        "",
        "",
        ["missing", "unreadable"],
    ),
    ("m@\u2100.example".encode(), "", "m@\u2100.example", ["missing", "unreadable"]),
    (b"boss@corp.example" + b"(x)" * 40_000 + b"<m@evil.example>", "", "", ["missing", "too-long"]),
    # Damaged, but clear.
    (b"Ann <ann@example.com", "ann@example.com", "Ann", ["malformed"]),
    (b'"Ann <ann@example.com>', "ann@example.com", "Ann", ["malformed"]),
    (b"Ann ann@example.com", "ann@example.com", "", ["malformed"]),
]


@pytest.mark.parametrize(
    ("header", "address", "name", "defects"), SENDERS, ids=[repr(each[0][:40]) for each in SENDERS]
)
def test_the_sender_is_the_address_that_mail_programs_use(header, address, name, defects):
    received = read(b"From: " + header)
    assert (received.from_, received.from_name) == (address, name)
    assert received.defects == [f"from-{defect}" for defect in defects]


def test_a_mail_without_a_sender_says_so():
    assert read(b"Subject: x").defects == ["from-missing"]


def test_a_header_that_comes_twice_is_a_defect_and_the_first_sender_counts():
    received = read(
        b"From: ann@example.com\nFrom: boss@corp.example\nTo: a@example.com\nTo: b@example.com"
    )
    assert (received.from_, received.to) == ("ann@example.com", ["a@example.com", "b@example.com"])
    assert received.defects == ["from-repeated", "from-several", "to-repeated"]


LISTS = [
    (b"ann@example.com; eve@example.com", ["ann@example.com", "eve@example.com"], []),
    (b"Ann <ann@example.com>; Eve <eve@example.com>;", ["ann@example.com", "eve@example.com"], []),
    (
        b"Bee, Ann <ann@example.com>; eve@example.com",
        ["ann@example.com", "eve@example.com"],
        ["unquoted-comma"],
    ),
    (
        b"x@y.example <ann@example.com>, eve@example.com",
        ["ann@example.com", "eve@example.com"],
        ["name-has-address"],
    ),
    (
        b"Team: ann@example.com, Eve <eve@example.com>;, bob@example.com",
        ["ann@example.com", "eve@example.com", "bob@example.com"],
        [],
    ),
    (b"ann@example.com eve@example.com", ["ann@example.com", "eve@example.com"], ["malformed"]),
    (b"J\xf6rg <j@example.com>, ,, \xff <a@example.com>", ["j@example.com", "a@example.com"], []),
    (b"somebody, ann@example.com", ["ann@example.com"], ["unreadable"]),
    (b"undisclosed-recipients:;", [], []),
]


@pytest.mark.parametrize(
    ("header", "addresses", "defects"), LISTS, ids=[repr(each[0]) for each in LISTS]
)
@pytest.mark.parametrize("name", ["To", "Cc", "Reply-To"])
def test_lists_of_addresses_are_read_by_the_same_rules(name, header, addresses, defects):
    received = read(b"From: bob@example.com\n" + name.encode() + b": " + header)
    found = {"To": received.to, "Cc": received.cc, "Reply-To": received.reply_to}[name]
    assert found == addresses
    assert received.defects == [f"{name.lower()}-{defect}" for defect in defects]


def test_a_header_with_very_many_addresses_is_cut_and_says_so():
    received = read(b"From: bob@example.com\nTo: " + b"a@example.com," * 2000)
    assert len(received.to) == 1000
    assert received.defects == ["to-too-long"]


@pytest.mark.parametrize(
    "part", [b'\\"', b'"', b"<", b"(", b"a@", b"=?", b"a ()", b"[", b"<a@b>", b"(\\", b"a,", b": "]
)
def test_a_header_that_was_made_to_keep_the_reader_busy_is_read_to_its_end(part):
    received = read(b"From: " + part * (8_000 // len(part)) + b" <m@example.com>")
    assert "boss" not in received.from_
