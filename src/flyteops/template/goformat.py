"""Go's fmt.Sprintf with at most one argument."""

import re
from collections.abc import Callable

from flyteops.template.gotime import Time
from flyteops.template.value import (
    FLOATS,
    LISTS,
    MAPS,
    TEXTS,
    Function,
    LargeInteger,
    Struct,
    Value,
    element,
    float_text,
    go_type,
    text,
    to_bytes,
)

_VERB = re.compile(r"%([-+# 0]*)([0-9]*)(?:(\.)([0-9]*))?(?:\[([0-9]+)\])?(.)?", re.DOTALL)
_WIDEST = 1_000_000
_RADIX = {"d": "d", "v": "d", "b": "b", "o": "o", "x": "x", "X": "X"}
_PREFIX = {"b": "0b", "o": "0", "x": "0x", "X": "0X"}
_QUOTED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


def sprintf(
    layout: str, value: object, check_length: Callable[[int], None], charge: Callable[[int], None]
) -> str:
    """Print the value in the layout.

    `check_length` is called with the lengths of texts before they are made, and `charge` with the
    amount of work; either may raise. The verbs x and b of floats, and `#v` of lists and maps,
    differ from Go's.
    """
    charge(len(layout))
    return _Printer(value, check_length, charge).run(layout)


class _Verb:
    """One verb with its flags, width and precision."""

    def __init__(self, match: re.Match[str]) -> None:
        self.flags = frozenset(match[1])
        self.width = int(match[2]) if match[2] else 0
        self.precision = int(match[4] or 0) if match[3] else None
        self.index = int(match[5]) if match[5] else None
        self.letter = match[6] or ""


class _Printer:
    def __init__(
        self, value: object, check_length: Callable[[int], None], charge: Callable[[int], None]
    ) -> None:
        self.value = value
        self.used = False
        self.indexed = False
        self.check_length = check_length
        self.charge = charge

    def run(self, layout: str) -> str:
        result = _VERB.sub(self._replace, layout)
        if not self.used and not self.indexed:
            shown = (
                "<nil>"
                if self.value is None
                else f"{go_type(self.value)}={self._plain(self.value)}"
            )
            result += f"%!(EXTRA {shown})"
        return result

    def _plain(self, value: object) -> str:
        match = _VERB.match("%v")
        assert match is not None  # noqa: S101 - for the type checker
        return self.show(_Verb(match), value)

    def _replace(self, match: re.Match[str]) -> str:
        too_wide = (
            len(match[2]) > 7
            or len(match[4] or "") > 7
            or int(match[2] or 0) > _WIDEST
            or int(match[4] or 0) > _WIDEST
        )
        if not match[6] or too_wide:
            return "%!(NOVERB)"
        verb = _Verb(match)
        if verb.letter == "%":
            return "%"
        if verb.index is not None:
            self.indexed = True
            if verb.index != 1:
                return f"%!{verb.letter}(BADINDEX)"
        elif self.used:
            return f"%!{verb.letter}(MISSING)"
        self.used = True
        if verb.letter == "v":
            verb.flags -= {"+"}
        self.check_length(max(verb.width, verb.precision or 0))
        return self.show(verb, self.value)

    def show(self, verb: _Verb, value: Value) -> str:
        """Print one value, or the items of one."""
        self.charge(2)
        if verb.letter == "T":
            return self._pad(verb, go_type(value))
        if (
            verb.letter == "v"
            or verb.letter in _KINDS.get(type(value), "")
            or type(value) in _PARTED
        ):
            return self._valid(verb, value)
        if type(value) is Time and verb.letter in "sqxX":
            return self._valid(verb, text(value))
        return self._bad(verb, value)

    def _bad(self, verb: _Verb, value: object) -> str:
        letter, verb.letter = verb.letter, "v"
        shown = "<nil>" if value is None else f"{go_type(value)}={self.show(verb, value)}"
        verb.letter = letter
        return f"%!{letter}({shown})"

    def _valid(self, verb: _Verb, value: Value) -> str:
        kind = type(value)
        if kind in TEXTS:
            return self._text(verb, value)
        if kind is bool:
            return self._pad(verb, "true" if value else "false")
        if kind is int:
            return self._int(verb, value)
        if kind in FLOATS:
            return self._float(verb, value)
        if kind in _PARTED:
            return self._parts(verb, value)
        return self._pad(verb, "<nil>" if value is None else text(value))

    def _parts(self, verb: _Verb, value: Value) -> str:
        if type(value) in LISTS:
            items = [self._inner(verb, element(item)) for item in value]
            result = f"[{' '.join(items)}]"
        elif type(value) in MAPS:
            items = [
                f"{self.show(verb, name)}:{self._inner(verb, element(value[name]))}"
                for name in sorted(value)
            ]
            result = f"map[{' '.join(items)}]"
        else:
            items = [
                self._inner(verb, item)
                for item in value.fields.values()
                if type(item) is not Function
            ]
            result = f"{{{' '.join(items)}}}"
        self.check_length(len(result))
        return result

    def _inner(self, verb: _Verb, value: Value) -> str:
        return "<nil>" if value is None else self.show(verb, value)

    def _pad(self, verb: _Verb, shown: str, *, zeros: bool = False) -> str:
        if "-" in verb.flags:
            return shown.ljust(verb.width)
        if "0" in verb.flags and not zeros and not shown[-1:].isdigit():
            return shown.rjust(verb.width, "0")
        if zeros and "0" in verb.flags and shown[-1:] not in ("f", "N"):
            sign = shown[:1] if shown[:1] in ("+", "-", " ") else ""
            return sign + shown[len(sign) :].rjust(verb.width - len(sign), "0")
        return shown.rjust(verb.width)

    def _text(self, verb: _Verb, value: str) -> str:
        shown = value if verb.precision is None else value[: verb.precision]
        if verb.letter in ("x", "X"):
            data = to_bytes(value) if verb.precision is None else to_bytes(value)[: verb.precision]
            shown = data.hex(" ") if " " in verb.flags else data.hex()
            shown = shown.upper() if verb.letter == "X" else shown
        elif verb.letter == "q" or (verb.letter == "v" and "#" in verb.flags):
            self.check_length(len(shown) * 10)
            shown = _quoted(shown)
        return self._pad(verb, shown)

    def _int(self, verb: _Verb, value: int) -> str:
        letter = verb.letter
        if letter in ("c", "q"):
            valid = 0 <= value < 0x110000 and not 0xD800 <= value < 0xE000
            shown = chr(value) if valid else "\ufffd"
            return self._pad(verb, shown if letter == "c" else f"'{_quoted(shown)[1:-1]}'")
        if letter == "U":
            return self._pad(verb, f"U+{value:04X}")
        if letter in "eEfFgG":
            return self._bad(verb, value)
        digits = format(abs(value), _RADIX[letter])
        if verb.precision is not None:
            digits = digits.rjust(verb.precision, "0")
        digits = _PREFIX.get(letter, "") + digits if "#" in verb.flags else digits
        sign = "-" if value < 0 else _plus(verb)
        return self._pad(verb, sign + digits, zeros=verb.precision is None)

    def _float(self, verb: _Verb, value: float) -> str:
        shown = float_text(value)
        if shown[-1] not in "fN":
            shown = _float_digits(verb, value)
        elif shown[0] == "+" and "+" not in verb.flags:
            shown = shown[1:] if " " not in verb.flags else " " + shown[1:]
            return self._pad(verb, f"+{shown}" if shown == "Inf" else shown)
        sign = "" if shown[0] in "+-" else _plus(verb)
        return self._pad(verb, sign + shown, zeros=True)


