"""Events of many callers share one transaction."""

from rf_platform.data.event_log.event import Event
from rf_platform.data.event_log.log import EventLog
from rf_platform.registry.group_commit import GroupedWrites

_PAUSE = 0.25
"""Of the time of a transaction, before the next one."""
MOST = 5_000
"""Events of one transaction, give or take a batch: they hold up the writers of other processes."""


class GroupCommit(GroupedWrites[Event, bool]):
    """Records events; the result says of each whether it is new."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(log.append, most=MOST, name="rf-events", pause=_PAUSE)
