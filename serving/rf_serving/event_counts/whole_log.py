"""All interactions up to now, for a count that begins: the imported table, the files of the event log, and what is in SQL."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import numpy as np

from rf_platform.data.event_log import EventLog, EventParts, LoggedEvent
from rf_platform.data.event_log.event import ORDER_OFFSET
from rf_platform.data.event_log.parts import events_table
from rf_platform.data.event_log.reading import union_with
from rf_platform.features.meanings import EVENT_TYPE, Rules, columns_of, meaning_sql
from rf_platform.sql import identifier, literal, pattern_literal
from rf_serving.event_counts.co_occurrence import ITEMS_OF_USER, USERS_OF_ITEM, Pairs
from rf_serving.event_counts.counts_wanted import CountOf, FirstOf
from rf_serving.event_counts.decayed import STEPS, TABLE, DecayedCounts
from rf_serving.event_counts.first_times import FirstTimes
from rf_serving.event_counts.numbering import Numbering

_AT_ONCE = 20_000
_MEMORY = "1GB"


@dataclass(frozen=True, eq=False)
class WholeLog:
    """A connection with all interactions up to an event."""

    db: duckdb.DuckDBPyConnection
    relation: str
    """The interactions, as they stand behind FROM."""
    position: int
    """Number of the last event of the log that is in it."""
    wanted: str
    """SQL of whether an interaction is wanted."""

    def condition(self, types: Sequence[str]) -> str:
        """Return the SQL of the events that count: those of some types, or, where none are named, the wanted ones."""
        return f"{EVENT_TYPE} IN ({', '.join(map(literal, types))})" if types else self.wanted

    def count(self, counts: DecayedCounts, of: CountOf, items: Numbering) -> None:
        """Count events."""
        names = [row[0] for row in self.db.execute(f"DESCRIBE SELECT * FROM {self.relation} AS l").fetchall()]
        table = "[" + ", ".join(map(str, TABLE.tolist())) + "]"
        found = self.db.execute(
            f"""WITH t AS MATERIALIZED (SELECT {table} AS weights),
            e AS (SELECT item_id, greatest(epoch_us(event_timestamp), 0) AS us, {of.parts_sql(names)} AS parts
                  FROM {self.relation} AS l WHERE {self.condition(of.event_types)})
            SELECT item_id, (us // {counts.step_us}) // {STEPS} AS half_life,
                sum(parts * weights[(us // {counts.step_us}) % {STEPS} + 1])::BIGINT AS weight, max(us) AS newest
            FROM e, t WHERE parts > 0 GROUP BY ALL"""
        ).to_arrow_table()
        if found.num_rows:
            columns = [found[name].to_numpy().astype(np.int64) for name in ("half_life", "weight", "newest")]
            numbers = items.numbers(found["item_id"].to_pylist())
            counts.add_sums(numbers, columns[0], columns[1], int(columns[2].max()))

    def first(self, times: FirstTimes, of: FirstOf, items: Numbering) -> None:
        """Find the first events."""
        found = self.db.execute(
            f"""SELECT item_id, min(epoch_us(event_timestamp)) AS us FROM {self.relation} AS l
            WHERE {self.condition(of.event_types)} GROUP BY item_id"""
        ).to_arrow_table()
        times.add(items.numbers(found["item_id"].to_pylist()), found["us"].to_numpy().astype(np.int64))

    def pairs(self) -> Pairs:
        """Return the pairs of user and item of wanted interactions that co-occurrence looks at."""
        found = self.db.execute(
            f"""WITH e AS (
                SELECT CAST(user_id AS VARCHAR) AS u, item_id AS i, max((
                    CASE WHEN input_order >= {ORDER_OFFSET} THEN {1 << 62} ELSE epoch_us(event_timestamp) END, input_order
                )) AS o
                FROM {self.relation} AS l WHERE {self.wanted} GROUP BY u, i
            ), r AS (
                SELECT u, i, o, row_number() OVER (PARTITION BY u ORDER BY o DESC) AS ru,
                    row_number() OVER (PARTITION BY i ORDER BY o DESC) AS ri FROM e
            )
            SELECT u, i, ru, ri FROM r WHERE ru <= {ITEMS_OF_USER} OR ri <= {USERS_OF_ITEM} ORDER BY o"""
        ).to_arrow_table()
        return Pairs(
            found["u"].to_pylist(),
            found["i"].to_pylist(),
            found["ru"].to_numpy().astype(np.int64),
            found["ri"].to_numpy().astype(np.int64),
        )


@contextmanager
def whole_log(
    log: EventLog, parts: EventParts, interactions: Path, rules: Rules, *, whole_ids: bool, clock: bool
) -> Iterator[WholeLog]:
    """Yield all interactions there are; an event that the imported table has too counts once.

    Args:
        log: the event log.
        parts: its files.
        interactions: the imported table; where there is none, the events are all there is.
        rules: meanings of events.
        whole_ids: whether ids of items are integers.
        clock: see :func:`~rf_platform.data.event_log.log_relation`.
    """
    # SQL first: an event that moves into a file meanwhile is then seen twice, never not at all.
    waiting = list(_after(log, parts.sealed))
    with parts.reading() as files, TemporaryDirectory(prefix="rf-counts-") as spill, duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'; SET threads = 1")
        db.execute(f"SET memory_limit = '{_MEMORY}'; SET temp_directory = {literal(spill)}")
        sealed = parts.sealed
        waiting = [event for event in waiting if event.sequence > sealed]
        db.register("waiting", events_table(waiting))
        events = "SELECT * FROM waiting"
        if files:
            listed = ", ".join(map(pattern_literal, files))
            events += f" UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true)"
        there = interactions.exists()
        imported = f"read_parquet({pattern_literal(interactions)})" if there else _nothing(rules, whole_ids)
        relation = union_with(db, imported, f"({events})", clock=clock)
        position = waiting[-1].sequence if waiting else sealed
        yield WholeLog(db, relation, position, f"{meaning_sql(rules)} = 'wanted'" if rules else "true")


def _after(log: EventLog, number: int) -> Iterator[LoggedEvent]:
    while events := log.read(number, _AT_ONCE):
        yield from events
        number = events[-1].sequence


def _nothing(rules: Rules, whole_ids: bool) -> str:
    """Return an empty relation with the columns of an imported table."""
    number = "BIGINT" if whole_ids else "VARCHAR"
    columns = {
        "user_id": "VARCHAR",
        "item_id": number,
        "event_timestamp": "TIMESTAMPTZ",
        "input_order": "BIGINT",
        **dict.fromkeys(columns_of(rules), "DOUBLE"),
        EVENT_TYPE: "VARCHAR",
    }
    selected = ", ".join(f"NULL::{kind} AS {identifier(name)}" for name, kind in columns.items())
    return f"(SELECT {selected} WHERE false)"
