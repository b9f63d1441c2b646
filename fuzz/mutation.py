"""Mostly valid texts: real ones, with words dropped, repeated, nested, exchanged and inserted.

Random bytes end at the first check of a parser; these pass it, and reach the code behind.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

TOKEN = re.compile(rb"\s+|\w+|[^\w\s]")

HUGE = (
    b"9" * 400,
    b"1e999",
    b"-0",
    b"0x" + b"f" * 300,
    b"A" * 10_000,
    b"\\ud800",
    b"..",
    b"%2f",
    b"%00",
    b"%0d%0a",
)
WILD = (
    b"\x00",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    "\u2028".encode(),
    "\U0001f600".encode(),
    b"\xef\xbb\xbf",
    b"\r\n",
    b"\x1b[2J",
)
PAIRS = (
    (b"[", b"]"),
    (b"{", b"}"),
    (b'{"a":', b"}"),
    (b"{{", b"}}"),
    (b"(", b")"),
    (b'"', b'"'),
    (b"'", b"'"),
    (b"- ", b"\n"),
)

Edit = Callable[[list[bytes], int, int], None]


def _drop(tokens: list[bytes], at: int, count: int) -> None:
    del tokens[at : at + count]


def _repeated(times: int) -> Edit:
    def repeat(tokens: list[bytes], at: int, count: int) -> None:
        tokens[at:at] = tokens[at : at + count] * times

    return repeat


def _replaced(word: bytes) -> Edit:
    def replace(tokens: list[bytes], at: int, count: int) -> None:
        tokens[at : at + min(count, 2)] = [word]

    return replace


def _inserted(word: bytes) -> Edit:
    def insert(tokens: list[bytes], at: int, _count: int) -> None:
        tokens.insert(at, word)

    return insert


def _nested(pair: tuple[bytes, bytes], depth: int) -> Edit:
    def nest(tokens: list[bytes], at: int, count: int) -> None:
        tokens[at : at + count] = [pair[0] * depth, *tokens[at : at + count], pair[1] * depth]

    return nest


def _spliced(other: bytes) -> Edit:
    def splice(tokens: list[bytes], at: int, count: int) -> None:
        source = TOKEN.findall(other)
        begin = at % len(source) if source else 0
        tokens[at:at] = source[begin : begin + 4 * count]

    return splice


def _flipped(bit: int) -> Edit:
    def flip(tokens: list[bytes], at: int, _count: int) -> None:
        if at < len(tokens):
            first, rest = tokens[at][0], tokens[at][1:]
            tokens[at] = bytes([first ^ (1 << bit)]) + rest

    return flip


def mutated(
    samples: Sequence[bytes], words: Sequence[bytes], *, most_edits: int = 6
) -> st.SearchStrategy[bytes]:
    """Return texts made from samples by a few edits.

    `words` are the meaningful words of the format.
    """
    word = st.sampled_from(words) | st.sampled_from([*words, *HUGE, *WILD])
    edit = st.one_of(
        st.just(_drop),
        st.sampled_from([1, 2, 50]).map(_repeated),
        word.map(_replaced),
        word.map(_inserted),
        st.builds(_nested, st.sampled_from(PAIRS), st.sampled_from([1, 2, 40, 300, 5_000])),
        st.sampled_from(samples).map(_spliced),
        st.integers(0, 7).map(_flipped),
    )
    placed = st.tuples(edit, st.integers(0, 4_095), st.integers(1, 12))
    few, many = st.lists(placed, min_size=1, max_size=2), st.lists(placed, max_size=most_edits)
    return st.builds(_edited, st.sampled_from(samples), few | many)


def _edited(sample: bytes, edits: Sequence[tuple[Edit, int, int]]) -> bytes:
    tokens = TOKEN.findall(sample)
    for edit, at, count in edits:
        edit(tokens, at % (len(tokens) + 1), count)
    return b"".join(tokens)


# ------------------------------------------------------------------------------------------- values

SCALARS = st.one_of(
    st.sampled_from(
        [
            None,
            True,
            False,
            0,
            -1,
            2**63,
            10**30,
            1e308,
            -0.5,
            "",
            " ",
            "..",
            "\0",
            "a\nb",
            "\u2028",
            "x" * 5_000,
            "{{",
            "*",
        ]
    ),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
)


def reshaped(samples: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """Return valid JSON texts: samples in which a few values were replaced, moved or left out."""
    parts = [part for sample in samples for _, _, part in _slots([sample])]
    replacement = st.just(...) | VALUES | st.sampled_from(parts)
    edits = st.lists(st.tuples(st.integers(0, 4_095), replacement), max_size=4)
    return st.builds(_reshaped, st.sampled_from(samples), edits)


def _slots(value: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yield every value inside a value: its container, its place, and itself."""
    pairs = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in pairs:
        yield value, key, part
        yield from _slots(part)


def _reshaped(sample: Any, edits: Sequence[tuple[int, Any]]) -> bytes:
    root = [copy.deepcopy(sample)]
    for at, replacement in edits:
        slots = list(_slots(root))
        if slots:
            holder, key, _ = slots[at % len(slots)]
            if replacement is ...:
                del holder[key]
            else:
                holder[key] = copy.deepcopy(replacement)
    return json.dumps(root[0] if root else None).encode()
