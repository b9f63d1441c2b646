"""Filters for HTML and URLs."""

import re
from collections.abc import Callable
from urllib.parse import quote_plus

from flyteops.errors import TemplateAbort
from flyteops.template.casing import SPACES
from flyteops.template.markup import escape
from flyteops.template.regexp import Match, RegexpError
from flyteops.template.state import RenderState
from flyteops.template.value import SafeText, clean, from_bytes, length, text, to_bytes, to_int

_PLAIN = re.compile(r"\\([rn])|[^A-Za-z /]", re.DOTALL)
_IRI = "/#%[]=:;$&()+,!?*@'~"
_URL = (
    r"((((http|https)://)|www\.|((^|["
    r" ]+)[0-9A-Za-z_\-]+(\.com|\.net|\.org|\.info|\.biz|\.de))))(?U:.*)([ ]+|$)"
)
_MAIL = r"(\w+@\w+\.\w{2,4})"
_WORD = re.compile(r"[^<]*?[ .,;]|[^<]+", re.DOTALL)


def escape_html(value: object, _argument: object, _state: RenderState) -> str:
    """Escape the special characters of HTML."""
    return escape(text(value))


def escapejs(value: object, _argument: object, state: RenderState) -> str:
    """Replace everything but letters, blanks and slashes by JavaScript's escapes."""
    string = clean(text(value)).replace("\ufffd", "")
    state.charge(len(string) >> 1)
    return _PLAIN.sub(_js_escape, string)


def _js_escape(match: re.Match[str]) -> str:
    if match[1]:
        return "\\u000D" if match[1] == "r" else "\\u000A"
    return f"\\u{ord(match[0]):04X}"


def urlencode(value: object, _argument: object, _state: RenderState) -> str:
    """Escape for a query in a URL."""
    return quote_plus(to_bytes(text(value)))


def iriencode(value: object, _argument: object, _state: RenderState) -> str:
    """Escape the characters that are not allowed in a URL at all."""
    return _iriencode(text(value))


def _iriencode(string: str) -> str:
    return quote_plus(to_bytes(string), safe=_IRI)


def linebreaks(value: object, _argument: object, state: RenderState) -> object:
    """Turn blocks between empty lines into paragraphs, and other newlines into breaks."""
    if not length(value):
        return value
    lines = text(value).split("\n")
    state.charge(len(lines))
    blank = [not line.strip(SPACES) for line in lines]
    result, opened = [], False
    for position, line in enumerate(lines):
        result.append(line if opened else "<p>" + line)
        opened = True
        if position + 1 == len(lines) or blank[position]:
            continue
        opened = not blank[position + 1]
        result.append("<br />" if opened else "</p>")
    return "".join(result) + ("</p>" if opened else "")


def linebreaksbr(value: object, _argument: object, _state: RenderState) -> str:
    """Turn newlines into breaks."""
    return text(value).replace("\n", "<br />")


def striptags(value: object, _argument: object, _state: RenderState) -> str:
    """Remove every HTML tag."""
    string = text(value)
    parts, position = [], 0
    while (start := string.find("<", position)) >= 0 and (end := string.find(">", start)) >= 0:
        parts.append(string[position:start])
        position = end + 1
    return "".join([*parts, string[position:]]).strip(SPACES)


def removetags(value: object, argument: object, state: RenderState) -> str:
    """Remove the HTML tags with the given names, which may be regular expressions."""
    data = clean(text(value)).encode()
    for tag in text(argument).split(","):
        state.check_length(len(data))
        state.charge(10)
        try:
            data = state.replaced(state.pattern(f"</?{tag}/?>"), lambda _: b"", data)
        except RegexpError as error:
            raise TemplateAbort(f"the tag {tag!r} is not a regular expression: {error}") from None
    return data.decode("utf-8", "replace").strip(SPACES)


def urlize(value: object, argument: object, state: RenderState) -> str:
    """Turn addresses into links; the argument false leaves their text unescaped."""
    return _linked(text(value), state, escaped=argument is not False, size=-1)


def urlizetrunc(value: object, argument: object, state: RenderState) -> str:
    """Turn addresses into links and cut their text to a length."""
    return _linked(text(value), state, escaped=True, size=to_int(argument))


