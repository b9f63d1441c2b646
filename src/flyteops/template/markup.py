"""Escaping for HTML."""

_ESCAPES = str.maketrans({"&": "&amp;", ">": "&gt;", "<": "&lt;", '"': "&quot;", "'": "&#39;"})


def escape(string: str) -> str:
    """Replace what has a meaning in HTML."""
    return string.translate(_ESCAPES)
