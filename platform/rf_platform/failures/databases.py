"""Failures of databases: SQLite, PostgreSQL, Redis, and SQLAlchemy and Feast over them."""

import re
from typing import Any

from rf_platform.errors import ConfigError, CorruptError, UnavailableError
from rf_platform.failures.failure import Failure
from rf_platform.failures.system import first_line, in_text

_UP = "check the URL, and that the database is up and writable"
_REDIS_REFUSES = re.compile(r"(MISCONF|NOREPLICAS|BUSY|DENIED)\b")
_SQLITE_DOWN = tuple(
    f"SQLITE_{name}"
    for name in ("CANTOPEN", "BUSY", "LOCKED", "FULL", "IOERR", "READONLY", "NOMEM", "PERM", "PROTOCOL", "NOLFS")
)


def unavailable(error: BaseException) -> Failure:
    """Return the failure of a database that cannot be used."""
    return in_text(first_line(error)) or Failure(kind=UnavailableError, what=first_line(error), remedy=_UP)


def of_sqlite_use(error: Any) -> Failure | None:
    """Return the failure of an SQLite file that cannot be used now; by SQLite's name for it, all others are wrong SQL."""
    name = getattr(error, "sqlite_errorname", None)  # extended ones begin with those of the table
    return unavailable(error) if name is None or name.startswith(_SQLITE_DOWN) else None


def of_sqlite(error: BaseException) -> Failure | None:
    """Return the failure of a file that is no SQLite database; constraints and wrong SQL are bugs."""
    if type(error).__name__ != "DatabaseError":
        return None
    remedy = "restore it from a copy, or move it away to start with an empty one"
    return Failure(kind=CorruptError, what=first_line(error), remedy=remedy)


def of_redis(error: BaseException) -> Failure | None:
    """Return the failure of a Redis that refuses for now, by the code of its answer; what it says of our command is a bug."""
    return unavailable(error) if _REDIS_REFUSES.match(str(error)) else None


def of_feast(error: Any) -> Failure:
    """Return the failure of a feature store that is not as Feast expects it."""
    return Failure(
        kind=ConfigError,
        what=f"Feast: {first_line(error)}",
        remedy="look at the definitions and feature_store.yaml, then run `rf features apply`",
    )


def of_alembic(error: Any) -> Failure:
    """Return the failure of a registry with tables that cannot be upgraded."""
    return Failure(
        kind=CorruptError, what=f"the registry cannot be upgraded: {first_line(error)}", remedy="restore it from a copy"
    )
