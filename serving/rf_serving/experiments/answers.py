"""Answers as experiments read them from the serving log: what was shown, when, and by which bundle."""

import duckdb
import pyarrow as pa

from rf_platform.serving_log import ServingParts
from rf_platform.settings import Settings
from rf_platform.sql import literal, pattern_literal

ANSWERS = pa.schema(
    [
        ("request_id", pa.string()),
        ("moment", pa.int64()),  # microseconds since 1970
        ("subject", pa.string()),  # USER and the id of a user, SESSION and that of a session
        ("placement", pa.string()),
        ("policy_version", pa.int64()),
        ("bundle", pa.string()),
        ("degraded", pa.bool_()),
        ("milliseconds", pa.float64()),  # null: not known
        ("items", pa.list_(pa.string())),
        ("sources", pa.list_(pa.string())),
        ("propensities", pa.list_(pa.float64())),
        ("teams", pa.list_(pa.string())),  # empty: one bundle made the list
    ]
)
"""Columns of a table of answers; lists are as long as ``items`` or empty."""
USER, SESSION = "user:", "session:"
"""Prefixes of a subject."""
_SUBJECT = f"coalesce({literal(USER)} || user_id, {literal(SESSION)} || session_id)"


def logged_answers(settings: Settings, since_us: int) -> pa.Table:
    """Return the answers of the serving log since a moment, as :data:`ANSWERS` says; empty if there is none."""
    relation = log_relation(settings, since_us)
    if relation is None:
        return ANSWERS.empty_table()
    lists = {
        name: f"list_transform(items, lambda i: i.{name})" for name in ("item_id", "source", "propensity", "bundle")
    }
    with duckdb.connect() as db:
        kinds = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()}
        # Logs of a server that has never interleaved may be without it.
        teams = (
            f"CASE WHEN items[1].bundle != '' THEN {lists['bundle']} ELSE [] END"
            if "bundle VARCHAR" in kinds["items"]
            else "[]"
        )
        table = db.execute(
            f"""SELECT request_id, epoch_us(time) AS moment, {_SUBJECT} AS subject, placement, policy_version, bundle,
                degraded != '' AS degraded, milliseconds::DOUBLE AS milliseconds, {lists["item_id"]} AS items,
                {lists["source"]} AS sources, {lists["propensity"]} AS propensities,
                {teams} AS teams
            FROM {relation} WHERE epoch_us(time) >= {since_us}"""
        ).to_arrow_table()
    return table.cast(ANSWERS)


def log_relation(settings: Settings, since_us: int) -> str | None:
    """Return what to put behind FROM to read the serving log since a moment, or a little before; None if there is nothing."""
    parts = ServingParts(settings.workspace.serving_log).parts(since_us=since_us)
    if not parts:
        return None
    return f"read_parquet([{', '.join(pattern_literal(part.path) for part in parts)}], union_by_name = true)"
