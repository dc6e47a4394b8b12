"""Counts of the event log, kept in memory while events come in: for lists without a user, and for items that go together."""

from rf_serving.event_counts.counts import Counted, EventCounts
from rf_serving.event_counts.counts_wanted import CountOf, FirstOf
from rf_serving.event_counts.follower import CountFollower, LogSource, log_source

__all__ = ["CountFollower", "CountOf", "Counted", "EventCounts", "FirstOf", "LogSource", "log_source"]
