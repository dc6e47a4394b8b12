"""Bring a registry's tables to the revision this version of the code was written for."""

import sqlite3
import time
from functools import cache
from pathlib import Path
from typing import Literal

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from rf_platform.errors import ConfigError
from rf_platform.registry.engine import WAIT_SECONDS, writing
from rf_platform.registry.models import VERSION_TABLE

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
    """Say how a database's revision compares with what this version knows."""
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
