"""State of an event log: what the online store has of it, and which load of the store it is about."""

import secrets
from dataclasses import dataclass, field, fields
from enum import IntEnum

from sqlalchemy import Connection, select, update

from rf_platform.data.event_log.tables import STATE

_RANDOM_BITS = 31


class StoreFault(IntEnum):
    """Known fault of the online store that follows the log."""

    NONE = 0
    BEHIND = 1
    """It lost events that it had; they are being applied again."""
    UNLOADED = 2
    """It lost what was materialised: events have no ground to stand on until it is loaded again."""
    FOREIGN = 3
    """It follows another log, or more events than the log has."""


@dataclass(frozen=True, kw_only=True)
class LogState:
    """Position of the online store in the log."""

    applied: int
    """Events up to this number are in the online store."""
    replay_until: int
    """Of the ones after it, those up to this number may be there as well: a materialisation crossed their way."""
    reset: int
    """Number of materialisations; a new one may have come with new definitions."""
    loading: int = field(default=-1, compare=False)
    """A materialisation is going on: the events after this number may have to be applied again. -1: none is."""
    log: int = 0
    """Identity of the log, drawn when it was made."""
    epoch: int = 0
    """Last load of the online store, see :func:`next_epoch`; 0: none since the store has marks."""
    pending: int = field(default=0, compare=False)
    """Epoch of the materialisation that is going on, or that failed or was killed since; 0: none."""
    fault: StoreFault = StoreFault.NONE
    """What is known to be wrong with the online store."""
    trimmed: int = field(default=0, compare=False)
    """Highest number of the events that have left SQL; 0: none has."""
    whole_at: int = 0
    """A store that is behind is whole again when the events up to this number are applied."""


def next_epoch(state: LogState) -> int:
    """Return an epoch for the next load: its number above random bits, which differ where copies of a log went apart."""
    number = load_number(max(state.epoch, state.pending)) + 1
    return number << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)


def load_number(epoch: int) -> int:
    """Return the number of a load; later ones of the same log have greater numbers."""
    return epoch >> _RANDOM_BITS


def read_state(connection: Connection) -> LogState:
    """Return the state; what an earlier version did not know is as in a new log."""
    values = {row.name: row.value for row in connection.execute(select(STATE))}
    known = {each.name: values[each.name] for each in fields(LogState) if each.name in values}
    return LogState(**{**known, "fault": StoreFault(known.get("fault", 0))})


def write_state(connection: Connection, **values: int) -> None:
    """Change some of the values."""
    for name, value in values.items():
        connection.execute(update(STATE).where(STATE.c.name == name).values(value=int(value)))
