"""Move events from SQL into Parquet files."""

from rf_platform.data.event_log.log import EventLog
from rf_platform.data.event_log.parts import EventParts
from rf_platform.data.event_log.tables import log_url
from rf_platform.registry.engine import database_file, parse_url
from rf_platform.settings import Settings

_AT_ONCE = 100_000


def seal(settings: Settings) -> EventParts:
    """Bring all events that are recorded by now into the files of the workspace, and return these.

    Events leave SQL when they are in a file that is on disk and in the online store. Killed at any moment, the next call goes on:
    what counts is the manifest's last number.

    Raises:
        UnavailableError: the log cannot be read.
        CorruptError: the manifest is damaged.
    """
    parts = EventParts(settings.workspace.events)
    if (log := _log(settings)) is None:
        return parts
    try:
        with parts.writing():
            sealed, head = parts.sealed, log.head()
            while sealed < head and (events := log.read(sealed, _AT_ONCE)):
                parts.add(events)
                sealed = events[-1].sequence
            log.trim(sealed)
    finally:
        log.close()
    return parts


def _log(settings: Settings) -> EventLog | None:
    """Return the log, or None where nothing was ever recorded."""
    file = database_file(parse_url(log_url(settings)))
    return None if file is not None and not file.exists() else EventLog.open(settings)
