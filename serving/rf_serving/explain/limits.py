"""Limits on work and memory of explanations."""

REASONS = 5
"""Events and, beside them, features that are named of an item: features of items often weigh more than any single event."""
MAX_ITEMS = 50
"""Items of an answer that are explained, the first ones. An item costs the item tower one more item per feature; more than these
are of no use to a reader."""
MAX_EVENTS = 50
"""Latest events of the history that are considered, as many as the shipped definitions keep in the online store. An event costs
as much as a request of the same user."""
INTERACTIONS_AT_ONCE = 4096
"""Interactions encoded together: 80 histories of 50 events, or 20 of 200. Memory is bounded whatever the history's length."""
ITEMS_AT_ONCE = 8
"""Items with features left out together; between two such groups the time is looked at."""
