"""Docstrings, comments, messages and pages are in plain technical English: noun phrases and verbs
instead of clauses with what and who. `make check` runs this module as well.
"""

import ast
import functools
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CLAUSES = re.compile(r"\b(what|who|whom|whoever|whatever)\b", re.IGNORECASE)
MOST_PER_1000 = 3
BANNED = re.compile(r"\b(mend(s|ed|ing)?|whoever|whom)\b|^Return (what|how|who)\b", re.IGNORECASE)
CODE = re.compile(r"```.*?```|`[^`\n]*`|\]\([^)]*\)", re.DOTALL)

PACKAGES = ["src/flyteops", "chaos/flyteops_chaos"]
MODULES = {package: sorted((ROOT / package).rglob("*.py")) for package in PACKAGES}
# Decisions and the changelog are records of their time.
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*.md")]
    if "decisions" not in path.parts and path.name != "CHANGELOG.md"
)


@functools.cache
def texts_of(package):
    """Return all texts of a package, with their modules and kinds."""
    return [(path, *each) for path in MODULES[package] for each in texts(path)]


def texts(path):
    """Yield the texts in a module, each with its kind: a docstring (also one below an attribute or
    a constant), a message (any other text of several words), or a comment.
    """
    source = path.read_text()
    tree = ast.parse(source)
    documenting = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(body := getattr(node, "body", None), list)
        for statement in body
        if isinstance(statement, ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield "docstrings" if id(node) in documenting else "messages", node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield "comments", token.string


def rate(found):
    """Return the number of such words in 1,000."""
    words = sum(len(text.split()) for text in found)
    return 1000 * sum(len(CLAUSES.findall(text)) for text in found) / words


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("kind", ["docstrings", "messages", "comments"])
def test_texts_of_the_code_have_few_clauses_with_what_and_who(package, kind):
    found = [text for _, each, text in texts_of(package) if each == kind]
    assert rate(found) < MOST_PER_1000


def test_pages_have_few_clauses_with_what_and_who():
    assert rate([CODE.sub("", path.read_text()) for path in PAGES]) < MOST_PER_1000


@pytest.mark.parametrize("package", PACKAGES)
def test_docstrings_have_none_of_the_banned_forms(package):
    banned = [
        f"{path.relative_to(ROOT)}: {text[:60]}"
        for path, kind, text in texts_of(package)
        if kind == "docstrings" and BANNED.search(text)
    ]
    assert banned == []


def test_the_rate_is_that_of_the_words():
    assert rate(["Return what the caller wants."]) == 200
    assert rate(["Return the requested value."]) == 0


def test_each_kind_of_text_is_found(tmp_path):
    path = tmp_path / "module.py"
    path.write_text('"""One."""\nX = 1\n"""The number."""\nY = "a message"  # a comment\n')
    assert sorted(texts(path)) == [
        ("comments", "# a comment"),
        ("docstrings", "The number."),
        ("messages", "a message"),
    ]


@pytest.mark.parametrize("text", ["Return how it is.", "Mend the file.", "Whoever calls."])
def test_the_banned_forms_are_found(text):
    assert BANNED.search(text)
