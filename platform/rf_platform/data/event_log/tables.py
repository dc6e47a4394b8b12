"""Database and tables of the event log.

With an SQLite registry it is a file of its own, ``events/log.db`` in the workspace: events arrive all the time, and writers of
one SQLite file wait for each other. With PostgreSQL its tables are in the registry's database.
"""

import secrets
from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
)

from rf_platform.errors import ConfigError
from rf_platform.registry.engine import (
    database_file,
    explained,
    make_directory,
    make_engine,
    parse_url,
    use_wal,
    writing,
)
from rf_platform.settings import Settings
from rf_platform.sql import sqlite_url

FORMAT = 1
WAIT_SECONDS = 20
"""Longest wait of a writer for others, and for a server that does not answer."""
_BIG = BigInteger().with_variant(Integer(), "sqlite")
metadata = MetaData()
EVENTS = Table(
    "rf_events",
    metadata,
    Column("sequence", _BIG, primary_key=True, autoincrement=True),
    Column("event_id", Text, nullable=False),
    Column("user_id", Text, nullable=False, index=True),
    Column("item_id", Text, nullable=False),
    Column("timestamp_us", BigInteger, nullable=False),
    Column("values_json", Text, nullable=False),
    # Numbers are never given twice, also if the newest rows are removed.
    sqlite_autoincrement=True,
)
IDS = Table(
    "rf_event_ids",
    metadata,
    Column("digest", LargeBinary(16), primary_key=True),
    sqlite_with_rowid=False,
)
"""Ids of all events there ever were; stays when events move to Parquet files."""
STATE = Table("rf_event_state", metadata, Column("name", Text, primary_key=True), Column("value", BigInteger))


def log_url(settings: Settings) -> str:
    """Return the SQLAlchemy URL of the event log."""
    url = settings.platform_registry_url
    if database_file(parse_url(url)) is None:
        return url
    return sqlite_url(settings.workspace.events / "log.db")


def open_database(url: str) -> Engine:
    """Open the log's database, creating its tables if need be.

    Raises:
        ConfigError: a newer version has written it.
        UnavailableError: it cannot be reached.
        CorruptError: the file is no database.
    """
    parsed = parse_url(url)
    engine = make_engine(parsed, keep=True, wait_seconds=WAIT_SECONDS)
    with explained(parsed):
        make_directory(parsed)
        if database_file(parsed) is not None:
            use_wal(engine)
        with writing(engine).begin() as connection:
            metadata.create_all(connection)
            there = _values(connection)
            first = _first_values(connection, there)
            if lacking := [{"name": n, "value": v} for n, v in first.items() if n not in there]:
                connection.execute(insert(STATE), lacking)  # all of a new log, or what an earlier version did not know
    return engine


def existing_database(url: str) -> Engine | None:
    """Open the log's database as it is, creating and upgrading nothing; None if there is none.

    Raises:
        ConfigError, UnavailableError, CorruptError: see :func:`open_database`.
    """
    parsed = parse_url(url)
    file = database_file(parsed)
    if file is not None and not file.exists():
        return None
    engine = make_engine(parsed, keep=True, wait_seconds=WAIT_SECONDS)
    with explained(parsed), engine.connect() as connection:
        if there := inspect(connection).has_table(STATE.name):
            _values(connection)
    if not there:
        engine.dispose()
        return None
    return engine


def _values(connection: Connection) -> dict[str, int]:
    """Return the state by name, having checked the format."""
    values = {row.name: row.value for row in connection.execute(select(STATE))}
    if (known := values.get("format", FORMAT)) > FORMAT:
        raise ConfigError(
            f"the event log {connection.engine.url.render_as_string()} has format {known}, and this version knows {FORMAT}: "
            f"a newer version wrote it; upgrade this installation"
        )
    return values


def _first_values(connection: Connection, there: Mapping[str, int]) -> dict[str, int]:
    """Return the state of a new log; of one that an earlier version made, what left SQL is taken from what is there."""
    zeros = dict.fromkeys(("applied", "replay_until", "reset", "epoch", "pending", "fault", "whole_at"), 0)
    oldest = connection.scalar(select(func.min(EVENTS.c.sequence)))
    trimmed = there.get("applied", 0) if oldest is None else int(oldest) - 1
    return {
        "format": FORMAT,
        **zeros,
        "loading": -1,
        "log": secrets.randbits(62),
        "trimmed": trimmed,
        "learned": there.get("applied", 0),
    }
