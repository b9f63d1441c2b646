"""The policy that people will copy is about every request that the server knows, and lets
through whom the page says.
"""

from pathlib import Path

import pytest

from flyteops.web.api.routes import OPERATIONS
from flyteops.web.app import about
from flyteops.web.auth.jwt import MAX_LENGTH
from flyteops.web.auth.policy import uncovered
from flyteops.web.auth.policyfile import read_policy
from tests.docs.blocks import blocks_of

DOCS = Path(__file__).parents[2] / "docs"
(BLOCK,) = [block for block in blocks_of(DOCS / "howto/let-people-in.md") if block.info == "policy"]
POLICY = read_policy(BLOCK.text.encode())
ROUTES = [(operation.method, operation.path) for operation in (*OPERATIONS, *about())]

CALL = ("POST", "/v1/hooks/{hookName}")
"""What others do who have no token; a hook sees itself to who they are."""

USER, ADMIN, PACK = (
    {"groups": ["flyte-users"]},
    {"groups": ["flyte-admins"]},
    {"groups": ["flyte-packs"], "pack": "Slack"},
)


def lets_through(claims, method, path):
    match = POLICY.find(method, path)
    return match.is_open or match.is_satisfied_by(claims)


def test_the_example_has_an_entry_for_every_request():
    assert uncovered(POLICY, ROUTES) == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_the_example_lets_admins_do_everything_and_users_look(method, path):
    assert lets_through(ADMIN, method, path)
    assert lets_through(USER, method, path) is (method == "GET" or (method, path) == CALL)


def test_the_example_lets_nobody_without_a_token_see_more_than_that_there_is_a_server():
    assert lets_through({}, *CALL)
    opened = {
        path for method, path in ROUTES if lets_through({}, method, path) and (method, path) != CALL
    }
    assert opened == {
        "/",
        "/v1",
        "/v1/swagger",
        "/swagger",
        "/swagger/{name}",
        "/hooks",
        "/hooks/{name}",
        "/health",
        "/health/live",
        "/health/ready",
    }


def test_the_example_lets_a_pack_work_as_itself_only():
    own = [("POST", "/v1/packs"), ("GET", "/v1/packs/Slack"), ("POST", "/v1/packs/Slack/events")]
    own += [
        ("POST", f"/v1/packs/Slack/actions/{rest}") for rest in ("take", "7/result", "7/heartbeat")
    ]
    assert all(lets_through(PACK, *request) for request in own)
    others = [
        ("POST", "/v1/packs/Jira/events"),
        ("GET", "/v1/packs"),
        ("DELETE", "/v1/packs/Slack"),
        ("POST", "/v1/flows"),
    ]
    assert not any(lets_through(PACK, *request) for request in others)


def test_the_policy_on_the_reference_page_is_valid_and_its_figures_hold():
    page = DOCS / "reference/auth-policy.md"
    (block,) = blocks_of(page)
    assert read_policy(block.text.encode()).find("POST", "/v1/packs/a/b")
    assert f"{MAX_LENGTH:,} characters" in page.read_text()
