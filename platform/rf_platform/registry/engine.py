"""Connect to the registry's database: SQLite by default, PostgreSQL by URL."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool, QueuePool

from rf_platform.errors import ConfigError, CorruptError, UnavailableError
from rf_platform.failures import failure_of
from rf_platform.failures.system import lacking

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
    except ArgumentError:
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
