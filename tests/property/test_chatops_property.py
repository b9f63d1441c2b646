"""What holds for every pattern of a chat command, and for everything that people may type."""

import string

from hypothesis import given
from hypothesis import strategies as st

from flyteops.errors import InputError
from flyteops.packs.chatops.pattern import CommandPattern, PatternPart
from flyteops.packs.chatops.typed import without_gap

WORDS = st.text(string.ascii_lowercase, min_size=1, max_size=6)
NAMES = st.lists(
    st.from_regex(r"[a-z_][a-z0-9_]{0,6}", fullmatch=True), min_size=0, max_size=6, unique=True
)
ANYTHING = st.text(max_size=60)
TYPED = st.text(st.sampled_from("ab \"'“”„«»`-—\u200b\u00a0[]{}|:.\t\n🚀é"), max_size=40)


@st.composite
def patterns(draw: st.DrawFn) -> CommandPattern:
    names = draw(NAMES)
    groups: list[tuple[bool, tuple[PatternPart, ...]]] = [(False, (PatternPart(text=draw(WORDS)),))]
    for number, name in enumerate(names):
        choices = tuple(draw(st.lists(WORDS, min_size=0, max_size=3, unique=True)))
        part = PatternPart(name=name, choices=choices)
        if number == len(names) - 1 and draw(st.booleans()):
            part = PatternPart(name=name, is_rest=True)
        before = (PatternPart(text=draw(WORDS)),) if draw(st.booleans()) else ()
        groups.append((draw(st.booleans()), (*before, part)))
    return CommandPattern.parse(
        " ".join(f"[{text}]" if optional else text for optional, text in written(groups))
    )


def written(groups: list[tuple[bool, tuple[PatternPart, ...]]]) -> list[tuple[bool, str]]:
    return [(optional, " ".join(map(str, parts))) for optional, parts in groups]


@st.composite
def patterns_with_arguments(draw: st.DrawFn) -> tuple[CommandPattern, dict[str, str]]:
    pattern = draw(patterns())
    arguments: dict[str, str] = {}
    for _, parts in pattern.groups:
        for part in parts:
            if part.choices:
                arguments[part.name] = draw(st.sampled_from(part.choices))
            elif part.is_rest:
                arguments[part.name] = draw(ANYTHING.map(without_gap).filter(bool))
            elif part.name:
                arguments[part.name] = draw(
                    ANYTHING.filter(lambda text: not ('"' in text and "'" in text))
                )
    return pattern, arguments


@given(patterns())
def test_a_pattern_is_written_as_it_is_read(pattern: CommandPattern) -> None:
    assert CommandPattern.parse(str(pattern)) == pattern


@given(patterns_with_arguments())
def test_what_is_written_with_arguments_gives_them_back(
    given_both: tuple[CommandPattern, dict[str, str]],
) -> None:
    pattern, arguments = given_both
    if all(arguments.values()):
        assert pattern.match(pattern.write(arguments)) == arguments


@given(patterns_with_arguments(), st.data())
def test_what_is_optional_may_be_left_out(
    given_both: tuple[CommandPattern, dict[str, str]], data: st.DataObject
) -> None:
    pattern, arguments = given_both
    optional = {part.name for is_optional, parts in pattern.groups if is_optional for part in parts}
    left_out = data.draw(st.sets(st.sampled_from(sorted(optional)))) if optional else set()
    found = pattern.match(
        pattern.write(
            {name: "" if name in left_out else value for name, value in arguments.items()}
        )
    )
    assert found is None or set(found) == set(pattern.names)
    assert found is not None or not all(arguments.values())


@given(patterns(), ANYTHING | TYPED)
def test_whatever_is_typed_is_the_command_or_not(pattern: CommandPattern, text: str) -> None:
    found = pattern.match(text)
    assert found is None or (
        set(found) == set(pattern.names) and pattern.begins(text) and pattern.is_meant(text)
    )


@given(ANYTHING | TYPED)
def test_whatever_is_declared_is_a_pattern_or_a_fault(text: str) -> None:
    try:
        pattern = CommandPattern.parse(text)
    except InputError:
        return
    assert CommandPattern.parse(str(pattern)) == pattern


@given(patterns(), TYPED)
def test_case_and_blanks_of_words_do_not_matter(pattern: CommandPattern, text: str) -> None:
    message = f"{' '.join(pattern.opening)} {text}"
    other = f"  {'   '.join(pattern.opening).upper()}\t{text}"
    assert (pattern.match(message) is None) == (pattern.match(other) is None)
