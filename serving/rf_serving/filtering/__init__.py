"""Which items may be returned: filters of requests, read, evaluated on the catalog and kept."""

from rf_serving.filtering.condition import Condition, ItemFilter
from rf_serving.filtering.eligibility import Eligibility, Eligible
from rf_serving.filtering.reader import FilterLimits, FilterReader

__all__ = ["Condition", "Eligibility", "Eligible", "FilterLimits", "FilterReader", "ItemFilter"]
