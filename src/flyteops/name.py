"""Requirements for texts used as names: in a column, an index or a query of every store.

The bounds come from the narrowest index, PostgreSQL's: an entry has at most 2,704 bytes, and the
queue of an action is found by the name of its pack, the labels as JSON, and the command.
"""

from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b

import msgspec

from flyteops.errors import InputError, Problem

MAX_LENGTH = 500
"""The maximum length of a name, in bytes of UTF-8."""

MAX_LABELS = 1_500
"""The maximum length of a set of labels, written as compact JSON, in bytes of UTF-8."""

MAX_KEY_LENGTH = 2_000
"""The maximum length in bytes of a key that is stored unchanged.

Of a longer one, a digest is stored.
"""


def fault_of(name: str) -> str | None:
    """Return the reason why a text cannot be a name, None if it can."""
    if name.isascii() and len(name) <= MAX_LENGTH and "\0" not in name:
        return None  # the usual case, on the path of every request
    fault = fault_of_text(name)
    if fault is None and (size := len(name.encode())) > MAX_LENGTH:
        return f"must be at most {MAX_LENGTH} bytes long in UTF-8, and has {size}"
    return fault


def fault_of_text(text: str) -> str | None:
    """Return the reason why no store accepts a text, regardless of its length.

    None if there is none.
    """
    if "\0" in text:
        return "must not contain the character NUL (U+0000)"
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must not contain half of a surrogate pair"
    return None


def faults_of_labels(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the key of each faulty label with the fault.

    The key is "" if the labels together are too large.
    """
    has_fault = False
    for key, value in labels.items():
        fault = fault_of_text(key) or fault_of_text(value)
        if fault is not None:
            has_fault = True
            yield key, fault
    if not has_fault and (size := len(msgspec.json.encode(labels))) > MAX_LABELS:
        yield "", f"must be at most {MAX_LABELS} bytes long in all, as JSON, and have {size}"


def label_problems(path: str, labels: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the faults of labels at a path."""
    for key, fault in faults_of_labels(labels):
        yield Problem(f"{path}.{_shown(key)}" if key else path, fault)


def name_problems(names: Mapping[str, str]) -> Iterator[Problem]:
    """Yield the faults of names by their path."""
    for path, name in names.items():
        fault = fault_of(name)
        if fault is not None:
            yield Problem(path, fault)


def check(subject: str, problems: Iterable[Problem]) -> None:
    """Raise `InputError` with the problems, if there are any."""
    found = list(problems)
    if found:
        raise InputError(f"{subject} is not valid: {found[0]}.", problems=found)


def short_key(key: str) -> str:
    """Return a key that every index accepts.

    That is the key itself, or a digest if it is long or not plain text.
    """
    if fault_of_text(key) is None and len(key.encode()) <= MAX_KEY_LENGTH:
        return key
    return f"blake2b:{blake2b(key.encode(errors='surrogatepass'), digest_size=32).hexdigest()}"


def _shown(key: str) -> str:
    return key[:50].encode("ascii", "backslashreplace").decode().replace("\0", "\\0")