def _plus(verb: _Verb) -> str:
    if "+" in verb.flags:
        return "+"
    return " " if " " in verb.flags else ""


def _float_digits(verb: _Verb, value: float) -> str:
    letter = verb.letter
    if letter in "xXb":
        digits = value.hex()
        return digits.upper() if letter == "X" else digits
    if letter in "vgG" and verb.precision is None:
        digits = _shortest(value)
        return digits.upper() if letter == "G" else digits
    precision = 6 if verb.precision is None else verb.precision
    if type(value) is LargeInteger and letter in "fF":
        return f"{value.exact}.{'0' * precision}" if precision else str(value.exact)
    return format(value, f".{precision}{'g' if letter == 'v' else letter}")


def _shortest(value: float) -> str:
    """Return the shortest digits that give the same float.

    With an exponent below -4 and from 6 on, as for %v and %g.
    """
    sign, digits, exponent = _decimal(value)
    point = len(digits) + exponent
    if value and (point - 1 < -4 or point - 1 >= _EXPONENT_FROM):
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        power = point - 1
        return f"{sign}{digits[0]}{fraction}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}" if value else f"{sign}0"
    whole = digits[:point].ljust(point, "0")
    return f"{sign}{whole}.{digits[point:]}" if len(digits) > point else sign + whole


def _decimal(value: float) -> tuple[str, str, int]:
    mantissa, _, power = repr(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    exponent = int(power or 0) - len(fraction)
    digits = (whole + fraction).lstrip("0") or "0"
    stripped = digits.rstrip("0") or "0"
    exponent += len(digits) - len(stripped) if digits != "0" else 0
    return ("-" if str(value)[0] == "-" else ""), stripped, exponent


def _quoted(string: str) -> str:
    return (
        '"'
        + "".join(_QUOTED.get(c) or (c if c.isprintable() else _escaped(c)) for c in string)
        + '"'
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_EXPONENT_FROM = 6
_PARTED = frozenset([*LISTS, *MAPS, Struct])
_KINDS: dict[type, str] = dict.fromkeys(TEXTS, "sqxX") | {
    bool: "t",
    int: "dboxXcqU",
    float: "beEfFgGxX",
    LargeInteger: "beEfFgGxX",
}
