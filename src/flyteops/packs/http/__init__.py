"""Http: requests to web services for flows, limited to the hosts that flows may reach."""

from flyteops.packs.http.allowlist import AllowList
from flyteops.packs.http.pack import create

__all__ = ["AllowList", "create"]
