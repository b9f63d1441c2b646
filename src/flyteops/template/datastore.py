"""The datastore items that a template names. Pure."""

from flyteops.template.lexer import NAME, STRING, SYMBOL, Token, lex

_NO_TOKEN: Token = (SYMBOL, "", 0)

_READERS = ("datastore", "template")
"""The names of functions that may read items."""


def datastore_keys(source: str) -> frozenset[str] | None:
    """Return the keys of the items that a template may read.

    None if they depend on values, as in `datastore(Event.Payload.room)`, or if it compiles a
    template from a value. `source` must be a template that compiles.
    """
    if not any(name in source for name in _READERS):
        return frozenset()
    tokens = [_NO_TOKEN, *lex(source), _NO_TOKEN, _NO_TOKEN, _NO_TOKEN]
    keys: set[str] = set()
    for index, token in enumerate(tokens):
        if token[0] != NAME or token[1] not in _READERS:
            continue
        if tokens[index - 1][:2] == (SYMBOL, "."):
            continue
        opening, key, closing = tokens[index + 1 : index + 4]
        is_constant = opening[1] == "(" and key[0] == STRING and closing[1] == ")"
        if token[1] == "template" or not is_constant:
            return None
        keys.add(key[1])
    return frozenset(keys)
