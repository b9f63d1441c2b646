"""The use cases: what can be done with Flyte, in terms of its nouns. No HTTP above it, no database below it."""

from flyteops.service.housekeeping import Housekeeping
from flyteops.service.seed import Seeds, utc_now
from flyteops.service.service import Resolution, Service

__all__ = ["Housekeeping", "Resolution", "Seeds", "Service", "utc_now"]
