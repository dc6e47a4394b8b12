"""``rf features materialize``, run by a server after its online store lost what was materialised."""

import os
import subprocess
import sys
from time import monotonic

import structlog

from rf_platform.data.replacing import reading_tables
from rf_platform.errors import UnavailableError
from rf_platform.failures import summary
from rf_platform.interrupts import LIFELINE
from rf_platform.locks import locked
from rf_platform.settings import Settings

_COMMAND = (
    "import os; os.nice({niceness}); from rf_platform.interrupts import end_with_parent; end_with_parent(); "
    "from rf_platform.cli import main; main()"
)
_NICENESS = 5
"""Below that of answers; not much below, since all answers are degraded until it has ended."""
_PAUSE, _LONGEST_PAUSE = 30.0, 600.0
"""Seconds between two attempts; doubled after each that failed."""
_SETTLE_SECONDS = 5.0


class StoreReload:
    """Materialises in a process of its own, with its own interpreter lock and a low priority. For one thread."""

    def __init__(self, settings: Settings) -> None:
        """Take the workspace, and do nothing yet."""
        self._settings = settings
        self._child: subprocess.Popen[bytes] | None = None
        self._said = settings.workspace.feast / "materialize.log"
        self._pause, self._not_before, self._began = _PAUSE, 0.0, 0.0
        self._log = structlog.get_logger("rf_serving")

    def start(self) -> None:
        """Start it, unless it runs or has just failed; returns at once, so call it as long as the store lacks its load."""
        if self._child is None and monotonic() >= self._not_before and not self.elsewhere:
            self._start()

    def look(self) -> None:
        """Take note of its end."""
        if self._child is not None and self._child.poll() is not None:
            self._ended(self._child, monotonic())

    @property
    def elsewhere(self) -> bool:
        """Whether a materialisation of the workspace, or an import, is going on."""
        tables = self._settings.workspace.tables
        try:
            with reading_tables(tables), locked(tables, "in use"):
                return False
        except UnavailableError:
            return True

    def close(self) -> None:
        """End it if it still works; what it has loaded is loaded again by the next one."""
        if self._child is not None:
            self._child.kill()
            self._forget_child(self._child)

    def _forget_child(self, child: subprocess.Popen[bytes]) -> None:
        child.wait()
        assert child.stdin is not None
        child.stdin.close()
        self._child = None

    def _start(self) -> None:
        self._began = monotonic()
        try:
            self._said.parent.mkdir(parents=True, exist_ok=True)  # not there yet if neither store of Feast is a file
            with self._said.open("wb") as output:
                self._child = subprocess.Popen(
                    [sys.executable, "-c", _COMMAND.format(niceness=_NICENESS), "features", "materialize"],
                    stdin=subprocess.PIPE,  # its lifeline
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._environment(),
                )
        except OSError as error:
            self._failed(self._began, summary(error))
            return
        self._log.info("online store is loaded again", command="rf features materialize")

    def _ended(self, child: subprocess.Popen[bytes], now: float) -> None:
        self._forget_child(child)
        seconds = round(now - self._began, 1)
        if child.returncode == 0:
            self._log.info("online store was loaded again", seconds=seconds)
            self._pause, self._not_before = _PAUSE, now + _SETTLE_SECONDS
        else:
            said = self._said.read_text(errors="replace").strip().splitlines()
            self._failed(now, said[-1] if said else f"exit code {child.returncode}")

    def _failed(self, now: float, error: str) -> None:
        self._log.error(
            "online store cannot be loaded again",
            error=error,
            remedy="run `rf features materialize`",
            again_in_seconds=self._pause,
        )
        self._not_before, self._pause = now + self._pause, min(2 * self._pause, _LONGEST_PAUSE)

    def _environment(self) -> dict[str, str]:
        """Return variables that give the command the settings of this process."""
        given = {f"RF_{name.upper()}": value for name, value in self._settings}
        kept = {name: value for name, value in os.environ.items() if name not in given}
        given_here = {name: str(value) for name, value in given.items() if value is not None}
        return {**kept, **given_here, LIFELINE: "1"}
