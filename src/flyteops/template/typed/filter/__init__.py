"""The filters, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from flyteops.template.typed.filter.spec import TypedFilter

FILTERS: Mapping[str, TypedFilter] = MappingProxyType({})
