"""Events beside answers: the event log and the imported interactions as one table, with the answer that each event names."""

from collections.abc import Iterator
from contextlib import closing

import duckdb

from rf_platform.data.event_log import EventLog, EventParts, LoggedEvent
from rf_platform.data.event_log.event import ANSWER
from rf_platform.data.event_log.parts import ITEM, TIME, USER, events_table
from rf_platform.errors import UsageError
from rf_platform.features.meanings import EVENT_TYPE
from rf_platform.settings import Settings
from rf_platform.sql import identifier, literal, pattern_literal
from rf_serving.experiments.answers import USER as SUBJECT

_PAGE = 5_000


def add_events(db: duckdb.DuckDBPyConnection, settings: Settings, since_us: int, value: str | None) -> None:
    """Make a table ``events`` of what users did: number, subject, item, moment, type, value, answer.

    An event that the imported interactions have, too (the same user, item, time and type), counts once.

    Args:
        db: gets the table.
        settings: of the workspace.
        since_us: earlier events are left out.
        value: column of the interactions that is the value of an event; None: it is 0.

    Raises:
        UsageError: no event has such a column, or it is no number.
    """
    columns = "subject, item, moment, type, value, answer"
    db.execute(
        "CREATE TABLE found (subject VARCHAR, item VARCHAR, moment BIGINT, type VARCHAR, value DOUBLE, answer VARCHAR)"
    )
    known = False
    parts = EventParts(settings.workspace.events)
    with parts.reading() as files:
        relations = []
        if files:
            listed = ", ".join(pattern_literal(path) for path in files)
            relations.append(f"(SELECT * FROM read_parquet([{listed}], union_by_name = true))")
        if recent := list(_unsealed(settings, parts.sealed)):
            db.register("recent_events", events_table(recent))
            relations.append("recent_events")
        for relation in relations:
            known |= _insert(db, relation, f"{USER}::VARCHAR", f"{ITEM}::VARCHAR", TIME, since_us, value)
    interactions = settings.workspace.tables / "interactions.parquet"
    if interactions.exists():
        imported = f"read_parquet({pattern_literal(interactions)})"
        db.execute("CREATE TABLE logged AS SELECT DISTINCT subject, item, moment, type FROM found")
        known |= _insert(
            db,
            f"(SELECT * FROM {imported} AS t WHERE NOT EXISTS (SELECT 1 FROM logged AS l WHERE "
            f"l.subject = {literal(SUBJECT)} || t.user_id AND l.item = t.item_id::VARCHAR "
            f"AND l.moment = epoch_us(t.event_timestamp) AND l.type IS NOT DISTINCT FROM t.event_type))",
            "user_id::VARCHAR",
            "item_id::VARCHAR",
            "event_timestamp",
            since_us,
            value,
        )
    if value is not None and not known:
        raise UsageError(f"--value={value}: the interactions have no such column of numbers")
    db.execute(f"CREATE TABLE events AS SELECT row_number() OVER (ORDER BY moment) AS number, {columns} FROM found")
    db.execute("DROP TABLE found")


def _insert(
    db: duckdb.DuckDBPyConnection, relation: str, user: str, item: str, time: str, since_us: int, value: str | None
) -> bool:
    """Add the rows of a relation; return whether it has the column of values."""
    there = {row[0]: row[1] for row in db.execute(f"DESCRIBE SELECT * FROM {relation} AS r").fetchall()}
    known = value in there and not there[value].startswith(("VARCHAR", "BOOLEAN")) and "[]" not in there[value]
    amount = f"CAST({identifier(str(value))} AS DOUBLE)" if known else "0.0"
    kind = identifier(EVENT_TYPE) if EVENT_TYPE in there else "'interaction'"
    answer = identifier(ANSWER) if ANSWER in there else "NULL"
    db.execute(
        f"INSERT INTO found SELECT {literal(SUBJECT)} || {user}, {item}, epoch_us({time}), {kind}, {amount}, {answer} "
        f"FROM {relation} AS r WHERE epoch_us({time}) >= {since_us}"
    )
    return known


def _unsealed(settings: Settings, after: int) -> Iterator[LoggedEvent]:
    """Yield the events that are not in files yet."""
    log = EventLog.existing(settings)
    if log is None:
        return
    with closing(log):
        while page := log.read(after, _PAGE):
            yield from page
            after = page[-1].sequence
