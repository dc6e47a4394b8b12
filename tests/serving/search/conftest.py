"""Catalogs for the tests of filters: real ones, made of a table and vectors instead of a bundle's files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pytest

from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec
from rf_serving.bundle.reranker import no_item_states
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.mem_segment import LiveItems, MemSegment
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index import ExactIndex, VectorIndex

DTYPES = {
    "item__brand": ("categorical", "String"),
    "item__tags": ("multi", "Array(String)"),
    "item__codes": ("multi", "Array(Int64)"),
    "item__year": ("categorical", "Int64"),
    "item__fresh": ("categorical", "Bool"),
    "item__price": ("numeric", "Float32"),
    "item__weight": ("numeric", "Float64"),
    "item__added": ("timestamp", "UnixTimestamp"),
    "item__text": ("vector", "Array(Float32)"),
    "item__title": ("categorical", "String"),
}


def spec_of(*names: str) -> FeatureSpec:
    """Return a spec with some of the features above, all of them by default; the title is a display field."""
    fields = [
        FieldSpec(
            view="item",
            field=name.removeprefix("item__"),
            side="item",
            kind=cast(Any, DTYPES[name][0]),
            role="display" if name == "item__title" else "feature",
            dtype=DTYPES[name][1],
        )
        for name in (names or DTYPES)
    ]
    return FeatureSpec(
        service="test",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=tuple(fields),
        domains=(),
        history_length=50,
    )


def base_of(vectors: np.ndarray, columns: dict[str, Any], index: VectorIndex | None = None) -> BaseSegment:
    """Return a catalog of items 0, 1, .. with these features."""
    schema = ItemSchema(spec_of(*columns), {"item__text": 2})
    ids = list(range(len(vectors)))
    table = pa.table({"item_id": ids, **columns}, schema=schema.arrow)
    return BaseSegment(
        path=Path(),
        schema=schema,
        ids=ids,
        row_of={item: item for item in ids},
        index=index or ExactIndex.build(vectors),
        vectors_ND=vectors,
        tokens_ND=np.zeros((len(ids), 1), np.float32),
        read_items=lambda: table,
    )


def snapshot_of(base: BaseSegment, dead: Any = (), added: dict[int, Any] | None = None) -> CatalogSnapshot:
    """Return the catalog without the ``dead`` items and with ``added`` ones: vector and features by id."""
    alive = np.ones(base.rows, np.bool_)
    alive[list(dead)] = False
    delta = MemSegment(base)
    for item, (vector, features) in (added or {}).items():
        table = base.schema.table([item], [features])
        items = LiveItems([item], [1], table, vector[None], np.zeros((1, 1), np.float32), no_item_states(1))
        (replaced,) = delta.append(items).tolist()
        alive = np.append(alive, True)
        if replaced >= 0:
            alive[replaced] = False
    return CatalogSnapshot(
        bundle=cast(Any, None),
        base=base,
        delta=delta.view() if delta.rows else None,
        sequence=0,
        live_mask_N=alive,
        alive=int(alive.sum()),
        alive_base=int(alive[: base.rows].sum()),
    )


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., FeatureSpec]:
    return spec_of


@pytest.fixture(scope="session")
def make_base() -> Callable[..., BaseSegment]:
    return base_of


@pytest.fixture(scope="session")
def make_snapshot() -> Callable[..., CatalogSnapshot]:
    return snapshot_of
