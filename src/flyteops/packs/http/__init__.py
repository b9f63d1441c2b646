"""Http: ask web services on behalf of flows, and nothing that flows have no business with."""

from flyteops.packs.http.allowlist import AllowList
from flyteops.packs.http.pack import create

__all__ = ["AllowList", "create"]
