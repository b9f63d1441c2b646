"""The filters of edition 2, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from flyteops.template.filter import chat, flow, web
from flyteops.template.filter import text as first_edition
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
from flyteops.template.typed.filter.adapter import need_boolean, on_printed, on_text
from flyteops.template.typed.filter.operand import need_count, need_text
from flyteops.template.typed.filter.spec import TypedFilter
from flyteops.template.typed.filter.table import table

FILTERS: Mapping[str, TypedFilter] = MappingProxyType(
    {
        "abs": TypedFilter(number.absolute),
        "add": TypedFilter(text.add, 1, 1),
        "addslashes": TypedFilter(on_text("addslashes", first_edition.addslashes)),
        "b64decode": TypedFilter(encoding.b64decode),
        "b64encode": TypedFilter(encoding.b64encode),
        "capfirst": TypedFilter(on_text("capfirst", first_edition.capfirst)),
        "center": TypedFilter(on_text("center", first_edition.center, need_count), 1, 1),
        "cut": TypedFilter(on_text("cut", first_edition.cut, need_text), 1, 1),
        "date": TypedFilter(instant.date, 1, 2),
        "default": TypedFilter(text.default, 1, 1),
        "default_if_none": TypedFilter(text.default_if_none, 1, 1),
        "divisibleby": TypedFilter(number.divisibleby, 1, 1),
        "duration": TypedFilter(instant.duration),
        "endswith": TypedFilter(text.endswith, 1, 1),
        "escape": TypedFilter(on_printed(web.escape_html)),
        "escapejs": TypedFilter(on_printed(web.escapejs)),
        "extractMatch": pattern.EXTRACT_MATCH,
        "first": TypedFilter(sequence.first),
        "flatten": TypedFilter(sequence.flatten, 0, 1),
        "float": TypedFilter(number.as_float),
        "floatformat": TypedFilter(number.floatformat, 0, 1),
        "fromjson": TypedFilter(encoding.fromjson),
        "get_digit": TypedFilter(number.get_digit, 1, 1),
        "groupby": TypedFilter(selection.group_items, 1, 1),
        "hmac_sha256": TypedFilter(encoding.hmac_sha256, 1, 1),
        "index": TypedFilter(sequence.index, 1, 1),
        "integer": TypedFilter(number.as_integer),
        "iriencode": TypedFilter(on_printed(web.iriencode)),
        "items": TypedFilter(mapping.items),
        "join": TypedFilter(sequence.join, 0, 1),
        "key": TypedFilter(mapping.key, 1, 1),
        "keys": TypedFilter(mapping.keys),
        "kvp": TypedFilter(mapping.kvp),
        "last": TypedFilter(sequence.last),
        "length": TypedFilter(sequence.length),
        "length_is": TypedFilter(sequence.length_is, 1, 1),
        "linebreaks": TypedFilter(on_text("linebreaks", web.linebreaks)),
        "linebreaksbr": TypedFilter(on_text("linebreaksbr", web.linebreaksbr)),
        "linenumbers": TypedFilter(on_text("linenumbers", first_edition.linenumbers)),
        "ljust": TypedFilter(on_text("ljust", first_edition.ljust, need_count), 1, 1),
        "lower": TypedFilter(on_text("lower", first_edition.to_lower)),
        "make_list": TypedFilter(text.characters),
        "map": TypedFilter(selection.map_items, 1, 1),
        "match": pattern.MATCH,
        "matchesCron": TypedFilter(instant.matches_cron, 1, 1),
        "max": TypedFilter(number.most),
        "min": TypedFilter(number.least),
        "parse_date": TypedFilter(instant.parse_date, 0, 2),
        "phone2numeric": TypedFilter(on_text("phone2numeric", first_edition.phone2numeric)),
        "pluralize": TypedFilter(number.pluralize, 0, 1),
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
        "removetags": TypedFilter(on_text("removetags", web.removetags, need_text), 1, 1),
        "replace": TypedFilter(text.replace, 2, 2),
        "rjust": TypedFilter(on_text("rjust", first_edition.rjust, need_count), 1, 1),
        "round": TypedFilter(number.rounded, 0, 1),
        "safe": TypedFilter(text.same),
        "safecopypaste": TypedFilter(on_text("safecopypaste", flow.safe_copy_paste)),
        "select": selection.SELECT,
        "selectattr": selection.SELECT,
        "sha256": TypedFilter(encoding.sha256),
        "shellquote": TypedFilter(encoding.shellquote),
        "slice": TypedFilter(sequence.cut_out, 1, 2),
        "sort": TypedFilter(selection.sort_items, 0, 1),
        "split": TypedFilter(text.split, 0, 1),
        "startswith": TypedFilter(text.startswith, 1, 1),
        "string": TypedFilter(text.as_string),
        "stringformat": TypedFilter(text.stringformat, 1, 1),
        "striptags": TypedFilter(on_text("striptags", web.striptags)),
        "sum": TypedFilter(number.total),
        "table": TypedFilter(table, 0, 1),
        "time": TypedFilter(instant.date, 1, 2),
        "title": TypedFilter(on_text("title", first_edition.to_title)),
        "tojson": TypedFilter(encoding.tojson),
        "trim": TypedFilter(text.trim),
        "truncatechars": TypedFilter(
            on_text("truncatechars", first_edition.truncatechars, need_count), 1, 1
        ),
        "truncatechars_html": TypedFilter(
            on_text("truncatechars_html", web.truncatechars_html, need_count), 1, 1
        ),
        "truncatewords": TypedFilter(
            on_text("truncatewords", first_edition.truncatewords, need_count), 1, 1
        ),
        "truncatewords_html": TypedFilter(
            on_text("truncatewords_html", web.truncatewords_html, need_count), 1, 1
        ),
        "unique": TypedFilter(sequence.unique),
        "upper": TypedFilter(on_text("upper", first_edition.to_upper)),
        "urlencode": TypedFilter(on_printed(web.urlencode)),
        "urlize": TypedFilter(on_text("urlize", web.urlize, need_boolean), 0, 1),
        "urlizetrunc": TypedFilter(on_text("urlizetrunc", web.urlizetrunc, need_count), 1, 1),
        "values": TypedFilter(mapping.values),
        "wordcount": TypedFilter(text.wordcount),
        "wordwrap": TypedFilter(text.wordwrap, 1, 1),
        "yesno": TypedFilter(text.yesno, 0, 1),
    }
)
