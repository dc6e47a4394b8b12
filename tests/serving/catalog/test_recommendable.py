"""Items that say `recommendable: 0` are in the catalog and in histories, and no search returns them."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.dataset import Dataset
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.mem_segment import LiveItems
from rf_serving.catalog.state import CatalogState
from rf_serving.index import ExactIndex
from rf_training.evaluation import EvaluationCases, Split

OFFERED = FieldSpec(view="v", field="r", side="item", kind="categorical", role="recommendable", dtype="Int64")
SPEC = FeatureSpec(
    service="retrieval",
    user=EntitySpec(name="user", join_key="user_id", id_type="string"),
    item=EntitySpec(name="item", join_key="item_id", id_type="string"),
    fields=(OFFERED,),
    domains=(),
    history_length=5,
)
SCHEMA = ItemSchema(SPEC, {})
VECTORS = np.eye(4, dtype=np.float32)


def base() -> BaseSegment:
    """Four items, of which "b" is not offered, and "c" does not say."""
    ids, said = ["a", "b", "c", "d"], [1, 0, None, 1]
    items = SCHEMA.table(ids, [{} if value is None else {"v__r": value} for value in said])
    return BaseSegment(
        path=Path(),
        schema=SCHEMA,
        ids=ids,
        row_of={item: row for row, item in enumerate(ids)},
        index=ExactIndex.build(VECTORS),
        vectors_ND=VECTORS,
        tokens_ND=-VECTORS,
        read_items=lambda: items,
    )


def put(state: CatalogState, item: str, value: int) -> None:
    vector = np.array([[0, 1, 0, 0]], np.float32)
    state.put(
        LiveItems(
            ids=[item],
            sequences=[1],
            table=SCHEMA.table([item], [{"v__r": value}]),
            vectors=vector,
            tokens=-vector,
            item_states=np.zeros((1, 0), np.float16),
        )
    )


def found(snapshot: Any) -> list[str]:
    rows = snapshot.search(np.ones((1, 4), np.float32), 10).rows[0]
    assert sorted(snapshot.texts(rows[rows >= 0])) == sorted(snapshot.texts(snapshot.scan(np.ones(4, np.float32)).rows))
    return sorted(snapshot.texts(rows[rows >= 0].tolist()))


def test_no_search_returns_them_and_the_catalog_has_them() -> None:
    snapshot = CatalogState(cast(Any, SimpleNamespace()), base()).snapshot(0)
    assert found(snapshot) == ["a", "c", "d"]
    assert snapshot.alive == 3
    row = snapshot.rows_of(["b"])
    assert snapshot.live(row).tolist() == [True]
    assert snapshot.tokens(row).tolist() == [(-VECTORS[1]).tolist()]  # a history may have it
    assert snapshot.listed_base == 4


def test_an_upsert_takes_an_item_off_offer_and_back() -> None:
    state = CatalogState(cast(Any, SimpleNamespace()), base())
    put(state, "a", 0)
    assert found(state.snapshot(1)) == ["c", "d"]
    put(state, "b", 1)
    assert found(state.snapshot(2)) == ["b", "c", "d"]
    assert state.snapshot(2).live(state.snapshot(2).rows_of(["a", "b"])).tolist() == [True, True]
    state.remove({"b": 3, "c": 3})
    assert found(state.snapshot(3)) == ["d"]
    assert state.snapshot(3).alive == 1


def test_evaluation_leaves_them_out(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.sequences.hidden is None
    shutil.copytree(dataset.path, tmp_path / "d")
    year = "item_attributes__release_year"
    items = pq.read_table(tmp_path / "d" / "items.parquet")
    said = [0 if item in (3, 7) else 1 for item in items["item_id"].to_pylist()]
    place = items.column_names.index(year)
    pq.write_table(items.set_column(place, items.schema.field(year), pa.array(said)), tmp_path / "d" / "items.parquet")
    fields = tuple(replace(f, role="recommendable") if f.name == year else f for f in dataset.spec.fields)
    copy = replace(dataset, path=tmp_path / "d", spec=replace(dataset.spec, fields=fields))
    hidden = copy.sequences.hidden
    assert hidden is not None
    assert copy.item_ids[hidden].tolist() == [3, 7]
    cases = EvaluationCases.from_sequences(copy.sequences, n_items=copy.n_items, split=Split.TEST)
    assert cases.hidden is hidden
