"""Search of the catalog: filters of requests, the items that pass them, and the index behind them."""

from rf_serving.search.condition import Condition, ItemFilter
from rf_serving.search.eligibility import Eligibility, Eligible
from rf_serving.search.filter_reader import FilterLimits, FilterReader

__all__ = ["Condition", "Eligibility", "Eligible", "FilterLimits", "FilterReader", "ItemFilter"]
