"""The filters of edition 2, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from flyteops.template.filter import chat, flow, web
from flyteops.template.filter import text as first_edition
from flyteops.template.limit import Limits
from flyteops.template.runtime import Runtime
from flyteops.template.typed.environment import Environment
from flyteops.template.typed.filter import (
    encoding,
    instant,
    mapping,
    number,
    pattern,
    selection,
    sequence,
    text,
)
from flyteops.template.typed.filter.adapter import need_boolean, on_printed, on_text, on_url
from flyteops.template.typed.filter.operand import need_count, need_text
from flyteops.template.typed.filter.spec import FilterCall, TypedFilter
from flyteops.template.typed.filter.table import table
from flyteops.template.typed.value import Value


def _checked(call: Callable[..., Value], least: int, most: int) -> TypedFilter:
    """Return a filter whose constant arguments are checked when the template is compiled.

    All filters check their arguments first, and none refuses null.
    """

    def prepare(*arguments: Value, limits: Limits) -> FilterCall:
        call(None, *arguments, env=Environment(Runtime(limits=limits)))
        return call

    return TypedFilter(call, least, most, prepare)


FILTERS: Mapping[str, TypedFilter] = MappingProxyType(
    {
        "abs": TypedFilter(number.absolute),
        "add": _checked(text.add, 1, 1),
        "addslashes": TypedFilter(on_text("addslashes", first_edition.addslashes)),
        "b64decode": TypedFilter(encoding.b64decode),
        "b64encode": TypedFilter(encoding.b64encode),
        "capfirst": TypedFilter(on_text("capfirst", first_edition.capfirst)),
        "center": _checked(on_text("center", first_edition.center, need_count), 1, 1),
        "cut": _checked(on_text("cut", first_edition.cut, need_text), 1, 1),
        "date": _checked(instant.date, 1, 2),
        "default": _checked(text.default, 1, 1),
        "default_if_none": _checked(text.default_if_none, 1, 1),
        "divisibleby": _checked(number.divisibleby, 1, 1),
        "duration": TypedFilter(instant.duration),
        "endswith": _checked(text.endswith, 1, 1),
        "escape": TypedFilter(on_printed(web.escape_html)),
        "escapejs": TypedFilter(on_printed(web.escapejs)),
        "extractMatch": pattern.EXTRACT_MATCH,
        "first": TypedFilter(sequence.first),
        "flatten": _checked(sequence.flatten, 0, 1),
        "float": TypedFilter(number.as_float),
        "floatformat": _checked(number.floatformat, 0, 1),
        "fromjson": TypedFilter(encoding.fromjson),
        "get_digit": _checked(number.get_digit, 1, 1),
        "groupby": _checked(selection.group_items, 1, 1),
        "hmac_sha256": _checked(encoding.hmac_sha256, 1, 1),
        "index": _checked(sequence.index, 1, 1),
        "integer": TypedFilter(number.as_integer),
        "iriencode": TypedFilter(on_url(web.iriencode)),
        "items": TypedFilter(mapping.items),
        "join": _checked(sequence.join, 0, 1),
        "key": _checked(mapping.key, 1, 1),
        "keys": TypedFilter(mapping.keys),
        "kvp": TypedFilter(mapping.kvp),
        "last": TypedFilter(sequence.last),
        "length": TypedFilter(sequence.length),
        "length_is": _checked(sequence.length_is, 1, 1),
        "linebreaks": TypedFilter(on_text("linebreaks", web.linebreaks)),
        "linebreaksbr": TypedFilter(on_text("linebreaksbr", web.linebreaksbr)),
        "linenumbers": TypedFilter(on_text("linenumbers", first_edition.linenumbers)),
        "ljust": _checked(on_text("ljust", first_edition.ljust, need_count), 1, 1),
        "lower": TypedFilter(on_text("lower", first_edition.to_lower)),
        "make_list": TypedFilter(text.characters),
        "map": _checked(selection.map_items, 1, 1),
        "match": pattern.MATCH,
        "matchesCron": _checked(instant.matches_cron, 1, 1),
        "max": TypedFilter(number.most),
        "min": TypedFilter(number.least),
        "parse_date": _checked(instant.parse_date, 0, 2),
        "phone2numeric": TypedFilter(on_text("phone2numeric", first_edition.phone2numeric)),
        "pluralize": _checked(number.pluralize, 0, 1),
        "quote_md": TypedFilter(on_printed(chat.quote_md)),
        "quote_slack": TypedFilter(on_printed(chat.quote_slack)),
        "random": TypedFilter(sequence.random_item),
        "regex_findall": pattern.REGEX_FINDALL,
        "regex_replace": pattern.REGEX_REPLACE,
        "reject": selection.REJECT,
        "rejectattr": selection.REJECT,
        "removedupwhitespaces": TypedFilter(
            on_text("removedupwhitespaces", flow.remove_dup_whitespaces)
        ),
        "removetags": _checked(on_text("removetags", web.removetags, need_text), 1, 1),
        "replace": _checked(text.replace, 2, 2),
        "rjust": _checked(on_text("rjust", first_edition.rjust, need_count), 1, 1),
        "round": _checked(number.rounded, 0, 1),
        "safe": TypedFilter(text.same),
        "safecopypaste": TypedFilter(on_text("safecopypaste", flow.safe_copy_paste)),
        "select": selection.SELECT,
        "selectattr": selection.SELECT,
        "sha256": TypedFilter(encoding.sha256),
        "shellquote": TypedFilter(encoding.shellquote),
        "slice": _checked(sequence.cut_out, 1, 2),
        "sort": _checked(selection.sort_items, 0, 1),
        "split": _checked(text.split, 0, 1),
        "startswith": _checked(text.startswith, 1, 1),
        "string": TypedFilter(text.as_string),
        "stringformat": _checked(text.stringformat, 1, 1),
        "striptags": TypedFilter(on_text("striptags", web.striptags, mark="<")),
        "sum": TypedFilter(number.total),
        "table": _checked(table, 0, 1),
        "time": _checked(instant.date, 1, 2),
        "title": TypedFilter(on_text("title", first_edition.to_title)),
        "tojson": TypedFilter(encoding.tojson),
        "trim": TypedFilter(text.trim),
        "truncatechars": _checked(
            on_text("truncatechars", first_edition.truncatechars, need_count), 1, 1
        ),
        "truncatechars_html": _checked(
            on_text("truncatechars_html", web.truncatechars_html, need_count), 1, 1
        ),
        "truncatewords": _checked(
            on_text("truncatewords", first_edition.truncatewords, need_count), 1, 1
        ),
        "truncatewords_html": _checked(
            on_text("truncatewords_html", web.truncatewords_html, need_count), 1, 1
        ),
        "unique": TypedFilter(sequence.unique),
        "upper": TypedFilter(on_text("upper", first_edition.to_upper)),
        "urlencode": TypedFilter(on_url(web.urlencode)),
        "urlize": _checked(on_text("urlize", web.urlize, need_boolean), 0, 1),
        "urlizetrunc": _checked(on_text("urlizetrunc", web.urlizetrunc, need_count), 1, 1),
        "values": TypedFilter(mapping.values),
        "wordcount": TypedFilter(text.wordcount),
        "wordwrap": _checked(text.wordwrap, 1, 1),
        "yesno": _checked(text.yesno, 0, 1),
    }
)
