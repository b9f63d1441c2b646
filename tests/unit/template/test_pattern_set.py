"""Sets of regular expressions: any patterns are safe, and none keeps others from being found."""

from flyteops.template.regexp import SET_COST, SET_SIZE, SET_WEIGHT, PatternSet, set_pattern

LARGE = [rf"(?i)\pL{{16}}{number}.*\pN{{16}}" for number in range(30)]
"""Each has some 20,000 instructions, as there are many letters."""


def a_set(*sources):
    patterns = [set_pattern(source) for source in sources]
    assert None not in patterns
    return PatternSet(patterns), patterns


def test_all_patterns_that_match_are_found_in_one_pass():
    patterns, _ = a_set("^deploy", "app", "^app", "(?i)DEPLOY", "x")
    assert sorted(patterns.find(b"deploy app")) == [0, 1, 3]
    assert patterns.rejected == []


def test_the_largest_of_too_many_large_patterns_are_left_out_and_the_others_are_found():
    patterns, all_of_them = a_set("^deploy", *LARGE, "app$")
    rest = {0, 31} | (set(range(1, 31)) - set(patterns.rejected))
    assert patterns.rejected
    assert sum(all_of_them[index].size for index in rest) <= SET_SIZE
    assert sorted(patterns.find(b"deploy app")) == [0, 31]


def test_heavy_patterns_keep_no_message_of_a_chat_from_being_searched():
    heavy = [f"(?:(?:a{{0,16}}){{0,16}}){{0,3}}{number}" for number in range(60)]
    patterns, all_of_them = a_set("^deploy", *heavy)
    assert sum(each.weight for each in all_of_them) > SET_WEIGHT
    assert patterns.rejected
    assert patterns.find(b"deploy ".ljust(SET_COST // SET_WEIGHT, b"a")) == [0]
