"""Searches go to RE2's own object, with the answers of its package's public interface."""

from collections.abc import Callable

import pytest
import re2  # type: ignore[import-untyped]

from flyteops.template import regexp
from flyteops.template.regexp import CompiledRegexp, Match, PatternSet, finder, set_pattern


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


def test_the_installed_package_has_the_inner_object() -> None:
    """Without it, a search costs twice as much, and nothing else shows it."""

    def never(_text: bytes) -> None:
        raise AssertionError

    class Inner(re2._Regexp):  # type: ignore[misc]
        __slots__ = ()
        search = never

    assert finder(Inner(b"b", re2.Options()))(b"abc")[0] == (1, 2)


PATTERNS = ["^deploy", "(?i)APP", "\\bapp\\b", "^$", "é+", "[0-9]{2}", "(a|b)c", "$", "x.*y"]
TEXTS = ["deploy app-12", "", "the App", "café ac", "x\ny", "\x00"]


@pytest.mark.parametrize("memory", [regexp.SET_MEMORY, 6_000, 3_000])
def test_a_set_finds_the_patterns_that_match_alone_also_when_it_is_split(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regexp, "SET_MEMORY", memory)
    patterns = PatternSet([pattern for each in PATTERNS if (pattern := set_pattern(each))])
    assert len(patterns.rejected) < len(PATTERNS) / 2
    for text in TEXTS:
        data = text.encode()
        alone = {index for index, each in enumerate(PATTERNS) if re2.search(each.encode(), data)}
        assert set(patterns.find(data) or ()) == alone - set(patterns.rejected)


def test_a_set_does_not_search_texts_that_would_take_too_long() -> None:
    pattern = set_pattern("[a-z]{16}" * 10)
    assert pattern is not None
    patterns = PatternSet([pattern] * 100)
    assert patterns.find(b"x" * 100) == []
    assert patterns.find(b"x" * 10_000) is None


@pytest.mark.parametrize("source", ["a{17}", "a{2,40}", "a" * 10_000])
def test_patterns_that_are_too_large_are_no_part_of_a_set(source: str) -> None:
    assert set_pattern(source) is None
