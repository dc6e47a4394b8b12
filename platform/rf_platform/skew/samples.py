"""Samples of features: of the training split, of the online store, and of the serving log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols.event_log import TRAIN
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.serving_log import LogPart, ServingParts, value_column
from rf_platform.serving_log.schema import VALUE
from rf_platform.skew.difference import plain
from rf_platform.skew.distances import Sample
from rf_platform.sql import identifier, literal

if TYPE_CHECKING:
    from feast import FeatureStore

_MOST_USERS, _STRETCHES = 20_000, 7


def watched(spec: FeatureSpec) -> list[FieldSpec]:
    """Return the fields with a distribution to watch: features of users, and the categories and numbers of the history."""
    context = [f for f in spec.inputs("context") if f.kind in ("categorical", "numeric")]
    return [f for f in (*spec.inputs("user"), *context) if f.kind in ("categorical", "multi", "numeric", "timestamp")]


class TrainingSamples:
    """Values of the training split, of at most 20,000 users."""

    def __init__(self, dataset: Dataset, seed: int = 0) -> None:
        self._dataset, self.spec = dataset, dataset.spec
        self._db = duckdb.connect()
        self._db.execute("SET TimeZone = 'UTC'")
        events, users = (literal(dataset.path / f"{name}.parquet") for name in ("events", "users"))
        drawn = sorted(np.random.default_rng(seed).permutation(len(dataset.user_ids))[:_MOST_USERS].tolist())
        self._db.register("drawn", pa.table({"user": pa.array(drawn, pa.int32())}))
        self._db.execute(
            f"""CREATE TABLE events AS SELECT e.* FROM read_parquet({events}) e JOIN drawn USING ("user")
            WHERE e.split = {TRAIN}"""
        )
        self._db.execute(f"CREATE VIEW states AS SELECT * FROM read_parquet({users})")

    def of(self, f: FieldSpec) -> Sample:
        """Return the values that training events saw; of the history, those of the events themselves."""
        if f.role == "history":
            column = _selected(f, "e")
            rows = self._db.execute(f'SELECT "user", {column}, count(*) FROM events e GROUP BY ALL').fetchall()
        else:
            column = _selected(f, "s")
            rows = self._db.execute(
                f"""SELECT e."user", {column}, count(*) FROM events e JOIN states s ON s.version = e.user_version
                GROUP BY ALL"""
            ).fetchall()
        return Sample([r[0] for r in rows], [_plain(r[1]) for r in rows], [float(r[2]) for r in rows])

    def newest(self, f: FieldSpec) -> Sample:
        """Return the value that each user's last training event saw."""
        rows = self._db.execute(
            f"""SELECT e."user", {_selected(f, "s")} FROM events e JOIN states s ON s.version = e.user_version
            QUALIFY row_number() OVER (PARTITION BY e."user" ORDER BY e.event DESC) = 1"""
        ).fetchall()
        return Sample([r[0] for r in rows], [_plain(r[1]) for r in rows])

    def lengths(self) -> Sample:
        """Return how many interactions lie before each training event, as many as the store keeps at most."""
        most = self.spec.history_length
        rows = self._db.execute(
            f"""SELECT "user", least({most}, row_number() OVER (PARTITION BY "user" ORDER BY event) - 1) FROM events"""
        ).fetchall()
        return Sample([r[0] for r in rows], [r[1] for r in rows])


class ServedSamples:
    """Values of the serving log since a moment, in microseconds since 1970."""

    def __init__(self, parts: ServingParts, since_us: int, spec: FeatureSpec, most: int, seed: int = 0) -> None:
        tables = [pq.read_table(part.path) for part in parts.parts(since_us=since_us)]
        table = pa.concat_tables(tables, promote_options="permissive") if tables else None
        if table is not None:
            table = table.filter(pc.greater_equal(table["time"].cast(pa.int64()), since_us))
            table = table if table.num_rows else None
        if table is not None and table.num_rows > most:
            drawn = np.random.default_rng(seed).choice(table.num_rows, most, replace=False)
            table = table.take(pa.array(np.sort(drawn)))
        self.table, self._spec = table, spec
        self.users = [] if table is None else _users(table)

    def of(self, f: FieldSpec) -> Sample | None:
        """Return the values that were read; of the history, those of the newest interaction. None: they were not served."""
        assert self.table is not None
        name = value_column(f.name)
        if name not in self.table.column_names:
            return None
        values = self.table[name].to_pylist()
        if f.role == "history":
            pairs = [(u, v[-1]) for u, v in zip(self.users, values, strict=True) if v]
            return Sample([u for u, _ in pairs], [_plain(v, f) for _, v in pairs])
        return Sample(self.users, [_plain(v) for v in values])

    def lengths(self) -> Sample | None:
        """Return how long each history was."""
        assert self.table is not None
        items = self._spec.history_items
        if items is None or value_column(items.name) not in self.table.column_names:
            return None
        return Sample(self.users, [len(v or ()) for v in self.table[value_column(items.name)].to_pylist()])


def earlier_answers(parts: ServingParts, until_us: int, length_us: int, most: int, seed: int = 0) -> list[pa.Table]:
    """Return the answers of the seven stretches of the log before a moment, those without answers left out.

    Args:
        parts: the serving log.
        until_us: the moment, in microseconds since 1970.
        length_us: of a stretch.
        most: most answers of a stretch; of more, as many are drawn.
        seed: of the draw.
    """
    random, found = np.random.default_rng(seed), []
    for end in range(until_us, until_us - _STRETCHES * length_us, -length_us):
        begin = end - length_us
        tables = [_answers(part) for part in parts.parts(since_us=begin, until_us=end)]
        if not tables:
            continue
        table = pa.concat_tables(tables, promote_options="permissive")
        times = table["time"].cast(pa.int64()).to_numpy()
        rows = np.flatnonzero((times >= begin) & (times < end))
        if len(rows) > most:
            rows = np.sort(random.choice(rows, most, replace=False))
        if len(rows):
            found.append(table.take(pa.array(rows)))
    return found


def _answers(part: LogPart) -> pa.Table:
    """Read a file without the values of features."""
    names = [name for name in pq.read_schema(part.path).names if not name.startswith(VALUE)]
    return pq.read_table(part.path, columns=names)


def stored(
    store: "FeatureStore", fields: Sequence[FieldSpec], user_key: str, users: Sequence[Any]
) -> dict[str, Sample]:
    """Return the values that the online store has of users, by full name of a feature."""
    if not fields or not users:
        return {}
    response = store.get_online_features(
        features=[f"{f.view}:{f.field}" for f in fields],
        entity_rows=[{user_key: user} for user in users],
        full_feature_names=True,
    ).to_arrow()
    return {f.name: Sample(list(users), [_plain(v) for v in response[f.name].to_pylist()]) for f in fields}


def _users(table: pa.Table) -> list[str]:
    pairs = zip(table["user_id"].to_pylist(), table["session_id"].to_pylist(), strict=True)
    return [user if user is not None else f"session:{session}" for user, session in pairs]


def _selected(f: FieldSpec, of: str) -> str:
    name = f"{of}.{identifier(f.name)}"
    return f"epoch({name})" if f.type.single.is_time else name


def _plain(value: Any, f: FieldSpec | None = None) -> Any:
    """Return a value without the markers of missing ones; times in seconds."""
    if f is not None:
        value = plain(f.type.single)(value)
    if hasattr(value, "timestamp"):
        return value.timestamp()
    if isinstance(value, float):
        return None if value != value else value
    return value
