"""The use cases: what can be done with Flyte, in terms of its nouns. No HTTP above it, no database below it."""

from flyteops.service.housekeeping import Housekeeping
from flyteops.service.seed import Seeds, utc_now
from flyteops.service.service import Resolution, Service
from flyteops.service.token import Order, Token, TokenBook

__all__ = ["Housekeeping", "Order", "Resolution", "Seeds", "Service", "Token", "TokenBook", "utc_now"]
