"""Record of a refresh: what it has done so far, in a file of the workspace, so that one that was interrupted is gone on with."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rf_platform.failures import read_json, reading
from rf_platform.files import replace_text

_FRESH = timedelta(hours=24)
"""Age up to which what an interrupted refresh has found out still counts."""


class RefreshRecord:
    """The last refresh of a workspace: when it began, its steps and verdicts, and its result, empty until it has one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun = datetime.now(UTC)

    def interrupted(self) -> Mapping[str, Any]:
        """Return what an earlier refresh of the last 24 hours did that never came to a result; empty if there is none.

        Raises:
            CorruptError: the record is damaged.
        """
        if not self._path.exists():
            return {}
        with reading(self._path, "remove it"):
            found = read_json(self._path, "remove it")
            begun = datetime.fromisoformat(found["begun"])
            if found["result"] or datetime.now(UTC) - begun > _FRESH:
                return {}
        self._begun = begun
        return found

    def write(self, outcome: Mapping[str, Any], result: str) -> None:
        """Write down what was done.

        Raises:
            RfError: the disk is full, or the workspace may not be written to.
        """
        told = {**outcome, "begun": self._begun.isoformat(), "result": result}
        replace_text(self._path, json.dumps(told, indent=2, default=str) + "\n")
