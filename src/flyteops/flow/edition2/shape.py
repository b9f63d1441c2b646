"""The shape of a flow file: keys and types, matched exactly, and the forms of single values."""

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import inspect

from flyteops.convert import kind_of, type_info
from flyteops.definition import FlowDefinition
from flyteops.document import MAX_PROBLEMS, Document, Path
from flyteops.errors import Problem
from flyteops.flow.edition2.field import FORMS, RESERVED
from flyteops.flow.edition2.form import Form, not_one_of
from flyteops.flow.nearest import nearest_word
from flyteops.model import JsonValue

FAULTY: Any = object()
"""The place of a value with a fault that has been reported."""


PLAIN: Mapping[type, type] = {
    inspect.StructType: dict,
    inspect.DictType: dict,
    inspect.VarTupleType: list,
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.StrType: str,
}


class Node:
    """An object of a file without its faulty values.

    `has` tells of every key that was given, `get` gives the values without faults.
    """

    __slots__ = ("_given", "_values")

    def __init__(self, values: dict[str, Any], given: set[str]) -> None:
        self._values = values
        self._given = given

    def has(self, key: str) -> bool:
        """Return whether a key is given, even with a fault."""
        return key in self._given

    def get(self, key: str) -> Any:  # noqa: ANN401 - of the field's type
        """Return the value of a key, None if it is not given or has a fault."""
        return self._values.get(key)

    def text(self, key: str) -> str | None:
        """Return the text of a key, None if there is none."""
        value = self._values.get(key)
        return value if isinstance(value, str) else None

    def node(self, key: str) -> "Node | None":
        """Return the object of a key, None if there is none."""
        value = self._values.get(key)
        return value if isinstance(value, Node) else None

    def nodes(self, key: str) -> Iterator[tuple[int, "Node"]]:
        """Yield the objects of a list with their indices."""
        value = self._values.get(key)
        for index, each in enumerate(value if isinstance(value, list) else ()):
            if isinstance(each, Node):
                yield index, each


class TooManyProblemsError(Exception):
    """More problems were found than are reported."""


class Report:
    """The problems of a document, up to the maximum that is reported."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.problems: list[Problem] = []

    def add(self, path: Path, message: str) -> None:
        """Add a problem with the value at a path; raise `TooManyProblemsError` at the maximum."""
        self.problems.append(self._document.problem(path, message))
        if len(self.problems) >= MAX_PROBLEMS:
            raise TooManyProblemsError


def read_shape(document: Document, report: Report) -> Node:
    """Return the flow of a document without its faulty values; report these."""
    flow = _Shape(report).read(document.value, type_info(FlowDefinition), (), None)
    return flow if isinstance(flow, Node) else Node({}, set())


class _Shape:
    def __init__(self, report: Report) -> None:
        self._report = report

    def read(self, value: JsonValue, kind: inspect.Type, path: Path, form: Form | None) -> Any:  # noqa: ANN401
        option = _option(value, kind)
        if option is None:
            noun = (form and form.noun) or _noun(kind)
            hint = "; leave the key out if it is not needed" if value is None else ""
            self._report.add(path, f"must be {noun}, not {kind_of(value)}{hint}")
            return FAULTY
        match option:
            case inspect.StructType():
                return self._struct(value, option, path)
            case inspect.DictType():
                return self._formed(self._dict(value, option, path), form, path)
            case inspect.VarTupleType():
                items = [
                    self.read(item, option.item_type, (*path, index), None)
                    for index, item in enumerate(value)
                ]
                return self._formed(items, form, path)
            case inspect.LiteralType() if value not in option.values:
                self._report.add(path, not_one_of(value, _words(option)))
                return FAULTY
        return self._formed(value, form, path)

    def _formed(self, value: Any, form: Form | None, path: Path) -> Any:  # noqa: ANN401
        if form is None:
            return value
        is_faulty = False
        for below, message in form.faults(value):
            is_faulty = True
            self._report.add((*path, *below), message)
        return FAULTY if is_faulty else value

    def _dict(self, value: dict[str, JsonValue], kind: inspect.DictType, path: Path) -> JsonValue:
        items = {
            key: self.read(item, kind.value_type, (*path, key), None) for key, item in value.items()
        }
        return {key: item for key, item in items.items() if item is not FAULTY}

    def _struct(self, value: dict[str, JsonValue], kind: inspect.StructType, path: Path) -> Node:
        fields = {field.encode_name: field for field in kind.fields}
        values: dict[str, Any] = {}
        given = set(value)
        for key, item in value.items():
            if key in fields:
                form = FORMS.get((kind.cls, key))
                read = self.read(item, fields[key].type, (*path, key), form)
                if read is not FAULTY:
                    values[key] = read
            else:
                given.update(self._unknown(key, kind, path))
        for name, field in fields.items():
            if field.required and name not in given:
                self._report.add(path, f"{name!r} is missing")
        return Node(values, given)

    def _unknown(self, key: str, kind: inspect.StructType, path: Path) -> Iterator[str]:
        """Report an unknown key; yield the known one that was probably intended."""
        at = (*path, key)
        if kind.cls is FlowDefinition and key in RESERVED:
            self._report.add(at, f"the key {key!r} is reserved for a later version; leave it out")
            return
        near = nearest_word(key, [field.encode_name for field in kind.fields])
        hint = f"; did you mean {near!r}?" if near else ""
        self._report.add(at, f"the key {key[:40]!r} is not known{hint}")
        if near:
            yield near


def _option(value: JsonValue, kind: inspect.Type) -> inspect.Type | None:
    """Return the type among the alternatives that a value is of, None if there is none."""
    return next((each for each in _options(kind) if _fits(value, each)), None)


def _options(kind: inspect.Type) -> list[inspect.Type]:
    types = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return [each for each in types if not isinstance(each, inspect.NoneType)]


def _fits(value: JsonValue, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.LiteralType):
        return type(value) is type(kind.values[0])
    plain = PLAIN.get(type(kind))
    if plain is None:
        return True
    return isinstance(value, plain) and not (plain is int and isinstance(value, bool))


def _noun(kind: inspect.Type) -> str:
    """Return the description of a type in plain words."""
    nouns = {
        inspect.StructType: "an object",
        inspect.DictType: "an object",
        inspect.VarTupleType: "a list",
        inspect.BoolType: "true or false",
        inspect.IntType: "a whole number",
        inspect.StrType: "text",
    }
    words = [
        _listed(_words(each)) if isinstance(each, inspect.LiteralType) else nouns[type(each)]
        for each in _options(kind)
    ]
    return _listed(words)


def _words(kind: inspect.LiteralType) -> tuple[str, ...]:
    return tuple(str(each) for each in kind.values)


def _listed(words: list[str] | tuple[str, ...]) -> str:
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
