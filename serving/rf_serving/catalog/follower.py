"""Follows the journal from a thread of its own: changes that other processes recorded appear, and no request waits for them."""

from threading import Event, Thread
from typing import Protocol

import structlog

from rf_platform.errors import RfError
from rf_serving.catalog.compaction.compactor import Compactable, Compactor
from rf_serving.threads import use_one_thread

POLL_SECONDS = 0.15
"""A change is searchable everywhere within this time, and what it takes to encode it."""


class Following(Compactable, Protocol):
    """A catalog that takes changes from the journal."""

    def catch_up(self) -> int:
        """Apply all changes of the journal, and return the number of the last one."""


class Follower:
    """Calls ``catch_up`` of a catalog again and again, and lets it be compacted; says once when the journal cannot be read."""

    def __init__(self, catalog: Following, compactor: Compactor | None) -> None:
        self._catalog, self._compactor = catalog, compactor
        self._log = structlog.get_logger("rf_serving").bind(bundle=catalog.bundle.name)
        self._ended = Event()
        self._thread = Thread(target=self._run, name="rf-follow", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and a compaction that is going on."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        use_one_thread()
        following = True
        while not self._ended.wait(POLL_SECONDS):
            try:
                self._catalog.catch_up()
                if self._compactor is not None:
                    self._compactor.step(self._catalog)
                if not following:
                    self._log.info("journal is back", sequence=self._catalog.snapshot.sequence)
                following = True
            except RfError as error:
                if following:
                    self._log.warning(
                        "journal cannot be read", error=str(error), remedy="changes appear when it is back"
                    )
                following = False
            except Exception:
                if following:
                    self._log.exception("following the journal failed")
                following = False
        if self._compactor is not None:
            self._compactor.close()
