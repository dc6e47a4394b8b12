"""Checks of the workspace: its disk, the imported tables, and the meanings of their events."""

import json
import shutil
import tempfile
from pathlib import Path

import duckdb

from rf_platform.data.meaning_hints import as_tag, find_hints, undeclared
from rf_platform.data.report import RECORD
from rf_platform.doctor.check import Finding, fail, ok, warn
from rf_platform.failures import read_json
from rf_platform.features.meanings import (
    EVENT_TYPE,
    MEANINGS,
    check_meaning_columns,
    event_types,
    meaning_sql,
    unknown_types,
)
from rf_platform.registry import features_now
from rf_platform.settings import Settings
from rf_platform.sql import pattern_literal
from rf_platform.staging import MARKS, abandoned

_MIB = 1 << 20
_LOW_BYTES = 2048 * _MIB
_FULL_BYTES = 200 * _MIB
_PARENTS = ("datasets", "bundles", "runs", "runs/*", "runs/*/*")
"""Parents of unfinished directories, beside the root of the workspace."""


def check_workspace(settings: Settings) -> Finding:
    """Can the workspace be written?"""
    root = settings.workspace.root
    place = _existing(root)
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"rf doctor")
    except OSError as error:
        return fail(f"{root} cannot be written: {error.strerror}", "mend the rights of the directory, or set RF_HOME")
    if place != root:
        return warn(
            f"there is no workspace at {root}", "`rf data import` makes it; if there should be one, mend RF_HOME"
        )
    return ok(str(root))


def check_disk(settings: Settings) -> Finding:
    """Is there room for datasets, checkpoints and bundles?"""
    place = _existing(settings.workspace.root)
    return disk_space(shutil.disk_usage(place).free, place)


def disk_space(free: int, place: Path) -> Finding:
    """Judge the free space of a disk, in bytes."""
    text = f"{free / _MIB:,.0f} MiB free at {place}"
    remedy = "remove old datasets, runs and bundles with `rf gc`, or move the workspace (RF_HOME)"
    if free < _FULL_BYTES:
        return fail(text, remedy)
    return warn(text, remedy) if free < _LOW_BYTES else ok(text)


def check_leftovers(settings: Settings) -> Finding:
    """Did killed commands leave unfinished directories?"""
    root = settings.workspace.root
    parents = (root, *(p for pattern in _PARENTS for p in root.glob(pattern)))
    left = [path for parent in parents for mark in MARKS for path in abandoned(parent, mark)]
    if not left:
        return ok("no unfinished directories of killed commands")
    size = sum(file.lstat().st_size for path in left for file in path.rglob("*"))
    return warn(
        f"{len(left)} unfinished directories of killed commands, {size / _MIB:,.0f} MiB: {', '.join(map(str, left[:3]))}"
        f"{', ...' if len(left) > 3 else ''}",
        "the next import, build or training there removes them; or remove them yourself",
    )


def check_tables(settings: Settings) -> Finding:
    """Are the imported tables there and readable?"""
    tables = settings.workspace.tables
    if not tables.is_dir():
        return warn(f"no tables imported in {settings.workspace.root} yet", "`rf data import`")
    names = ["interactions", "items"] + (["users"] if (tables / "users.parquet").exists() else [])
    counts: list[str] = []
    for path in (tables / "import.json", *(tables / f"{name}.parquet" for name in names)):
        try:
            counts.append(f"{_rows(path):,} {path.stem}" if path.suffix == ".parquet" else _catalog(path))
        except FileNotFoundError:
            return fail(f"{path} is missing", "`rf data import` again")
        except (OSError, ValueError, KeyError, TypeError) as error:  # Arrow's own errors are ValueErrors
            return fail(f"{path} cannot be read: {str(error).splitlines()[0]}", "`rf data import` again")
    return ok(", ".join(counts))


def _catalog(path: Path) -> str:
    return str(json.loads(path.read_text())["name"])


def _rows(path: Path) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        count: int = file.metadata.num_rows
    return count


def _existing(path: Path) -> Path:
    """Return the path, or the nearest directory above it that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def check_meanings(settings: Settings) -> Finding:
    """Do the meanings of events fit the interactions, and is there one for what looks like no wish?"""
    interactions = settings.workspace.tables / "interactions.parquet"
    if not interactions.exists():
        return ok("no interactions are imported here")
    rules, record = features_now(settings).meanings, interactions.with_name(RECORD)
    report = read_json(record) if record.exists() else {}
    log = f"read_parquet({pattern_literal(interactions)})"
    with duckdb.connect() as db:
        columns = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {log}").fetchall()}
        check_meaning_columns(rules, columns, str(interactions))
        lost = unknown_types(rules, event_types(db, log)) if EVENT_TYPE in columns else []
        counts = dict(db.execute(f"SELECT {meaning_sql(rules)} AS meaning, count(*) FROM {log} GROUP BY 1").fetchall())
        # A catalog with definitions of its own has said what its events mean.
        hints = [] if report.get("feature_repo") else undeclared(find_hints(db, log, report.get("bounds")), rules)
    told = ", ".join(f"{counts[meaning]:,} {meaning}" for meaning in MEANINGS if meaning in counts)
    if lost:
        return warn(
            f"{told}; {'; '.join(lost)}", "correct the type in the view that keeps the history, if it is misspelt"
        )
    if hints:
        found = "; ".join(hint.found for hint in hints)
        return warn(
            f"{told}; {found}",
            f"if these are no wishes, declare it in the view that keeps the history: {as_tag(hints)}",
        )
    return ok(f"{told}, by {len(rules)} rules" if rules else f"{told}: no other meaning is declared")
