"""Searches go to RE2's own object, with the answers of its package's public interface."""

from collections.abc import Callable

import pytest
import re2  # type: ignore[import-untyped]

from flyteops.template.regexp import CompiledRegexp, Match, finder


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
