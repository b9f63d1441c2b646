"""The JSON Schema of flow files (draft 2020-12), generated from the types."""

from collections.abc import Mapping
from typing import Any

import msgspec

from flyteops.definition import FlowDefinition
from flyteops.flow.edition2.builtin import (
    COMMANDS,
    WHERE,
    WHERE_REQUIRED,
    Argument,
    BuiltinCommand,
)
from flyteops.flow.edition2.combination import AT_ONCE
from flyteops.flow.edition2.field import DESCRIPTIONS, FORMS
from flyteops.flow.edition2.form import MARK_PATTERN
from flyteops.model import SERVER, Flow

DRAFT = "https://json-schema.org/draft/2020-12/schema"

JsonSchema = dict[str, Any]

TEMPLATE: JsonSchema = {"type": "string", "pattern": MARK_PATTERN}

TYPES = {str: "string", bool: "boolean", float: "number", list: "array", dict: "object"}


def flow_schema(edition: int | None = None) -> JsonSchema:
    """Return the JSON Schema of the flow files of an edition, or of both."""
    if edition == 1:
        return {"$schema": DRAFT, **_edition_1()}
    if edition == 2:
        return {"$schema": DRAFT, **_edition_2()}
    first, second = _edition_1(), _edition_2()
    return {
        "$schema": DRAFT,
        "title": "Flow",
        "if": {"properties": {"edition": {"const": 2}}, "required": ["edition"]},
        "then": {"$ref": second["$ref"]},
        "else": {"$ref": first["$ref"]},
        "$defs": {**first["$defs"], **second["$defs"]},
    }


def _edition_1() -> JsonSchema:
    schema, parts = _generated(Flow)
    flow = parts["Flow"]
    flow["properties"] = {"edition": {"const": 1}, **flow["properties"]}
    parts = {f"Edition1{name}": part for name, part in parts.items()}
    renamed: JsonSchema = _renamed({**schema, "$defs": parts})
    return renamed


def _renamed(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """Return a schema whose references have the names of edition 1."""
    if isinstance(schema, dict):
        return {
            key: value.replace("#/$defs/", "#/$defs/Edition1") if key == "$ref" else _renamed(value)
            for key, value in schema.items()
        }
    return [_renamed(each) for each in schema] if isinstance(schema, list) else schema


def _edition_2() -> JsonSchema:
    schema, parts = _generated(FlowDefinition)
    for kind, descriptions in DESCRIPTIONS.items():
        part = parts[kind.__name__]
        part["additionalProperties"] = False
        for key, given in part["properties"].items():
            part["properties"][key] = {
                "description": descriptions[key],
                **_field(kind, key, given),
            }
    parts["Dependency"].update(minProperties=1, maxProperties=1)
    parts["FlowDefinition"]["required"] = ["edition", *parts["FlowDefinition"]["required"]]
    parts["FlowDefinition"]["allOf"] = _limits()
    parts["StepDefinition"].update(_step_rules())
    parts["CommandDefinition"].update(_command_rules())
    return {**schema, "$defs": parts}


def _generated(kind: type) -> tuple[JsonSchema, JsonSchema]:
    """Return the schema of a type, and those of its parts by name."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    return schema, parts


def _field(kind: type, key: str, generated: JsonSchema) -> JsonSchema:
    """Return the schema of a field: the generated one without null, and that of its form."""
    schema = {
        name: value for name, value in generated.items() if name != "default" or value is not None
    }
    options = [each for each in schema.pop("anyOf", ()) if each != {"type": "null"}]
    if len(options) == 1:
        schema |= options[0]
    elif options:
        schema["anyOf"] = options
    form = FORMS.get((kind, key))
    if form is None:
        return schema
    own = form.schema()
    if "anyOf" in own or "type" in own:
        schema.pop("anyOf", None)
    return {**schema, **own}


def _limits() -> list[JsonSchema]:
    """Return the rules about the limits of a flow."""
    pairs = [(one, other) for one in AT_ONCE for other in AT_ONCE if one < other]
    return [{"not": {"required": list(pair)}} for pair in pairs]


def _step_rules() -> JsonSchema:
    return {
        "anyOf": [{"required": [key]} for key in ("event", "schedule", "dependsOn")],
        "dependentRequired": {
            "forEach": ["command"],
            "repeat": ["command"],
            "correlate": ["event", "dependsOn"],
        },
        "dependentSchemas": {
            "schedule": {"properties": {"event": False, "dependsOn": False, "correlate": False}},
            "forEach": {"properties": {"repeat": False}},
        },
    }


def _command_rules() -> JsonSchema:
    """Return the rules about commands: lost ones, and those of the server."""
    retries_failures_only = {
        "required": ["on"],
        "properties": {"on": {"not": {"contains": {"const": "lost"}}}},
    }
    retries_lost = {
        "if": {"required": ["retry"], "properties": {"retry": {"not": retries_failures_only}}},
        "then": {"required": ["timeout"]},
    }
    of_server = _when(
        {"packName": {"const": SERVER}}, {"properties": {"name": {"enum": list(COMMANDS)}}}
    )
    inputs = [
        _when(
            {"packName": {"const": SERVER}, "name": {"const": name}},
            {"properties": {"input": {"anyOf": [TEMPLATE, _input(command)]}}},
        )
        for name, command in COMMANDS.items()
        if command.arguments is not None
    ]
    return {
        "dependentRequired": {"onLost": ["timeout"]},
        "allOf": [retries_lost, of_server, *inputs],
    }


def _when(properties: JsonSchema, then: JsonSchema) -> JsonSchema:
    return {"if": {"required": list(properties), "properties": properties}, "then": then}


def _input(command: BuiltinCommand) -> JsonSchema:
    schema = _arguments(command.arguments or {}, command.required)
    if command.exclusive:
        schema["not"] = {"required": list(command.exclusive)}
    if command is COMMANDS["Ask"]:
        where = _arguments(WHERE, WHERE_REQUIRED)
        schema["properties"]["where"] = {"anyOf": [where, TEMPLATE]}
    return schema


def _arguments(arguments: Mapping[str, Argument], required: tuple[str, ...]) -> JsonSchema:
    return {
        "type": "object",
        "properties": {key: _argument(argument) for key, argument in arguments.items()},
        "required": list(required),
        "additionalProperties": False,
    }


def _argument(argument: Argument) -> JsonSchema:
    if not argument.kinds:
        return {}
    form = {} if argument.form is None else argument.form.schema()
    types = [TYPES[kind] for kind in argument.kinds if kind is not int]
    schema = {"type": types[0] if len(types) == 1 else types, **form}
    if list in argument.kinds:
        schema |= {"items": {"type": "string"}, "minItems": 1}
    return {"anyOf": [schema, TEMPLATE]}
