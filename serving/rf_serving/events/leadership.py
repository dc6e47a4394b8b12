"""Leader election of the event consumer, among all processes that share a log."""

from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from sqlalchemy import Connection, Engine, text

from rf_platform.locks import lock

_LOCK_KEY = 0x72665F6576  # any constant: all appliers of a PostgreSQL database share one advisory lock


class Leadership(Protocol):
    """Lease of the event consumer: a lock that ends with its process."""

    @property
    def lease_grace_seconds(self) -> float:
        """Longest time that a process may go on applying after it lost the lease."""

    def held(self) -> bool:
        """Return whether this process leads, and take the lease if it is free."""

    def release(self) -> None:
        """Give up the lease."""


class FileLeadership:
    """A lock on a file: for an event log in SQLite, which lives on one host. It is lost only with the process."""

    lease_grace_seconds = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[Any] | None = None

    def held(self) -> bool:
        """See :class:`Leadership`."""
        if self._file is not None:
            return True
        file = self._path.open("w")
        if lock(file, wait=False):
            self._file = file
        else:
            file.close()
        return self._file is not None

    def release(self) -> None:
        """See :class:`Leadership`."""
        if self._file is not None:
            self._file.close()
            self._file = None


class AdvisoryLeadership:
    """An advisory lock of PostgreSQL that ends with its connection: the holder detects a broken one at the next check."""

    lease_grace_seconds = 10.0  # until the next check, and for a batch with writes that wait for the store

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def held(self) -> bool:
        """See :class:`Leadership`; raises SQLAlchemy's errors if the database cannot be reached."""
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                self._connection.commit()
                return True
            connection = self._engine.connect()
            if connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK_KEY})")):
                connection.commit()
                self._connection = connection
                return True
            connection.close()
        except Exception:
            self.release()
            raise
        return False

    def release(self) -> None:
        """See :class:`Leadership`."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):  # it may be what is broken
                connection.invalidate()  # a pooled connection would keep the lock
                connection.close()


def leadership_of(engine: Engine, directory: Path) -> Leadership:
    """Return the lock for a log's database."""
    if engine.dialect.name == "sqlite":
        directory.mkdir(parents=True, exist_ok=True)
        return FileLeadership(directory / "applier.lock")
    return AdvisoryLeadership(engine)
