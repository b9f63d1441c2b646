"""Forms with files (multipart/form-data), read byte for byte."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from flyteops.errors import InputError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 20


class FormPart(msgspec.Struct):
    """A field of a form. `content_type` is None when the sender gave none."""

    value: bytes
    content_type: bytes | None = None


def parse_form(content_type: bytes, body: bytes) -> Mapping[str, FormPart]:
    """Return the fields of a form by name, of equal names the first.

    Raise `InputError` if the body is not a complete form.
    """
    kind, options = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data" or not options.get(b"boundary"):
        raise InputError("The body must be multipart/form-data with a part 'value'.")
    form = _Form()
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise InputError(f"The body is not valid multipart/form-data: {error}.") from error
    if not form.is_complete:
        raise InputError(
            "The body is not valid multipart/form-data: it ends before its last boundary."
        )
    return form.parts


class _Form:
    """Collects the parser's callbacks."""

    def __init__(self) -> None:
        self.parts: dict[str, FormPart] = {}
        self.is_complete = False
        self._count = 0
        self._begin()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._name_bytes,
            "on_header_value": self._value_bytes,
            "on_header_end": self._header,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._chunks: list[bytes] = []

    def _name_bytes(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _value_bytes(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _end(self) -> None:
        self._count += 1
        if self._count > MAX_PARTS:
            raise InputError(f"The form has more than {MAX_PARTS} parts.")
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        part = FormPart(b"".join(self._chunks), self._headers.get(b"content-type"))
        self.parts.setdefault(options.get(b"name", b"").decode("utf-8", "replace"), part)

    def _finish(self) -> None:
        self.is_complete = True
