"""Filters that encode and decode values."""

import base64
import binascii
import hashlib
import hmac
import json
import math
import re
from typing import NoReturn

from flyteops.errors import TemplateRenderError
from flyteops.template.filter import flow
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter.adapter import run
from flyteops.template.typed.filter.operand import need_text
from flyteops.template.typed.value import LIST, Value, json_text, kind_of, text_of
from flyteops.template.value import clean

_BLANKS = re.compile(r"[ \t\r\n]+")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_URL_ALPHABET = str.maketrans("-_", "+/")
_DEEPEST = 256
_LONGEST_INTEGER = 1_000
_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+\\?(?:"|\Z)|[\[\]{}]', re.DOTALL)
"""A bracket, or a text, also an endless one, whose brackets do not count."""


def tojson(value: Value, *, env: Environment) -> str:
    """Return a value as JSON."""
    return json_text(value, env)


def fromjson(value: Value, *, env: Environment) -> Value:
    """Read a text as JSON; integers are exact."""
    if value is None:
        return None
    string = need_text("fromjson", value, "a text")
    brackets = string.count("[") + string.count("{")
    env.spend((len(string) >> 6) + brackets + (string.count(",") >> 1))
    _check_depth(string)
    try:
        result = json.loads(
            string, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise TemplateRenderError(
            f"`fromjson` got a text that is not JSON: {error.msg} at line {error.lineno}, column"
            f" {error.colno}"
        ) from None
    if kind_of(result) == LIST:
        env.check_count(len(result))
    return result


def _check_depth(string: str) -> None:
    depth = 0
    for mark in _BRACKET.finditer(string):
        depth += (mark[0] in "[{") - (mark[0] in "]}")
        if depth > _DEEPEST:
            raise TemplateRenderError(f"`fromjson` got JSON nested deeper than {_DEEPEST} levels")


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise TemplateRenderError(
            f"`fromjson` got an integer of more than {_LONGEST_INTEGER} digits"
        )
    return int(digits)


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise TemplateRenderError(f"`fromjson` got the number {digits[:40]}, which is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise TemplateRenderError(f"`fromjson` got {name}, which is not JSON")


def _data(value: Value, env: Environment) -> bytes:
    data = clean(text_of(value, env)).encode()
    env.spend(1 + (len(data) >> 6))
    return data


def b64encode(value: Value, *, env: Environment) -> str | None:
    """Return a text in Base64, with padding."""
    if value is None:
        return None
    data = _data(value, env)
    env.check_length(len(data) * 4 // 3)
    return base64.b64encode(data).decode()


def b64decode(value: Value, *, env: Environment) -> str | None:
    """Read Base64 in the standard or the URL alphabet; padding and line breaks are optional."""
    if value is None:
        return None
    string = need_text("b64decode", value, "a text")
    env.spend(1 + (len(string) >> 6))
    given = _BLANKS.sub("", string).translate(_URL_ALPHABET)
    bare = given.rstrip("=")
    if not _BASE64.fullmatch(given):
        raise _not_base64(string)
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4)).decode()
    except binascii.Error:
        raise _not_base64(string) from None
    except UnicodeDecodeError:
        raise TemplateRenderError(
            f"`b64decode` got {string[:40]!r}, which is not a text in UTF-8"
        ) from None


def _not_base64(string: str) -> TemplateRenderError:
    return TemplateRenderError(f"`b64decode` got {string[:40]!r}, which is not Base64")


def sha256(value: Value, *, env: Environment) -> str | None:
    """Return the SHA-256 digest of a text in UTF-8, in hexadecimal digits."""
    return None if value is None else hashlib.sha256(_data(value, env)).hexdigest()


def hmac_sha256(value: Value, key: Value, *, env: Environment) -> str | None:
    """Return the HMAC of a text with SHA-256 and a key, in hexadecimal digits."""
    secret = need_text("hmac_sha256", key, "a text as its key")
    if value is None:
        return None
    data = clean(secret).encode()
    return hmac.new(data, _data(value, env), hashlib.sha256).hexdigest()


def shellquote(value: Value, *, env: Environment) -> str:
    """Make one word for a POSIX shell out of any value; null is the empty word."""
    return str(run(flow.shellquote, text_of(value, env), None, env))
