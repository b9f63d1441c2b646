"""The use cases: the operations of Flyte, in terms of its nouns.

No HTTP above, no database below. Names are imported on first use: the command line reads entries of
the audit log without what a server needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flyteops.engine.completion import Resolution
    from flyteops.service.aside import HealthProblem
    from flyteops.service.auditlog.log import AuditFilter
    from flyteops.service.maintenance import MaintenanceSettings
    from flyteops.service.seed import SeedSource, steady_seconds, utc_now
    from flyteops.service.service import Service
    from flyteops.service.token import Token, TokenRegistry, TokenRequest

__all__ = [
    "AuditFilter",
    "HealthProblem",
    "MaintenanceSettings",
    "Resolution",
    "SeedSource",
    "Service",
    "Token",
    "TokenRegistry",
    "TokenRequest",
    "steady_seconds",
    "utc_now",
]

_MODULES = {
    "AuditFilter": "auditlog.log",
    "HealthProblem": "aside",
    "MaintenanceSettings": "maintenance",
    "TokenRequest": "token",
    "Resolution": "completion",
    "SeedSource": "seed",
    "Service": "service",
    "Token": "token",
    "TokenRegistry": "token",
    "steady_seconds": "seed",
    "utc_now": "seed",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
