"""Media types: the format of a body, and the one that a client asks for."""

from flyteops.web.api.link import Headers

JSON = b"application/json; charset=utf-8"
YAML = b"application/x-yaml; charset=utf-8"
YAML_TYPES = (b"application/x-yaml", b"application/yaml", b"text/yaml")


def is_form(headers: Headers) -> bool:
    """Return whether a body is declared as a multipart form."""
    return headers.get(b"content-type", b"").lstrip()[:10].lower() == b"multipart/"


def is_yaml(headers: Headers) -> bool:
    """Return whether a body is declared as YAML."""
    content_type = headers.get(b"content-type", b"")
    return (
        b"yaml" in content_type.lower()
        and content_type.partition(b";")[0].strip().lower() in YAML_TYPES
    )


def wants_yaml(accept: bytes) -> bool:
    """Return whether a client asks for YAML, and not at least as much for JSON before it."""
    if b"yaml" not in accept.lower():
        return False
    best: tuple[float, bool] = (0.0, False)
    for entry in accept.lower().split(b","):
        kind, *parameters = (part.strip() for part in entry.split(b";"))
        is_yaml = kind in YAML_TYPES
        if is_yaml or kind == b"application/json":
            best = max(best, (_quality(parameters), is_yaml), key=lambda pair: pair[0])
    return best[1]


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
