"""Coverage of features: the share of events, and of items or users, that have a value; what is empty is named."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
from rich.markup import escape
from rich.table import Table

from rf_platform.features.dtype import MISSING_INTEGER
from rf_platform.features.expiry import as_time
from rf_platform.features.read import ViewSource
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.sql import identifier, pattern_literal

_FEW, _MANY = 0.1, 0.5
"""A feature of most items or users that few events see came too late for them."""
Coverage = Mapping[str, Mapping[str, float]]


def measure_coverage(db: duckdb.DuckDBPyConnection, spec: FeatureSpec, content: Path) -> dict[str, dict[str, float]]:
    """Return per feature, by full name, the share of ``events`` and of ``items`` or ``users`` with a value.

    Args:
        db: a database.
        spec: has the features.
        content: directory of the dataset's files.
    """
    events = f"read_parquet({pattern_literal(content / 'events.parquet')})"
    found: dict[str, dict[str, float]] = {}
    for side in ("item", "user"):
        fields = spec.inputs(side)
        if not fields:
            continue
        present = ", ".join(
            f"coalesce(sum(n) FILTER ({present_sql(f)}), 0) / greatest(sum(n), 1), "
            f"count(*) FILTER (v.current AND {present_sql(f)}) / greatest(count(*) FILTER (v.current), 1)"
            for f in fields
        )
        shares = db.execute(
            f"SELECT {present} FROM read_parquet({pattern_literal(content / f'{side}s.parquet')}) v "
            f"LEFT JOIN (SELECT {side}_version AS version, count(*) AS n FROM {events} GROUP BY 1) USING (version)"
        ).fetchall()[0]
        for i, f in enumerate(fields):
            found[f.name] = {"events": _rounded(shares[2 * i]), f"{side}s": _rounded(shares[2 * i + 1])}
    if fields := spec.inputs("context"):
        present = ", ".join(f"count(*) FILTER ({present_sql(f)}) / greatest(count(*), 1)" for f in fields)
        shares = db.execute(f"SELECT {present} FROM {events}").fetchall()[0]
        found |= {f.name: {"events": _rounded(share)} for f, share in zip(fields, shares, strict=True)}
    return found


def empty_features(
    db: duckdb.DuckDBPyConnection, coverage: Coverage, spec: FeatureSpec, sources: Sequence[tuple[ViewSource, str]]
) -> list[str]:
    """Return a sentence for each view or feature that events see nothing, or little, of.

    Args:
        db: has the log and the rows of the views.
        coverage: of the features.
        spec: has the features.
        sources: views of items and users, each with the table of its rows.
    """
    last = db.execute("SELECT epoch_us(max(event_timestamp)) FROM log").fetchall()[0][0]
    said, late = list[str](), set[str]()
    for source, rows in sources:
        first, count = db.execute(f"SELECT min(epoch_us(known)), count(*) FROM {rows}").fetchall()[0]
        if first is not None and last is not None and first >= last:
            late.add(source.view)
            said.append(
                f"view '{source.view}': all {count:,} rows are newer than the events (the first of {_day(first)}, the last event "
                f"of {_day(last)}), so no event sees a value of it and the model learns nothing from it; give its rows the time "
                f"from which they hold, or import them without a `timestamp`"
            )
    for f in (f for side in ("item", "user", "context") for f in spec.inputs(side)):
        share, of = coverage[f.name]["events"], next((v for k, v in coverage[f.name].items() if k != "events"), None)
        if f.view in late:
            continue
        if share == 0 and not of:
            said.append(
                f"{f.name}: no event has a value of it, so the model learns nothing from it; mend it or leave it out"
            )
        elif of is not None and of >= _MANY and share < _FEW:
            said.append(
                f"{f.name}: {share:.1%} of the events see a value, and {of:.0%} of the {f.side}s have one now: most of its rows "
                f"are newer than the events"
            )
    return said


def coverage_table(coverage: Coverage) -> Table:
    """Return the coverage as a table for people."""
    table = Table("feature", title="coverage: share with a value", title_justify="left")
    for column in ("events", "items", "users"):
        table.add_column(column, justify="right")
    for name, shares in coverage.items():
        table.add_row(escape(name), *(f"{shares[c]:.1%}" if c in shares else "" for c in ("events", "items", "users")))
    return table


def present_sql(f: FieldSpec) -> str:
    """Return the condition in SQL that a row has a value of a feature."""
    column = identifier(f.name)
    if f.type.is_list and f.role != "history":
        return f"len({column}) > 0"
    element = f.type.element
    if element == "String":
        return f"{column} <> ''"
    if element in ("Float32", "Float64"):
        return f"isfinite({column})"
    return f"{column} <> {MISSING_INTEGER}" if element in ("Int32", "Int64") else f"{column} IS NOT NULL"


def _rounded(share: Any) -> float:
    return round(float(share), 6)


def _day(moment_us: int) -> str:
    return f"{as_time(moment_us):%Y-%m-%d %H:%M}"
