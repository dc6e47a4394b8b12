"""Outcomes: each event of a user is credited to the answer that had shown the item."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from rf_platform.errors import UsageError
from rf_platform.settings import Settings
from rf_platform.sql import literal
from rf_serving.experiments.event_table import add_events

KEYS = ("bundle", "policy_version", "placement", "place", "source", "team")
"""Columns that a report may be broken down by."""


@contextmanager
def outcomes(
    settings: Settings, answers: pa.Table, *, window_us: int, since_us: int, value: str | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection with the tables ``answers``, ``impressions``, ``events`` and ``credited``.

    An event that names its answer (``request_id``) is credited to the item of that answer. Any other one, and one with an answer
    that is not in the log, is credited to the latest answer within the window that had shown the item to the user. Each is
    credited once.

    Args:
        settings: of the workspace.
        answers: as :data:`~rf_serving.experiments.answers.ANSWERS` says.
        window_us: longest time from an answer to an event that is credited to it.
        since_us: earlier events are left out.
        value: column of the interactions that is the value of an event.

    Raises:
        UsageError: no event has such a column.
    """
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.register("given_answers", answers)
        db.execute("CREATE TABLE answers AS SELECT * FROM given_answers ORDER BY moment")
        db.execute(
            """CREATE TABLE impressions AS
            SELECT request_id, moment, subject, placement, policy_version, bundle, place, items[place] AS item,
                   coalesce(sources[place], '') AS source, coalesce(propensities[place], 0.0) AS propensity,
                   coalesce(teams[place], '') AS team
            FROM (SELECT *, unnest(range(1, len(items) + 1)) AS place FROM answers)"""
        )
        add_events(db, settings, since_us, value)
        db.execute(
            """CREATE TABLE named AS
            SELECT e.number, i.request_id, i.place FROM events AS e JOIN impressions AS i
            ON e.answer = i.request_id AND e.item = i.item"""
        )
        db.execute(
            f"""CREATE TABLE credited AS
            WITH nearest AS (
                SELECT e.number, i.request_id, i.place, e.moment - i.moment AS after
                FROM (SELECT * FROM events WHERE number NOT IN (SELECT number FROM named)) AS e
                ASOF JOIN impressions AS i ON e.subject = i.subject AND e.item = i.item AND e.moment >= i.moment
            ), matched AS (
                SELECT * FROM named UNION ALL SELECT number, request_id, place FROM nearest WHERE after <= {window_us}
            )
            SELECT e.number, e.type, e.value, e.moment, i.* EXCLUDE (moment), i.moment AS shown_at
            FROM matched AS m JOIN events AS e USING (number)
            JOIN impressions AS i ON i.request_id = m.request_id AND i.place = m.place"""
        )
        yield db


@dataclass(frozen=True, kw_only=True)
class OutcomeReport:
    """Impressions and outcomes by the columns that were asked for."""

    by: tuple[str, ...]
    types: tuple[str, ...]
    """Types of events, the most frequent first."""
    rows: list[dict[str, Any]]
    """``by``, answers, impressions, value, and of each type its count."""
    events: int
    """All events since the first answer."""
    credited: int


def report(db: duckdb.DuckDBPyConnection, by: Sequence[str]) -> OutcomeReport:
    """Sum up what :func:`outcomes` has joined.

    Raises:
        UsageError: there is no such column.
    """
    if wrong := [each for each in by if each not in KEYS]:
        raise UsageError(f"--by={wrong[0]}: answers have no such column; give some of {', '.join(KEYS)}")
    keys = ", ".join(by)
    types = [
        row[0] for row in db.execute("SELECT type FROM credited GROUP BY type ORDER BY count(*) DESC, type").fetchall()
    ]
    counts = "".join(f", count(*) FILTER (type = {literal(name)}) AS {_alias(n)}" for n, name in enumerate(types))
    chosen = "".join(f", coalesce(o.{_alias(n)}, 0)" for n in range(len(types)))
    same = " AND ".join(f"s.{key} IS NOT DISTINCT FROM o.{key}" for key in by)
    found = db.execute(
        f"""WITH s AS (SELECT {keys}, count(DISTINCT request_id) AS answers, count(*) AS impressions
                       FROM impressions GROUP BY ALL),
        o AS (SELECT {keys}, sum(value) AS value{counts} FROM credited GROUP BY {keys})
        SELECT s.*, coalesce(o.value, 0.0){chosen} FROM s LEFT JOIN o ON {same} ORDER BY ALL"""
    ).fetchall()
    names = [*by, "answers", "impressions", "value", *types]
    events, credited = (
        db.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in ("events", "credited")
    )
    rows = [
        {
            **dict(zip(names[: len(by) + 3], row, strict=False)),
            "outcomes": dict(zip(types, row[len(by) + 3 :], strict=True)),
        }
        for row in found
    ]
    return OutcomeReport(by=tuple(by), types=tuple(types), rows=rows, events=events, credited=credited)


def _alias(number: int) -> str:
    return f"type_{number}"
