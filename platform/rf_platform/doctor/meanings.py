"""Check of the meanings of events: what is declared, how many interactions have each, and what looks undeclared."""

import duckdb

from rf_platform.data.meaning_hints import as_tag, find_hints, undeclared
from rf_platform.data.report import RECORD
from rf_platform.doctor.check import Finding, ok, warn
from rf_platform.failures import read_json
from rf_platform.features.meanings import MEANINGS, check_meaning_columns, meaning_sql
from rf_platform.registry import features_now
from rf_platform.settings import Settings
from rf_platform.sql import pattern_literal


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
        counts = dict(db.execute(f"SELECT {meaning_sql(rules)} AS meaning, count(*) FROM {log} GROUP BY 1").fetchall())
        # A catalog with definitions of its own has said what its events mean.
        hints = [] if report.get("feature_repo") else undeclared(find_hints(db, log, report.get("bounds")), rules)
    told = ", ".join(f"{counts[meaning]:,} {meaning}" for meaning in MEANINGS if meaning in counts)
    if hints:
        found = "; ".join(hint.found for hint in hints)
        return warn(
            f"{told}; {found}",
            f"if these are no wishes, declare it in the view that keeps the history: {as_tag(hints)}",
        )
    return ok(f"{told}, by {len(rules)} rules" if rules else f"{told}: no other meaning is declared")
