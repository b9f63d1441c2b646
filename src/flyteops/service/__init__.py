"""The use cases: the operations of Flyte, in terms of its nouns.

No HTTP above, no database below.
"""

from flyteops.service.aside import HealthProblem
from flyteops.service.changelog import ChangeFilter
from flyteops.service.housekeeping import Housekeeping
from flyteops.service.seed import Seeds, steady_seconds, utc_now
from flyteops.service.service import Service
from flyteops.service.token import Order, Token, TokenBook
from flyteops.service.verdict import Resolution

__all__ = [
    "ChangeFilter",
    "HealthProblem",
    "Housekeeping",
    "Order",
    "Resolution",
    "Seeds",
    "Service",
    "Token",
    "TokenBook",
    "steady_seconds",
    "utc_now",
]
