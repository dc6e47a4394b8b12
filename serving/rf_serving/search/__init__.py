"""Which items may be returned: filters of requests, read, evaluated on the catalog and kept."""

from rf_serving.search.condition import Condition, ItemFilter
from rf_serving.search.eligibility import Eligibility, Eligible
from rf_serving.search.filter_reader import FilterLimits, FilterReader

__all__ = ["Condition", "Eligibility", "Eligible", "FilterLimits", "FilterReader", "ItemFilter"]
