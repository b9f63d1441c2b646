"""The description of the API (OpenAPI 3.1), made from its operations and their types."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from flyteops import __version__
from flyteops.web.api.operation import Operation, Parameter, Success
from flyteops.web.api.schemas import wire

Node = dict[str, Any]

REF = "#/components/schemas/{name}"

TAGS: Mapping[str, str] = {
    "info": "the entry points of the API, and the health of the server",
    "pack": "programs that watch systems, send events and execute commands",
    "event": "messages of packs that something happened",
    "action": "commands for packs, created by flows",
    "actionResult": "the results of actions",
    "actionHeartbeat": "reports that work on an action continues",
    "flow": "workflows: steps that turn events into actions",
    "datastore": "shared configuration that templates can read",
    "flowAudit": "the executions of flows, in the format of the original",
    "execution": "the executions of flows, with the state of each command",
    "eventAudit": "events, with the decisions about them and their reasons",
    "changeAudit": "the audit log: changes and their authors",
    "token": "the server's own tokens and their permissions",
    "hook": "addresses for webhooks of other systems, whose calls become events",
}

REASONS: Mapping[int, str] = {
    400: "The input is not valid; `problems` lists every fault.",
    401: "The server has auth switched on, and the request shows no token that allows this.",
    403: "Pages of other web sites may not do this, and secrets are never shown.",
    404: "Not found.",
    409: "The current state does not allow this.",
    413: "The body is too large.",
    500: "Something went wrong in the server.",
    503: (
        "The store cannot be reached, or is too busy; nothing was changed unless the code is"
        " outcome-unknown. Try again."
    ),
}


def describe(operations: Iterable[Operation]) -> Node:
    """Return the OpenAPI document for these operations."""
    rows = list(operations)
    bodies = [operation.body for operation in rows if operation.body is not None]
    outcomes = [outcome for operation in rows for outcome in operation.outcomes.values()]
    answers = [
        kind
        for outcome in outcomes
        for kind in (outcome.content, outcome.alternative)
        if kind is not None
    ]
    types = list(dict.fromkeys([*bodies, *answers, wire.ProblemDetails]))
    _, components = msgspec.json.schema_components(types, ref_template=REF)
    paths: dict[str, Node] = {}
    for operation in rows:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Flyte",
            "version": __version__,
            "description": (
                "Packs send events and execute commands; flows define which command follows"
                " from which event."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _problem(text) for status, text in REASONS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _operation(operation: Operation) -> Node:
    node: Node = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "responses": _responses(operation),
    }
    if operation.description:
        node["description"] = operation.description
    names = re.findall(r"{(\w+)}", operation.path)
    if names or operation.query:
        node["parameters"] = [*map(_path_parameter, names), *map(_query_parameter, operation.query)]
    if operation.body is not None:
        node["requestBody"] = _request_body(operation)
    return node


def _path_parameter(name: str) -> Node:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1},
    }


def _query_parameter(parameter: Parameter) -> Node:
    node: Node = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "schema": dict(parameter.schema),
    }
    return node if parameter.example is None else {**node, "example": parameter.example}


def _request_body(operation: Operation) -> Node:
    if operation.body is wire.DataItemForm:
        return {
            "required": True,
            "content": {"multipart/form-data": {"schema": _form(operation.body)}},
        }
    if operation.body is bytes:
        return {"content": {"*/*": {"schema": {}, "example": operation.example}}}
    media: Node = {"schema": _schema(operation.body)}
    if operation.example is not None:
        media["example"] = operation.example
    return {"required": True, "content": {"application/json": media, "application/x-yaml": media}}


def _form(kind: type) -> Node:
    _, components = msgspec.json.schema_components([kind], ref_template=REF)
    schema: Node = components[kind.__name__]
    schema["properties"]["value"] = {"type": "string", "format": "binary", "minLength": 1}
    return schema


def _responses(operation: Operation) -> Node:
    responses = {str(status): _outcome(outcome) for status, outcome in operation.outcomes.items()}
    common = (401, 403) if operation.path == "/health" else (400, 401, 403, 500, 503)
    for status in sorted({*operation.errors, *common}):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    if operation.path == "/health":
        responses["500"] = {"description": "The store does not answer."}
    return responses


def _outcome(outcome: Success) -> Node:
    node: Node = {"description": outcome.description}
    if outcome.has_location:
        node["headers"] = {
            "Location": {
                "description": "where it is",
                "schema": {"type": "string", "format": "uri"},
            }
        }
    if outcome.media_type is not None:
        node["content"] = {outcome.media_type: {}}
    elif outcome.content is not None:
        schema = _schema(outcome.content)
        if outcome.alternative is not None:
            schema = {"oneOf": [schema, _schema(outcome.alternative)]}
        media = {"schema": schema}
        node["content"] = {"application/json": media, "application/x-yaml": media}
    return node


def _problem(text: str) -> Node:
    return {
        "description": text,
        "content": {"application/problem+json": {"schema": _schema(wire.ProblemDetails)}},
    }


def _schema(kind: type) -> Node:
    return {"$ref": REF.format(name=kind.__name__)}
