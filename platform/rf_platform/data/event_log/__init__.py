"""The event log: interactions recorded after the import, durable and in order, read by materialisation and dataset builds.

New events are rows of an SQL database (:class:`EventLog`); from time to time they are moved into Parquet files
(:mod:`~rf_platform.data.event_log.parts`). :func:`log_relation` puts them together with the imported interactions.
"""

from rf_platform.data.event_log.event import Event, LoggedEvent
from rf_platform.data.event_log.following import has_all_after, read_after
from rf_platform.data.event_log.group_commit import GroupCommit
from rf_platform.data.event_log.log import EventLog
from rf_platform.data.event_log.parts import EventParts
from rf_platform.data.event_log.reading import has_clock, log_relation
from rf_platform.data.event_log.seal import seal
from rf_platform.data.event_log.state import LogState, StoreFault, load_number
from rf_platform.data.event_log.window import EventWindow

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
