"""The text of a mail with HTML only, as a reader would see it, with the addresses of its links.

It takes time proportional to the length, which the parser of the standard library does not promise
for broken input.
"""

import re
from html import unescape

MAX_LENGTH = 1_000_000
"""Maximum number of characters of HTML that are read."""

_TAG = re.compile(
    r"""<(?P<end>/?)(?P<name>[a-zA-Z][^\s/>]*+)(?P<rest>(?:[^>"']++|"[^"]{0,5000}+"|'[^']{0,5000}+')*+)>"""
)
_ATTRIBUTE = re.compile(r"""([a-zA-Z-]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s>"']++))""")
_MARKUP = re.compile(r"</?[a-zA-Z]|<[!?]")
_BLANKS = re.compile(r"[ \t\r\n\f]+")

_UNSEEN = frozenset(["script", "style", "title", "template", "noembed", "iframe", "object", "svg"])
_PARAGRAPHS = frozenset(
    ["p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "dl", "table", "blockquote", "pre", "hr"]
)
_PARTS = ("article", "aside", "footer", "header", "main", "nav", "section")
_ROWS = ("li", "option", "tbody", "tfoot", "thead", "tr")
_LINES = frozenset(
    [
        *_PARTS,
        *_ROWS,
        "address",
        "body",
        "center",
        "dd",
        "div",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "form",
        "html",
        "legend",
    ]
)
_CELLS = frozenset(["td", "th"])
_LINKS = ("http:", "https:", "mailto:", "tel:", "sip:", "ftp:", "sms:")


def html_text(html: str) -> str:
    """Return HTML as plain text."""
    return _Page(html[:MAX_LENGTH]).text()


class _Page:
    """Reads HTML from its beginning to its end, and writes the text."""

    def __init__(self, html: str) -> None:
        self._html = html
        self._lower = html.lower() if len(html.lower()) == len(html) else html
        self._lines: list[str] = []
        self._line: list[str] = []
        self._link: tuple[str, int] | None = None
        self._is_blank_due = False
        self._as_typed = 0

    def text(self) -> str:
        place = 0
        while place < len(self._html):
            found = _MARKUP.search(self._html, place)
            if found is None:
                self._write(self._html[place:])
                break
            self._write(self._html[place : found.start()])
            place = self._markup(found.start())
        self._end_link()
        self._break()
        return "\n".join(self._lines).strip("\n")

    def _markup(self, place: int) -> int:
        """Read the markup that begins with `<`, and return its end; unclosed markup is dropped."""
        if self._html.startswith("<!--", place):
            return self._after("-->", place + 2)
        tag = _TAG.match(self._html, place)
        if tag is None:
            return self._after(">", place)
        name = tag["name"].lower()
        if name in _UNSEEN and not tag["end"] and not tag["rest"].endswith("/"):
            closing = self._lower.find(f"</{name}", tag.end())
            return self._after(">", closing) if closing >= 0 else len(self._html)
        if tag["end"]:
            self._end(name)
        else:
            self._begin(name, tag["rest"])
        return tag.end()

    def _after(self, mark: str, place: int) -> int:
        found = self._html.find(mark, place)
        return len(self._html) if found < 0 else found + len(mark)

    def _begin(self, name: str, rest: str) -> None:
        self._around(name)
        match name:
            case "br":
                self._break(is_line=True)
            case "li":
                self._put("- ")
            case "hr":
                self._put("---")
                self._break()
            case "pre":
                self._as_typed += 1
            case "img":
                self._put(_attribute(rest, "alt"))
            case "a":
                self._end_link()
                self._link = (_attribute(rest, "href").strip(), len(self._line))

    def _end(self, name: str) -> None:
        if name == "a":
            self._end_link()
        if name == "pre":
            self._as_typed = max(0, self._as_typed - 1)
        self._around(name)

    def _around(self, name: str) -> None:
        """Begin a line, after a blank one for a paragraph, where a block begins or ends."""
        if name in _CELLS and self._line:
            self._line.append(" ")
        if name in _LINES or name in _PARAGRAPHS:
            self._break()
        if name in _PARAGRAPHS and self._lines:
            self._is_blank_due = True

    def _end_link(self) -> None:
        if self._link is None:
            return
        (target, begin), self._link = self._link, None
        shown = "".join(self._line[begin:]).strip()
        if target.lower().startswith(_LINKS) and shown.rstrip("/") not in (
            target.rstrip("/"),
            target.partition(":")[2],
        ):
            self._put(f" <{target}>" if shown else f"<{target}>")

    def _write(self, html: str) -> None:
        text = unescape(html)
        if self._as_typed:
            first, *others = text.replace("\r\n", "\n").split("\n")
            self._put(first)
            for line in others:
                self._break(is_line=True)
                self._put(line)
            return
        words = _BLANKS.sub(" ", text).replace("\xa0", " ")
        is_at_blank = not self._line or self._line[-1].endswith(" ")
        self._put(words.lstrip(" ") if is_at_blank else words)

    def _put(self, text: str) -> None:
        if text:
            self._line.append(text)

    def _break(self, *, is_line: bool = False) -> None:
        """End a line; an empty one counts only if `is_line`."""
        line = "".join(self._line).rstrip()
        self._line.clear()
        if self._link is not None:
            self._link = (self._link[0], 0)
        if not line and not is_line:
            return
        if self._is_blank_due and line and self._lines and self._lines[-1]:
            self._lines.append("")
        self._is_blank_due = False
        self._lines.append(line)


def _attribute(rest: str, name: str) -> str:
    for found in _ATTRIBUTE.finditer(rest):
        if found[1].lower() == name:
            return unescape(found[2] or found[3] or found[4] or "")
    return ""
