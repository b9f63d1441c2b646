"""Searches with RE2: with the answers of its package's public interface, and by sets of patterns."""

from collections.abc import Callable

import pytest
import re2  # type: ignore[import-untyped]

from flyteops.template.regexp import (
    SET_COST,
    SET_SIZE,
    SET_WEIGHT,
    CompiledRegexp,
    Match,
    PatternSet,
    SetPattern,
    finder,
    set_pattern,
)


class Public:
    """A compiled regular expression of a package whose inner object has another name."""

    def __init__(self, compiled: CompiledRegexp) -> None:
        self._compiled = compiled
        self.groups = compiled.groups
        self.programsize = compiled.programsize

    def search(self, text: bytes, /) -> Match | None:
        return self._compiled.search(text)

    def sub(self, repl: Callable[[Match], bytes] | bytes, text: bytes, /) -> bytes:
        return self._compiled.sub(repl, text)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("b+", "abbbc"),
        ("^deploy (\\w+)$", "deploy web"),
        ("^deploy (\\w+)$", "deploy"),
        ("(a)|(b)|(c)", "xb"),
        ("(a)?x", "x"),
        ("", ""),
        ("", "é"),
        ("(é+)", "caféé"),
        ("(?i)ERROR: (.+)", "one\nerror: two\nthree"),
    ],
)
def test_a_search_of_the_inner_object_finds_the_same_spans(source: str, text: str) -> None:
    compiled, data = re2.compile(source.encode()), text.encode()
    inner, public = finder(compiled), finder(Public(compiled))
    assert list(inner(data)) == list(public(data))
    found = compiled.search(data)
    assert inner(data)[0] == ((-1, -1) if found is None else found.span(0))


PATTERNS = ["^deploy", "(?i)APP", "\\bapp\\b", "^$", "é+", "[0-9]{2}", "(a|b)c", "$", "x.*y"]
TEXTS = ["deploy app-12", "", "the App", "café ac", "x\ny", "\x00"]


@pytest.mark.parametrize("memory", [2**25, 6_000, 3_000])
def test_a_set_finds_the_patterns_that_match_alone_also_when_it_is_split(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flyteops.template.regexp.SET_MEMORY", memory)
    patterns = PatternSet([pattern for each in PATTERNS if (pattern := set_pattern(each))])
    assert len(patterns.rejected) < len(PATTERNS) / 2
    for text in TEXTS:
        data = text.encode()
        alone = {index for index, each in enumerate(PATTERNS) if re2.search(each.encode(), data)}
        assert set(patterns.find(data) or ()) == alone - set(patterns.rejected)


def test_the_installed_package_has_the_inner_object() -> None:
    """Without it, a search costs twice as much, and nothing else shows it."""

    def never(_text: bytes) -> None:
        raise AssertionError

    class Inner(re2._Regexp):  # type: ignore[misc]
        __slots__ = ()
        search = never

    assert finder(Inner(b"b", re2.Options()))(b"abc")[0] == (1, 2)


# sets

LARGE = [rf"(?i)\pL{{16}}{number}.*\pN{{16}}" for number in range(30)]
"""Each has some 20,000 instructions, as there are many letters."""


def a_set(*sources: str) -> tuple[PatternSet, list[SetPattern]]:
    patterns = [found for source in sources if (found := set_pattern(source)) is not None]
    assert len(patterns) == len(sources)
    return PatternSet(patterns), patterns


def test_all_patterns_that_match_are_found_in_one_pass() -> None:
    patterns, _ = a_set("^deploy", "app", "^app", "(?i)DEPLOY", "x")
    assert sorted(patterns.find(b"deploy app") or ()) == [0, 1, 3]
    assert patterns.rejected == []


def test_the_largest_of_too_many_large_patterns_are_left_out_and_the_others_are_found() -> None:
    patterns, all_of_them = a_set("^deploy", *LARGE, "app$")
    rest = {0, 31} | (set(range(1, 31)) - set(patterns.rejected))
    assert patterns.rejected
    assert sum(all_of_them[index].size for index in rest) <= SET_SIZE
    assert sorted(patterns.find(b"deploy app") or ()) == [0, 31]


def test_heavy_patterns_keep_no_message_of_a_chat_from_being_searched() -> None:
    heavy = [f"(?:(?:a{{0,16}}){{0,16}}){{0,3}}{number}" for number in range(60)]
    patterns, all_of_them = a_set("^deploy", *heavy)
    assert sum(each.weight for each in all_of_them) > SET_WEIGHT
    assert patterns.rejected
    assert patterns.find(b"deploy ".ljust(SET_COST // SET_WEIGHT, b"a")) == [0]
