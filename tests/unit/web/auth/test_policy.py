"""Which entry of a policy decides, and what its claims ask of a token."""

from textwrap import dedent

import pytest

from flyteops.errors import InputError
from flyteops.web.auth.policy import Policy, PolicyEntry
from flyteops.web.auth.policyfile import read_policy
from tests.support.step import steps_of


def policy(*paths):
    return Policy(
        [PolicyEntry(path) if isinstance(path, str) else PolicyEntry(*path) for path in paths]
    )


def found(policy, path, method="GET"):
    match = policy.find(method, path)
    return match and match.entry.path


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("/v1/packs/Slack", "/v1/packs/Slack"),
        ("/v1/packs/Jira", "/v1/packs/:pack"),
        ("/v1/packs/Jira/events", "/v1/packs/*"),
        ("/v1/packs/Slack/events", "/v1/packs/*"),
        ("/v1/a/b/c/result", "/v1/*/result"),
        ("/v1/result", "/*"),
        ("/v1/packs", "/*"),
        ("/", "/*"),
    ],
)
def test_a_name_goes_before_a_parameter_and_that_before_any_levels(path, entry):
    some = policy("/*", "/v1/*/result", "/v1/packs/:pack", "/v1/packs/*", "/v1/packs/Slack")
    assert found(some, path) == entry


@pytest.mark.parametrize(
    ("path", "method", "entry"),
    [
        ("/v1/executions", "GET", "/v1/audit/*"),
        ("/v1/executions/1", "HEAD", "/v1/audit/*"),
        ("/v1/%65xecutions/1", "GET", "/v1/audit/*"),
        ("/v1/executions/1/cancel", "POST", "/v1/*"),
        ("/v1/executionsX", "GET", "/v1/*"),
    ],
)
def test_a_policy_from_before_a_path_decides_about_it_as_about_the_older_path(path, method, entry):
    assert found(policy("/v1/*", "/v1/audit/*"), path, method) == entry


def test_an_entry_that_names_a_newer_path_decides_about_it():
    some = policy("/v1/*", "/v1/audit/*", "/v1/executions/:id")
    assert [found(some, path) for path in ("/v1/executions/1", "/v1/executions")] == [
        "/v1/executions/:id",
        "/v1/*",
    ]


def test_levels_are_compared_one_by_one_from_the_left():
    assert found(policy("/v1/*/result", "/v1/packs/*"), "/v1/packs/Jira/result") == "/v1/packs/*"


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_in_the_file_does_not_matter(reverse):
    entries = ["/*", "/a/:b", "/a/b", "/a/*"]
    some = policy(*(reversed(entries) if reverse else entries))
    assert [found(some, path) for path in ("/x", "/a/x", "/a/b", "/a/x/y")] == [
        "/*",
        "/a/:b",
        "/a/b",
        "/a/*",
    ]


def test_a_way_that_leads_nowhere_is_given_up_for_the_next():
    some = policy("/a/b/c", "/a/:x/d", "/*/e")
    assert [found(some, path) for path in ("/a/b/d", "/a/b/e", "/a/b/x", "/q/e/e")] == [
        "/a/:x/d",
        "/*/e",
        None,
        "/*/e",
    ]


def test_any_levels_are_one_or_more_also_in_the_middle():
    some = policy("/a/*", "/b/*/c/*/d")
    assert found(some, "/a") is None
    assert found(some, "/a/1/2/3") == "/a/*"
    assert found(some, "/b/1/c/2/d") == "/b/*/c/*/d"
    assert found(some, "/b/1/2/c/c/3/d/d") == "/b/*/c/*/d"
    assert found(some, "/b/c/d") is None


def test_an_entry_decides_for_its_methods_and_another_for_the_rest():
    some = policy(("/a", ["GET"]), ("/a", ["POST", "PURGE"]), "/*", ("/b", ["POST"]))
    assert found(some, "/a", "POST") == "/a"
    assert found(some, "/a", "DELETE") == "/*"
    assert found(some, "/a", "PURGE") == "/a"
    assert found(some, "/b", "WHATEVER") == "/*"


def test_what_may_be_got_may_be_asked_for_by_head():
    some = policy(("/a", ["GET"]), ("/b", ["POST"]))
    assert found(some, "/a", "HEAD") == "/a"
    assert found(some, "/b", "HEAD") is None


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        ("/v1/packs/%53lack", "/v1/packs/Slack"),  # the same resource, so the same entry
        ("/v1/packs/slack", "/v1/packs/:pack"),
        ("/v1/packs/Slack%2Fevents", "/v1/packs/:pack"),
        ("/v1/packs/Slack%2f..", "/v1/packs/:pack"),
        ("/v1/packs/..", "/v1/packs/:pack"),
        ("/v1/packs/%2e%2e", "/v1/packs/:pack"),
        ("/v1/packs//events", None),
        ("/v1//Slack", None),
        ("/v1/packs/%ff", None),
        ("/V1/packs/Slack", None),
        ("/v1/packs/Slack?x", "/v1/packs/:pack"),
    ],
)
def test_another_spelling_of_a_path_opens_nothing(path, entry):
    assert found(policy("/v1/packs/Slack", "/v1/packs/:pack", "/v1/:kind/Slack"), path) == entry


def test_a_policy_may_spell_what_a_path_cannot():
    some = policy("/v1/datastore/a%2Fb", "/v1/flows/the%20flow")
    assert found(some, "/v1/datastore/a%2Fb") == "/v1/datastore/a%2Fb"
    assert found(some, "/v1/datastore/a/b") is None
    assert found(some, "/v1/flows/the%20flow") == "/v1/flows/the%20flow"


