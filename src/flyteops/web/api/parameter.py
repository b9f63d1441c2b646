"""Parameters and examples that several operations of API v1 share."""

from typing import Any

from flyteops.web.api import query
from flyteops.web.api.handlers import DEFAULT_LIMIT
from flyteops.web.api.operation import Parameter
from flyteops.web.api.part import MAX_LIMIT

PAGE = (
    Parameter(
        "start",
        "how many to skip",
        {"type": "integer", "minimum": 0, "maximum": query.MAX_NUMBER, "default": 0},
    ),
    Parameter(
        "limit",
        f"how many to return, {MAX_LIMIT} at most; 0 means as many as that",
        {"type": "integer", "minimum": 0, "maximum": query.MAX_NUMBER, "default": DEFAULT_LIMIT},
    ),
)

PART = (
    PAGE[0],
    Parameter(
        "limit",
        f"how many to return, {MAX_LIMIT} at most; without it, or with 0, all",
        {"type": "integer", "minimum": 0, "maximum": query.MAX_NUMBER},
    ),
)

EXECUTION_FILTER = (
    Parameter("flowName", "the name of the flow"),
    Parameter("stepId", "the id of the step"),
    Parameter("actionName", "the name of the command"),
    Parameter("actionPackName", "the name of the pack that the action is for"),
    Parameter(
        "actionPackLabels",
        "labels that the action asks for, as pairs with a colon",
        {"type": "string", "pattern": "^[a-z]+:[a-z]+(,[a-z]+:[a-z]+)*$"},
        "env:staging,network:lab",
    ),
    *PAGE,
)

LEASE = Parameter("lease", "the value in the link of the action, if it has a time limit")

EVENT_EXAMPLE: dict[str, Any] = {"event": "Deployed", "payload": {"app": "web", "version": "1.2.3"}}
PACK_EXAMPLE: dict[str, Any] = {
    "name": "Deployer",
    "labels": {"env": "staging"},
    "commands": [{"name": "Deploy", "events": ["Deployed", "DeployFailed"]}],
    "events": [{"name": "Deployed"}, {"name": "DeployFailed"}],
    "links": [{"href": "https://example.com/deployer", "rel": "help"}],
}
FLOW_EXAMPLE: dict[str, Any] = {
    "name": "deploy_on_request",
    "description": "Deploys what is asked for in the chat.",
    "steps": [
        {
            "id": "deploy",
            "event": {"name": "ReceivedMessage", "packName": "Chat"},
            "context": {"channel": "{{ Event.Payload.channelId }}"},
            "criteria": "{{ Event.Payload.message|match:'^deploy ' }}",
            "command": {
                "name": "Deploy",
                "packName": "Deployer",
                "input": {"request": "{{ Event.Payload.message }}"},
            },
        }
    ],
}
