"""Docstrings are in plain technical English: noun phrases and verbs instead of clauses with what
and who.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CLAUSES = re.compile(r"\b(what|who|whom|whoever|whatever)\b", re.IGNORECASE)
MOST_PER_1000 = 3


def docstrings(path):
    """Yield the docstrings of modules, classes and functions, and those below attributes and
    constants.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            value = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


def rate(texts):
    """Return the number of such words in 1,000."""
    words = sum(len(text.split()) for text in texts)
    return 1000 * sum(len(CLAUSES.findall(text)) for text in texts) / words


def test_docstrings_have_few_clauses_with_what_and_who():
    for package in ("src/flyteops", "chaos/flyteops_chaos"):
        texts = [text for path in (ROOT / package).rglob("*.py") for text in docstrings(path)]
        assert rate(texts) < MOST_PER_1000, package


def test_the_rate_is_that_of_the_words():
    assert rate(["Return what the caller wants."]) == 200
    assert rate(["Return the requested value."]) == 0
