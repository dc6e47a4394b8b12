"""The audit log: who changed what, when and from where; lines of JSON that are only ever added to."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rf_platform.failures import writing

_TAIL_BYTES = 256 * 1024


class AuditLog:
    """Log of the changes that the console made or refused; safe from several threads and processes.

    Args:
        path: the file; it is made when the first line is written, for its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(
        self,
        *,
        who: str,
        role: str,
        address: str,
        action: str,
        given: Mapping[str, Any],
        outcome: str,
        detail: str = "",
    ) -> None:
        """Add a line; it is on disk when this returns.

        Args:
            who: name of the token.
            role: of it.
            address: of the browser.
            action: what was asked for, such as ``promote``.
            given: what the form said.
            outcome: ``asked``, ``done``, ``refused`` or ``failed``.
            detail: what became of it.

        Raises:
            RfError: the disk is full, or the directory may not be written to.
        """
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "who": who,
            "role": role,
            "from": address,
            "action": action,
            "given": dict(given),
            "outcome": outcome,
            "detail": detail,
        }
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, (json.dumps(line, ensure_ascii=False) + "\n").encode())
                os.fsync(handle)
            finally:
                os.close(handle)

    def latest(self, count: int) -> list[dict[str, Any]]:
        """Return the last lines, the newest first."""
        try:
            with self.path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().splitlines()
        except FileNotFoundError:
            return []
        if size > _TAIL_BYTES:
            lines = lines[1:]  # begins in the middle
        found: list[dict[str, Any]] = []
        for line in reversed(lines):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue  # a crash in the middle of a line
            if len(found) == count:
                break
        return found
