"""Where the event log lies in SQL.

With an SQLite registry it is a file of its own, ``events/log.db`` in the workspace: events arrive all the time, and writers of
one SQLite file wait for each other. With PostgreSQL its tables are in the registry's database.
"""

from sqlalchemy import BigInteger, Column, Engine, Integer, LargeBinary, MetaData, Table, Text, insert, select

from rf_platform.errors import ConfigError
from rf_platform.registry.engine import database_file, explained, make_directory, make_engine, parse_url, writing
from rf_platform.registry.schema import use_wal
from rf_platform.settings import Settings
from rf_platform.sql import sqlite_url

FORMAT = 1
WAIT_SECONDS = 20
"""How long a writer waits for others, and for a server that does not answer."""
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
            known = connection.scalar(select(STATE.c.value).where(STATE.c.name == "format"))
            if known is None:
                for name, value in (("format", FORMAT), ("applied", 0), ("redo_to", 0), ("reset", 0), ("loading", -1)):
                    connection.execute(insert(STATE).values(name=name, value=value))
            elif known > FORMAT:
                raise ConfigError(
                    f"the event log {parsed.render_as_string()} has format {known}, and this version knows {FORMAT}: a newer "
                    f"version wrote it; upgrade this installation"
                )
    return engine
