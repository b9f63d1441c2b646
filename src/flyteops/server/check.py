"""Checks of the settings before the server starts: files that are missing or do not fit."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import structs

from flyteops.errors import Problem, SettingsError
from flyteops.server.keys import key_faults
from flyteops.service import utc_now
from flyteops.settings import Settings, option_of, table
from flyteops.storage import is_postgres, is_shared, shown, store_faults


def checked_settings(environ: Mapping[str, str], overrides: Mapping[str, str]) -> Settings:
    """Return the settings.

    Raise `SettingsError` with every fault, also of the files that they name.
    """
    settings, problems = Settings.read(environ, overrides)
    # An unreadable setting has its default now, which was not asked for: no faults of it are
    # reported.
    reported = {problem.path for problem in problems}
    options = {
        setting.variable: option_of(field) for field, setting in table() if field in overrides
    }
    faults = (_tls_faults, _auth_faults, _log_faults, _store_faults, _key_faults, _worker_faults)
    for problem in [problem for find in faults for problem in find(settings)]:
        name = options.get(problem.path, problem.path)
        if name not in reported:
            problems.append(structs.replace(problem, path=name))
    if problems:
        raise SettingsError(problems=problems)
    return settings


def _store_faults(settings: Settings) -> Iterator[Problem]:
    name = "FLYTE_STORE" if settings.mongodb_host is None else "FLYTE_MGO_HOST"
    for fault in store_faults(settings.store):
        yield Problem(name, f"{shown(settings.store)!r} {fault}")
    if settings.store_direct_url is not None and not is_postgres(settings.store):
        fault = f"is for PostgreSQL only, but the store is {shown(settings.store)!r}; leave it out"
        yield Problem("FLYTE_STORE_DIRECT_URL", fault)
    elif settings.store_direct_url is not None:
        for fault in store_faults(settings.store_direct_url):
            yield Problem("FLYTE_STORE_DIRECT_URL", f"{shown(settings.store_direct_url)!r} {fault}")


def _worker_faults(settings: Settings) -> Iterator[Problem]:
    if settings.workers > 1 and not is_shared(settings.store):
        fault = (
            f"{settings.workers} server processes cannot share {shown(settings.store)!r}, because"
            " SQLite is for one server process, and more of them would gain little"
            " (docs/decisions/0051-sqlite-keeps-one-process.md)"
        )
        yield Problem(
            "FLYTE_WORKERS",
            f"{fault}; name a PostgreSQL or MongoDB database by FLYTE_STORE, or leave this at 1",
        )


def _tls_faults(settings: Settings) -> Iterator[Problem]:
    if settings.tls_cert_path is None or settings.tls_key_path is None:
        return
    # Takes long to load, and few need it.
    from flyteops.server.tls import CertificateFiles, certificate_faults  # noqa: PLC0415

    yield from certificate_faults(
        CertificateFiles(settings.tls_cert_path, settings.tls_key_path), utc_now()
    )


def _key_faults(settings: Settings) -> Iterator[Problem]:
    for fault in key_faults(settings):
        yield Problem("FLYTE_SECRETS_KEY_FILE", fault)


def _auth_faults(settings: Settings) -> Iterator[Problem]:
    if settings.auth_policy_path is not None:
        # Takes long to load, and not all need it.
        from flyteops.server.auth import policy_faults  # noqa: PLC0415

        yield from policy_faults(settings.auth_policy_path)


def _log_faults(settings: Settings) -> Iterator[Problem]:
    if settings.log_file is None:
        return
    # Opening it would be the better test, but not for a pipe that has a reader.
    path = Path(settings.log_file)
    target = path if path.exists() else path.parent
    if path.is_dir() or not target.exists() or not os.access(target, os.W_OK):
        yield Problem(
            "LOGFILE",
            f"{settings.log_file!r} cannot be written; give a file in a directory that exists",
        )
