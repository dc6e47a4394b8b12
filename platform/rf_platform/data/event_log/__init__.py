"""The event log: interactions recorded after the import, durable and in order, read by materialisation and dataset builds.

New events are rows of an SQL database (:class:`EventLog`); from time to time they are moved into Parquet files
(:mod:`~rf_platform.data.event_log.parts`). :func:`log_relation` puts them together with the imported interactions.
"""

from rf_platform.data.event_log.event import Event, LoggedEvent
from rf_platform.data.event_log.log import EventLog, GroupCommit, LogState, StoreFault, load_number, seal
from rf_platform.data.event_log.parts import EventParts
from rf_platform.data.event_log.reading import EventWindow, has_all_after, has_clock, log_relation, read_after

__all__ = [
    "Event",
    "EventLog",
    "EventParts",
    "EventWindow",
    "GroupCommit",
    "LogState",
    "LoggedEvent",
    "StoreFault",
    "has_all_after",
    "has_clock",
    "load_number",
    "log_relation",
    "read_after",
    "seal",
]
