"""The lines of files that problems are shown with."""

import pytest

from flyteops.cli.excerpt import Excerpts
from flyteops.cli.width import display_width
from flyteops.errors import Problem


def shown(content, line, column):
    return list(Excerpts(content).of(Problem("", "wrong", line, column)))


def test_a_line_is_shown_with_a_caret_under_the_place():
    assert shown(b"a: 1\nbc: 2\n", 2, 5) == ["2 | bc: 2", "  |     ^"]


def test_a_long_line_is_shown_around_the_place():
    line, caret = shown(b"x" * 500 + b"!" + b"y" * 500, 1, 501)
    assert line[caret.index("^")] == "!"
    assert len(line) < 75  # it is indented, and does not wrap at 80


def test_control_characters_are_shown_as_escapes_and_the_caret_moves_along():
    line, caret = shown(b"\x1b[31m!", 1, 6)
    assert "\x1b" not in line
    assert line[caret.index("^")] == "!"


@pytest.mark.parametrize("line_break", ["\r\n", "\r", "\n", "\u2028", "\x85"])
def test_lines_end_where_yaml_ends_them(line_break):
    assert shown(f"\ufeffa{line_break}b".encode(), 2, 1) == ["2 | b", "  | ^"]


@pytest.mark.parametrize(("line", "column"), [(None, None), (0, 1), (9, 1)])
def test_a_place_that_is_not_in_the_text_is_not_shown(line, column):
    assert shown(b"a", line, column) == []


@pytest.mark.parametrize(("line", "column"), [(1, None), (1, 0), (1, 10_000)])
def test_a_column_outside_the_line_is_shown_at_its_edge(line, column):
    assert shown(b"ab", line, column)[1].endswith("^")


def test_text_that_is_not_utf8_is_shown_as_far_as_it_can_be():
    assert shown(b"a\xff!", 1, 3) == ["1 | a\ufffd!", "  |   ^"]


def test_the_caret_is_under_the_place_behind_wide_characters():
    line, caret = shown("id: \u65e5\u672c!".encode(), 1, 7)
    assert display_width(line[: line.index("!")]) == caret.index("^")
