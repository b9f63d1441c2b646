"""The keys that encrypt secrets, read from the configured places."""

from pathlib import Path

from flyteops.settings import Settings
from flyteops.settings.text import parse_keys


def key_faults(settings: Settings) -> list[str]:
    """Return the faults of the key file, never its contents."""
    try:
        keys_of(settings)
    except OSError as error:
        return [f"{settings.secrets_key_file!r} cannot be read: {error.strerror}"]
    except ValueError as error:
        return [f"{settings.secrets_key_file!r} {error}"]
    return []


def keys_of(settings: Settings) -> tuple[str, ...]:
    """Return the keys, the newest first; raise `OSError` or `ValueError`."""
    if settings.secrets_key_file is None:
        return settings.secrets_keys
    return (
        *settings.secrets_keys,
        *parse_keys(Path(settings.secrets_key_file).read_text("ascii", "replace")),
    )
