"""Sample of a workspace's events, with the row of a view that held at each, or a day before or after it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.sparse import csr_matrix, hstack, identity

from rf_platform.dataset.asof import join_sql, latest_sql
from rf_platform.dataset.build import DatasetBuilder, rows_table
from rf_platform.dataset.canaries.probe import LOOKED_AT, Coded, Ints
from rf_platform.dataset.protocols.event_log import TRAIN, VALIDATION
from rf_platform.dataset.splitting import split_events
from rf_platform.errors import DataError
from rf_platform.features.read import ViewSource
from rf_platform.features.spec import FieldSpec
from rf_platform.sql import identifier

TRAINING_EVENTS, VALIDATION_EVENTS, CANDIDATES = 50_000, 5_000, 50


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """Events of one split."""

    user_id: pa.Array
    at: pa.Array
    user_E: Ints
    candidates_EC: Ints
    """The taken item first, then items drawn by popularity."""


class Sample:
    """Events of a builder that has read its log, drawn at random, and the views' rows at them."""

    def __init__(self, builder: DatasetBuilder, seed: int = 0) -> None:
        self._builder, self._db = builder, builder.db
        self.spec = builder.spec
        split_events(self._db, builder.protocol, builder.content.parent)
        self._coded: dict[str, Coded] = {}
        items = self._db.execute("SELECT id FROM item_index ORDER BY item").to_arrow_table()
        self._item_ids = items["id"].combine_chunks()
        random = np.random.default_rng(seed)
        trained = self._db.execute(f"SELECT item FROM log WHERE split = {TRAIN} ORDER BY event").to_arrow_table()
        popular = trained["item"].to_numpy()
        self.training = self._part(TRAIN, TRAINING_EVENTS, 1, popular, random)
        self.validation = self._part(VALIDATION, VALIDATION_EVENTS, CANDIDATES, popular, random)

    def _part(
        self, split: int, most: int, others: int, popular: npt.NDArray[np.int32], random: np.random.Generator
    ) -> Part:
        table = self._db.execute(
            f'SELECT "user", item, user_id, event_timestamp FROM log WHERE split = {split} ORDER BY event'
        ).to_arrow_table()
        if not table.num_rows:
            raise DataError("the protocol of the newest dataset leaves no validation events to measure a canary by")
        if table.num_rows > most:
            table = table.take(pa.array(np.sort(random.choice(table.num_rows, most, replace=False))))
        taken = table["item"].to_numpy().astype(np.int64)
        drawn = popular[random.integers(len(popular), size=(len(taken), others))].astype(np.int64)
        return Part(
            user_id=table["user_id"].combine_chunks(),
            at=table["event_timestamp"].combine_chunks(),
            user_E=table["user"].to_numpy().astype(np.int64),
            candidates_EC=np.column_stack([taken, drawn]),
        )

    def fields(self, source: ViewSource) -> list[FieldSpec]:
        """Return the fields of a view that are looked at."""
        return [f for f in self.spec.inputs(source.side) if f.view == source.view and f.kind in LOOKED_AT]

    def coded(self, source: ViewSource) -> Coded:
        """Return the distinct rows of a view, coded, in the order of :meth:`rows_at`."""
        if source.view not in self._coded:
            fields = self.fields(source)
            selected = ", ".join(
                f"epoch({identifier(f.name)})" if f.kind == "timestamp" else identifier(f.name) for f in fields
            )
            distinct = f"SELECT * FROM {rows_table(source)} QUALIFY row_number() OVER (PARTITION BY rid) = 1"
            table = self._db.execute(f"SELECT {selected} FROM ({distinct}) ORDER BY rid").to_arrow_table()
            self._coded[source.view] = Coded.of(fields, [column.to_pylist() for column in table.columns])
        return self._coded[source.view]

    def of_users(self, source: ViewSource, part: Part, look_us: int) -> Ints:
        """Return the row of a user view at each event, looked up so many microseconds after it."""
        return self._rows_at(source, part.user_id, part.at, look_us)

    def of_items(self, source: ViewSource, part: Part, look_us: int) -> Ints:
        """Return the row of an item view for each candidate of each event, event by event."""
        count = part.candidates_EC.shape[1]
        ids = self._item_ids.take(pa.array(part.candidates_EC.ravel()))
        return self._rows_at(source, ids, part.at.take(pa.array(np.repeat(np.arange(len(part.at)), count))), look_us)

    def _rows_at(self, source: ViewSource, keys: pa.Array, at: pa.Array, look_us: int) -> Ints:
        asked = pa.table({"event": pa.array(np.arange(len(keys))), "key": keys, "moment": at})
        self._db.register("asked", asked)
        log = f"(SELECT event, key, moment + to_microseconds({look_us}) AS event_timestamp FROM asked)"
        joined = join_sql(source, rows_table(source), log, "key")
        return self._numbered(source, f"SELECT event AS place, rid FROM ({joined})")

    def _numbered(self, source: ViewSource, query: str) -> Ints:
        """Return the rows of a query over ``place`` and ``rid`` by place, numbered as :meth:`coded` has them."""
        rows = rows_table(source)
        found = self._db.execute(
            f"""WITH numbers AS (
                SELECT rid, row_number() OVER (ORDER BY rid) - 1 AS number FROM (SELECT DISTINCT rid FROM {rows})
            )
            SELECT coalesce(number, (SELECT count(*) FROM numbers)) AS number
            FROM ({query}) LEFT JOIN numbers USING (rid) ORDER BY place"""
        ).to_arrow_table()
        numbers: Ints = found["number"].to_numpy().astype(np.int64)
        return numbers

    def attributes(self) -> csr_matrix:
        """Return the attributes of all items: each itself, and the values that it has now in item views."""
        parts = [identity(len(self._item_ids), format="csr")]
        for source in self._builder.sources:
            if source.side == "item" and self.fields(source):
                latest = latest_sql(source, rows_table(source), self._builder.moment_us)
                query = f"SELECT x.item AS place, l.rid FROM item_index x LEFT JOIN ({latest}) l ON l.key = x.id"
                parts.append(self.coded(source).rows[self._numbered(source, query)])
        return hstack(parts, format="csr")