def _cut(data: bytes, size: int) -> str:
    return from_bytes(data[: size - 3]) + "..." if 3 < size < len(data) else from_bytes(data)


def _linked(string: str, state: RenderState, *, escaped: bool, size: int) -> str:
    def link(match: Match) -> bytes:
        raw = from_bytes(match.group(0))
        state.charge(5)
        before, after = " " * raw.startswith(" "), " " * raw.endswith(" ")
        raw = raw.strip(SPACES)
        url = _iriencode(raw)
        url = url if url.startswith("http") else f"http://{url}"
        title = _cut(to_bytes(raw), size)
        title = escape(title) if escaped else title
        return to_bytes(f'{before}<a href="{url}" rel="nofollow">{title}</a>{after}')

    def mail(match: Match) -> bytes:
        state.charge(5)
        address = match.group(0)
        return to_bytes(f'<a href="mailto:{from_bytes(address)}">{_cut(address, size)}</a>')

    linked = state.replaced(state.pattern(_URL), link, clean(string).encode())
    return from_bytes(state.replaced(state.pattern(_MAIL), mail, linked))


class _Cutter:
    """Copies HTML until enough text has passed, and then closes the open tags."""

    def __init__(self, source: str) -> None:
        self.source = clean(source).replace("\ufffd", "")
        self.position = 0
        self.parts: list[str] = []
        self.open: list[str] = []

    def run(self, enough: Callable[[], bool], text_piece: Callable[[], None]) -> None:
        """Copy tags whole, and text by calling `text_piece`, which must move on."""
        while self.position < len(self.source) and not enough():
            if self.source[self.position] == "<":
                self._tag()
            else:
                text_piece()

    def finished(self) -> SafeText:
        """Close the open tags and return everything."""
        return SafeText("".join(self.parts) + "".join(f"</{tag}>" for tag in reversed(self.open)))

    def copy(self, end: int) -> None:
        """Copy up to a position."""
        self.parts.append(self.source[self.position : end])
        self.position = end

    def _tag(self) -> None:
        if self.position + 2 >= len(self.source):
            # The rest is too short for a tag: the bracket alone is copied.
            self.copy(self.position + 1)
            return
        end = self.source.find(">", self.position)
        stop = len(self.source) if end < 0 else end
        if self.source[self.position + 1] == "/":
            self._close(self.source[self.position + 2 : stop])
            self.position = stop + (end >= 0)
            return
        self.open.append(self.source[self.position + 1 : stop].split(" ")[0])
        self.copy(stop + (end >= 0))

    def _close(self, tag: str) -> None:
        self.parts.append(f"</{tag}>")
        for position in range(len(self.open) - 1, -1, -1):
            if self.open[position] == tag:
                self.open[position] = self.open[-1]
                self.open.pop()
                break


def truncatechars_html(value: object, argument: object, state: RenderState) -> str:
    """Cut HTML to a number of characters outside tags, and close the open tags."""
    source, size = text(value), max(to_int(argument) - 3, 0)
    state.charge(len(source))
    cutter, seen = _Cutter(source), 0

    def character() -> None:
        nonlocal seen
        seen += 1
        cutter.copy(cutter.position + 1)

    cutter.run(lambda: seen >= size, character)
    if size <= seen < len(to_bytes(source)):
        cutter.parts.append("...")
    return cutter.finished()


def truncatewords_html(value: object, argument: object, state: RenderState) -> str:
    """Cut HTML to a number of words outside tags, and close the open tags."""
    size = max(to_int(argument), 0)
    state.charge(length(value))
    cutter, seen = _Cutter(text(value)), 0

    def word() -> None:
        nonlocal seen
        match = _WORD.match(cutter.source, cutter.position)
        end = match.end() if match else len(cutter.source)
        piece = cutter.source[cutter.position : end]
        stopped_by_tag = piece[-1] not in " .,;" and end < len(cutter.source)
        # A word that runs into a tag is not counted, and neither is a separator alone.
        seen += not stopped_by_tag and len(piece) > (piece[-1] in " .,;")
        cutter.copy(end)

    cutter.run(lambda: seen >= size, word)
    if seen >= size:
        cutter.parts.append("...")
    return cutter.finished()
