"""Database of a registry, SQLite by default, PostgreSQL by URL, and the revision of its tables."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from rf_platform.errors import ConfigError, CorruptError, UnavailableError
from rf_platform.failures import failure_of
from rf_platform.failures.system import lacking
from rf_platform.registry.models import VERSION_TABLE

WAIT_SECONDS = 30
"""Longest wait of a writer for another one."""
CONNECT_SECONDS = 5
"""Longest wait for a PostgreSQL server to answer."""
_WRITE = "rf_write"
_WAIT = "rf_wait_seconds"
_LOCK_KEY = 0x72665F7267  # any constant: all writers of a PostgreSQL database share one advisory lock


def parse_url(url: str) -> URL:
    """Return the URL with its driver filled in: ``postgres://`` and ``postgresql://`` mean psycopg 3.

    Raises:
        ConfigError: the URL is malformed, names another engine, or an SQLite database that is not a file.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):  # the latter quotes what it takes for the port
        raise ConfigError(
            "the registry URL (RF_REGISTRY_URL) cannot be parsed; write sqlite:///path/registry.db or "
            "postgresql://user:password@host:5432/database"
        ) from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        if parsed.database and parsed.database != ":memory:" and not parsed.database.startswith("file:"):
            return parsed
        raise ConfigError(
            f"the registry URL {parsed} names a database in memory, but processes share the registry; name a file: "
            f"sqlite:////absolute/path/registry.db"
        )
    raise ConfigError(
        f"the registry URL {parsed.render_as_string()} names engine '{parsed.drivername}', but the registry runs on "
        f"sqlite:///FILE or postgresql://HOST/DATABASE (RF_REGISTRY_URL)"
    )


def database_file(url: URL) -> Path | None:
    """Return the file of an SQLite database, or None for a server."""
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def make_directory(url: URL) -> None:
    """Make the directory of an SQLite database's file."""
    if (file := database_file(url)) is not None:
        file.parent.mkdir(parents=True, exist_ok=True)


def make_engine(url: URL, *, keep: bool = False, wait_seconds: int = WAIT_SECONDS) -> Engine:
    """Return an engine that begins transactions as the registry needs them.

    A writing transaction (:func:`writing`) waits for all others before its first statement, so that it may read, decide
    and write without a race.

    Args:
        url: where to connect.
        keep: keep connections for the next transaction. Without, they are opened when needed and closed after use, and
            nothing is shared across forks: the registry is used a few times an hour.
        wait_seconds: how long a writer waits for another one.
    """
    pool: dict[str, Any] = {"poolclass": QueuePool, "pool_pre_ping": True} if keep else {"poolclass": NullPool}
    if url.get_backend_name() == "sqlite":
        engine = create_engine(url, connect_args={"timeout": wait_seconds}, **pool)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",  # a stricter default would show a writer the state from before it got the lock
        connect_args={"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1000 * wait_seconds},
        **pool,
    )
    event.listen(engine, "begin", _begin_postgres)
    return engine.execution_options(**{_WAIT: wait_seconds})


def writing(engine: Engine) -> Engine:
    """Return the engine with transactions that exclude all other writers."""
    return engine.execution_options(**{_WRITE: True})


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn what the database driver raises into one sentence that names the registry.

    Raises:
        UnavailableError: the database cannot be reached, opened or locked.
        CorruptError: the file is no database, or a damaged one.
    """
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        named, failure = f"the registry {url.render_as_string()}", failure_of(error)
        if failure is None:  # constraints and wrong SQL are bugs
            raise
        if failure.kind is CorruptError:
            raise CorruptError(
                f"{named} is damaged: {failure.what}; restore it from a copy, or move it away to start with an empty one"
            ) from error
        file = database_file(url)
        if file is not None:
            failure = lacking(file.parent) or failure
        reason = failure.reason(str(file or "the database"))
        remedy = failure.remedy if failure.machine else "check RF_REGISTRY_URL and that the database is up and writable"
        raise UnavailableError(f"{named} cannot be used: {reason}; {remedy}") from error


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver must not begin transactions by itself
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get(_WRITE)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _begin_postgres(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(_WRITE):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = on")  # what is acknowledged is on disk
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{options[_WAIT]}s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_KEY})")


State = Literal["empty", "older", "current", "newer"]


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration for the migrations in this package, to run on an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@cache
def _revisions() -> tuple[str, ...]:
    """All revisions this version knows, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def revision(connection: Connection) -> str | None:
    """Return the revision of the database's tables, or None if it has none of them."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def state(current: str | None) -> State:
    """Compare a database's revision with those that this version knows."""
    if current is None:
        return "empty"
    if current not in _revisions():
        return "newer"
    return "current" if current == _revisions()[0] else "older"


def upgrade(engine: Engine) -> None:
    """Create or upgrade the tables; processes that start at once wait for one another, and the first one does it.

    Raises:
        ConfigError: the tables are of a newer version than this one.
    """
    with engine.connect() as connection:
        if _is_current(connection):
            return
    if engine.dialect.name == "sqlite":
        use_wal(engine)
    with writing(engine).begin() as connection:
        if not _is_current(connection):
            command.upgrade(alembic_config(connection), "head")


def _is_current(connection: Connection) -> bool:
    current = revision(connection)
    if state(current) == "newer":
        raise ConfigError(
            f"the registry {connection.engine.url.render_as_string()} has schema revision {current}, which this version "
            f"does not know (its newest is {_revisions()[0]}): a newer version wrote it; upgrade this installation, or "
            f"point RF_REGISTRY_URL at another database"
        )
    return state(current) == "current"


def use_wal(engine: Engine) -> None:
    """Switch an SQLite file to write-ahead logging, so that readers and a writer work at once; the file remembers it."""
    deadline = time.monotonic() + WAIT_SECONDS
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        while True:
            try:
                cursor.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:  # SQLite does not wait here, whatever the busy timeout
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise OperationalError("PRAGMA journal_mode = WAL", None, error) from error
                time.sleep(0.02)
