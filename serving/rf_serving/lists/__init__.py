"""Lists without a user, from the counts of events, and the merge of several sources of candidates into one order."""

from rf_serving.lists.definition import counts_of
from rf_serving.lists.lists import ListQuery, Lists
from rf_serving.lists.merge import Merged, merge

__all__ = ["ListQuery", "Lists", "Merged", "counts_of", "merge"]
