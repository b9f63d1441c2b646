"""Escaping for HTML."""

_ESCAPES = str.maketrans({"&": "&amp;", ">": "&gt;", "<": "&lt;", '"': "&quot;", "'": "&#39;"})


def escape(string: str) -> str:
    """Escape the special characters of HTML."""
    return string.translate(_ESCAPES)
