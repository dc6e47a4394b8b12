"""Results of skew replays and monitors, kept in the workspace for later, such as for the console.

A result is a JSON file, named by kind and time. Examples are left out: they name users, and a user may be forgotten.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from rf_platform.cli.console import warn
from rf_platform.errors import RfError
from rf_platform.failures import read_json
from rf_platform.features.expiry import as_time, now_us
from rf_platform.files import replace_text

Kind = Literal["replay", "monitor"]
_NAME = re.compile(r"(replay|monitor)-(\d{16,})\.json")
_KEPT = 60


@dataclass(frozen=True, kw_only=True)
class SkewResult:
    """One result."""

    at: datetime
    report: Mapping[str, Any]
    """As :meth:`ReplayReport.to_dict` or :meth:`MonitorReport.to_dict` has it, without examples."""


class SkewResults:
    """Results of a workspace; the last 60 of each kind stay."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is there when anything was measured."""
        self.directory = directory

    def keep(self, kind: Kind, report: Mapping[str, Any]) -> None:
        """Keep a result; where that fails, such as on a full disk, it is said and nothing else."""
        if "fields" in report:
            report = {**report, "fields": [{**each, "examples": []} for each in report["fields"]]}
        try:
            replace_text(self.directory / f"{kind}-{now_us():016d}.json", json.dumps(report, sort_keys=True) + "\n")
        except RfError as error:
            warn(f"the result is not kept for the console: {error}")
            return
        for path in self._paths(kind)[:-_KEPT]:
            path.unlink(missing_ok=True)

    def newest(self, kind: Kind, count: int = 1) -> list[SkewResult]:
        """Return the last results of a kind, the newest first.

        Raises:
            CorruptError: a file is damaged; the message names it.
        """
        found = self._paths(kind)[-count:][::-1]
        return [SkewResult(at=_moment(path), report=read_json(path, "remove it")) for path in found]

    def _paths(self, kind: Kind) -> list[Path]:
        found = (path for path in self.directory.glob(f"{kind}-*.json") if _NAME.fullmatch(path.name))
        return sorted(found, key=lambda path: path.name)


def _moment(path: Path) -> datetime:
    named = _NAME.fullmatch(path.name)
    assert named is not None
    return as_time(int(named[2]))
