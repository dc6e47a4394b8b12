"""Statistics of features: unknown values and distributions, computed once for each dataset in the background."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock, Thread

import duckdb
import structlog

from rf_platform.dataset import Dataset
from rf_platform.dataset.coverage import present_sql
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import FieldSpec
from rf_platform.sql import identifier, pattern_literal

_KEPT, _BARS, _BINS = 8, 12, 12
_WAIT_SECONDS = 0.1
"""The page does not wait for large datasets: it shows what there is."""
_HELD_OUT = "split IN (1, 2)"


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """What one feature holds: items and users as they are now, or the events that were held out of training."""

    rows: int
    """Items, users or events that were looked at."""
    present: float
    """Share of them with a value."""
    unknown: float | None
    """Share of the values that the vocabulary lacks; None where there is none."""
    distinct: int | None
    """Number of different values; None for numbers and vectors."""
    bars: tuple[tuple[str, int], ...]
    """The most frequent values, or the ranges of numbers, and how many values each has."""
    values: int
    """Number of all values."""


@dataclass
class _Work:
    thread: Thread
    dataset: Dataset
    found: dict[str, FeatureStatistics]


class FeatureStatisticsReader:
    """Computes the statistics of a dataset's features in the background; safe from any thread."""

    def __init__(self) -> None:
        self._lock, self._works = Lock(), dict[str, _Work]()

    def of(self, dataset: Dataset, wait: float = _WAIT_SECONDS) -> tuple[Mapping[str, FeatureStatistics], bool]:
        """Return the statistics by full feature name, as far as they are computed, and whether these are all.

        Args:
            dataset: the dataset, with the id maps that the model knows.
            wait: seconds to wait for them.
        """
        work = self._work(dataset)
        work.thread.join(wait)
        return dict(work.found), not work.thread.is_alive()

    def encoder(self, dataset: Dataset) -> FeatureEncoder:
        """Return the vocabularies and statistics of a dataset, which are read once."""
        return self._work(dataset).dataset.encoder

    def _work(self, dataset: Dataset) -> _Work:
        key = f"{dataset.fingerprint} {dataset.path} {dataset.grown_encoder}"
        with self._lock:
            if (work := self._works.get(key)) is None:
                found = dict[str, FeatureStatistics]()
                thread = Thread(target=_compute, args=(dataset, found), name="rf-feature-statistics", daemon=True)
                work = self._works[key] = _Work(thread, dataset, found)
                while len(self._works) > _KEPT:
                    del self._works[next(iter(self._works))]
                thread.start()
            return work


def _compute(dataset: Dataset, into: dict[str, FeatureStatistics]) -> None:
    try:
        with connected() as db:
            for each in measurable(dataset):
                into[each.name] = measure(db, dataset, each)
    except Exception:
        structlog.get_logger("rf_console").exception("statistics of features failed", dataset=dataset.name)


def connected() -> duckdb.DuckDBPyConnection:
    """Return a database that takes one core."""
    db = duckdb.connect()
    db.execute("SET threads = 1")
    db.execute("SET TimeZone = 'UTC'")
    return db


def measurable(dataset: Dataset) -> list[FieldSpec]:
    """Return the features whose values a dataset keeps, as the model reads them."""
    return [each for side in ("item", "user", "context") for each in dataset.spec.inputs(side)]


def measure(db: duckdb.DuckDBPyConnection, dataset: Dataset, f: FieldSpec) -> FeatureStatistics:
    """Compute the statistics of one feature.

    Args:
        db: a database.
        dataset: has its values.
        f: the feature.
    """
    table, only = ("events", _HELD_OUT) if f.side == "context" else (f"{f.side}s", "current")
    source = f"(SELECT * FROM read_parquet({pattern_literal(dataset.path / f'{table}.parquet')}) WHERE {only})"
    column, present = identifier(f.name), present_sql(f)
    counted = db.execute(f"SELECT count(*), count(*) FILTER ({present}) FROM {source}").fetchone() or (0, 0)
    value = f"unnest({column})" if f.kind == "multi" else column
    values = f"(SELECT {value} AS v FROM {source} WHERE {present})"
    unknown, distinct, bars = None, None, list[tuple[str, int]]()
    if f.kind in ("categorical", "multi"):
        unknown = _unknown(db, dataset, f, values)
        distinct, bars = _frequent(db, values)
    elif f.kind in ("numeric", "timestamp"):
        bars = _ranges(db, f, values)
    total = db.execute(f"SELECT count(*) FROM {values}").fetchone() or (0,)
    return FeatureStatistics(
        rows=counted[0],
        present=counted[1] / max(1, counted[0]),
        unknown=unknown,
        distinct=distinct,
        bars=tuple(bars),
        values=total[0],
    )


def _unknown(db: duckdb.DuckDBPyConnection, dataset: Dataset, f: FieldSpec, values: str) -> float | None:
    assert f.domain is not None
    if dataset.spec.domain(f.domain).buckets is not None:
        return None
    encoder = dataset.grown_encoder or dataset.path / "encoder"
    known = f"(SELECT value FROM read_parquet({pattern_literal(encoder / f'{f.domain}.parquet')}))"
    row = db.execute(f"SELECT count(*) FILTER (v NOT IN {known}) / greatest(count(*), 1) FROM {values}").fetchone()
    return float(row[0]) if row else None


def _frequent(db: duckdb.DuckDBPyConnection, values: str) -> tuple[int, list[tuple[str, int]]]:
    row = db.execute(f"SELECT count(DISTINCT v) FROM {values}").fetchone()
    found = db.execute(f"SELECT v, count(*) AS n FROM {values} GROUP BY v ORDER BY n DESC, v LIMIT {_BARS}").fetchall()
    return (row[0] if row else 0), [(str(value), count) for value, count in found]


def _ranges(db: duckdb.DuckDBPyConnection, f: FieldSpec, values: str) -> list[tuple[str, int]]:
    """Return ranges of equal width between the first and the last hundredth, the outer ones with all that is beyond."""
    number = "epoch(v)" if f.kind == "timestamp" else "CAST(v AS DOUBLE)"
    numbers = f"(SELECT {number} AS x FROM {values})"
    ends = db.execute(f"SELECT quantile_cont(x, 0.01), quantile_cont(x, 0.99) FROM {numbers}").fetchone()
    if ends is None or ends[0] is None:
        return []
    low, high = ends
    if low == high:
        row = db.execute(f"SELECT count(*) FROM {numbers}").fetchone()
        return [(_written(f, low), row[0] if row else 0)]
    width = (high - low) / _BINS
    place = f"CAST(greatest(0, least({_BINS - 1}, floor((x - ?) / ?))) AS INTEGER)"
    counts = dict(db.execute(f"SELECT {place}, count(*) FROM {numbers} GROUP BY 1", [low, width]).fetchall())
    edges = [low + width * number for number in range(_BINS + 1)]
    return [
        (f"{_written(f, edges[each])} to {_written(f, edges[each + 1])}", counts.get(each, 0)) for each in range(_BINS)
    ]


def _written(f: FieldSpec, number: float) -> str:
    if f.kind != "timestamp":
        return f"{number:,.4g}"
    return f"{datetime.fromtimestamp(number, UTC):%Y-%m-%d}"
