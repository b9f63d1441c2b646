"""The glossary can be searched: it is sorted, its links lead somewhere, and it has the terms of
the code.
"""

import re
from pathlib import Path
from typing import get_args

import pytest

from flyteops.model import ActionState, Decision
from flyteops.storage.record import KINDS

ROOT = Path(__file__).parents[2]
PATH = ROOT / "docs" / "reference" / "glossary.md"
PAGE = PATH.read_text()
ROWS = dict(re.findall(r"^\| \*\*(.+?)\*\* \| (.+) \|$", PAGE, re.MULTILINE))
REASONS = get_args(Decision.__annotations__["reason"])
NOUNS = {"version": "flow version", "item": "datastore", "key": "idempotency key"}


def plain(term):
    """Return a term as it is sorted: without marks and the words in parentheses."""
    return re.sub(r"[`()]", "", term).casefold()


def anchors(path):
    """Return the anchors of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.casefold()).replace(" ", "-") for heading in headings}


def test_the_terms_are_in_alphabetical_order():
    assert list(ROWS) == sorted(ROWS, key=plain)


def test_every_row_of_the_table_is_a_term():
    assert len(ROWS) == PAGE.count("\n| ") - 1


@pytest.mark.parametrize("link", re.findall(r"\]\((.+?)\)", PAGE))
def test_every_link_leads_to_a_page_and_a_heading(link):
    name, _, anchor = link.partition("#")
    page = PATH.parent / name
    assert page.is_file()
    assert not anchor or anchor in anchors(page)


@pytest.mark.parametrize("term", re.findall(r"[Ss]ee \*(.+?)\*", PAGE))
def test_every_cross_reference_names_a_term(term):
    assert term in ROWS


@pytest.mark.parametrize("state", ActionState)
def test_every_state_of_an_action_is_named(state):
    assert f"`{state}`" in ROWS["action"]


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_of_a_decision_is_named(reason):
    assert f"`{reason}`" in ROWS["decision"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_stored_record_is_a_term(kind):
    assert NOUNS.get(kind, kind) in ROWS


def test_the_glossary_is_in_the_list_of_pages():
    assert "reference/glossary.md" in (ROOT / "docs" / "README.md").read_text()