def test_the_steps_of_looking_for_an_entry_grow_with_the_path_and_not_with_its_ways():
    some = policy(*("/*/a" * 10 + f"/{number}" for number in range(20)))
    short, long = (
        steps_of(lambda path=path: found(some, path)) for path in ("/a" * 400, "/a" * 800)
    )
    assert found(some, "/a" * 800) is None
    assert long <= 2.5 * short


TOKEN = {
    "user": "Ann",
    "superuser": True,
    "level": 1,
    "share": 2.0,
    "groups": ["dev", "ops"],
    "numbers": [1, 2],
    "mixed": ["dev", 1],
    "address": {"city": "dev"},
    "nothing": None,
    "empty": "",
}


@pytest.mark.parametrize(
    ("claims", "is_enough"),
    [
        ({"user": ["Bob", "Ann"]}, True),
        ({"user": ["ann"]}, False),
        ({"superuser": ["true"]}, True),
        ({"superuser": ["True"]}, False),
        ({"superuser": ["1"]}, False),
        ({"level": ["1"]}, True),
        ({"level": ["true"]}, False),
        ({"share": ["2"]}, True),
        ({"groups": ["x", "ops"]}, True),
        ({"groups": ["dev,ops"]}, False),
        ({"numbers": ["1"]}, False),
        ({"mixed": ["dev"]}, False),
        ({"address": ["dev", "city"]}, False),
        ({"nothing": ["None", "null", ""]}, False),
        ({"absent": ["x"]}, False),
        ({"absent": ["x"], "user": ["Ann"]}, True),
    ],
)
def test_one_of_the_claims_with_one_of_its_values_is_enough(claims, is_enough):
    match = Policy([PolicyEntry("/a", claims=claims)]).find("GET", "/a")
    assert match.is_satisfied_by(TOKEN) is is_enough


def test_names_and_values_of_claims_are_taken_from_the_path():
    some = Policy([PolicyEntry("/v1/:kind/:pack/*", claims={"pack": [":pack"], ":kind": ["all"]})])
    match = some.find("POST", "/v1/packs/My%20Pack/events")
    assert match.wanted() == [("pack", ["My Pack"]), ("packs", ["all"])]
    assert match.is_satisfied_by({"pack": "My Pack"})
    assert match.is_satisfied_by({"packs": ["all"]})
    assert not match.is_satisfied_by({"pack": ":pack"})
    assert not match.is_satisfied_by({"pack": ""})


# ----------------------------------------------------------------------------------------- the file


def read(text):
    return read_policy(dedent(text).encode())


def test_a_file_is_read_with_all_that_may_be_in_it():
    some = read(
        """
        - path: /v1
        - path: "/v1/packs/:pack/*"
          methods: [POST, PUT]
          claims:
            pack: [":pack", admin]
            superuser: [true]
            level: [1, 2]
        - path: /v1/flows/
          methods:
          claims:
        """
    )
    assert some.find("DELETE", "/v1").is_open
    assert some.find("GET", "/v1/flows").is_open
    match = some.find("PUT", "/v1/packs/A/b")
    assert match.wanted() == [
        ("pack", ["A", "admin"]),
        ("superuser", ["true"]),
        ("level", ["1", "2"]),
    ]
    assert match.entry.line == 3


def test_every_fault_of_a_file_is_told_at_once_with_its_line():
    with pytest.raises(InputError) as caught:
        read(
            """\
            - path: v1
            - path: /v1/fl*ws
              claim: {a: [b]}
            - path: /v1/:pack/:pack
            - path: /v1/a//b
              methods: [GET, get, FETCH]
            - path: /v1/b
              claims: {user: Ann, level: [], group: [{}], ":who": [x], pack: [":what"]}
            - methods: GET
            - nonsense
            - path: /v1/c
              methods: [GET, POST]
            - path: /v1/c/
              methods: [POST]
            - path: /v1/:x/d
            - path: /v1/:y/d
            - path: /v1/:/d
            """
        )
    told = [(problem.line, problem.message) for problem in caught.value.problems]
    assert told == [
        (1, "must be the path of requests, such as /v1/packs/:pack"),
        (3, "'claim' is not known; did you mean 'claims'?"),
        (2, "has '*' inside of 'fl*ws'; it stands for whole levels"),
        (4, "has the same name twice"),
        (5, "has a level without a name between two slashes"),
        (6, "'get' is not a method of HTTP; did you mean GET?"),
        (6, "'FETCH' is not a method of HTTP; did you mean PATCH?"),
        (8, "must be a list of texts, numbers or booleans, one at least"),
        (8, "must be a list of texts, numbers or booleans, one at least"),
        (8, "must be a list of texts, numbers or booleans, one at least"),
        (8, "':who' is to be taken from the path, which has no ':who'"),
        (8, "':what' is to be taken from the path, which has no ':what'"),
        (9, "must be the path of requests, such as /v1/packs/:pack"),
        (9, "must be a list of methods such as [GET, POST]; the default is all methods"),
        (10, "must be an entry with path, methods and claims, not text"),
        (13, "overlaps with the entry in line 11; merge them, or name the methods"),
        (16, "overlaps with the entry in line 15; merge them, or name the methods"),
        (17, "has ':'; a name has letters, digits, '_' and '-', and begins with a letter"),
    ]


@pytest.mark.parametrize("text", ["", "[]", "path: /v1", "- - a", "a: [", "\xff"])
def test_what_is_no_policy_at_all_is_refused(text):
    with pytest.raises(InputError):
        read_policy(text.encode("latin-1"))
