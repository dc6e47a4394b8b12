"""A synthetic catalog with an index and with features to filter by.

Shapes: N items, B queries, D width.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_bench.latency.step import QUERIES, VECTORS
from rf_bench.latency.towers import item_vectors, query_vectors, trained_towers
from rf_bench.latency.world import CHUNK, World, feature_encoder
from rf_platform.features.jagged import Jagged
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index import INDEX_KINDS, ApproximateIndex, open_index, tune

RECALL = 0.95
"""That the index is tuned for, as `rf index build` does."""
INDEXES = {"hnsw": "graph", "ivf-pq": "lists"}
"""Approximate kinds, and the names of their files."""
LOT, PRICE, TOPIC, TAGS = "item__lot", "item__price", "item__topic", "item__tags"


@dataclass(frozen=True, eq=False)
class FilteredCatalog:
    """Catalog and queries of the benchmark."""

    spec: FeatureSpec
    catalog: CatalogSnapshot
    queries_BD: npt.NDArray[np.float32]


def filtered_catalog(
    root: Path,
    items: int,
    queries: int,
    *,
    dim: int,
    seed: int,
    steps: int,
    kind: str = "hnsw",
    tags: Callable[[Jagged, npt.NDArray[np.int64], int], pa.Array] | None = None,
) -> FilteredCatalog:
    """Encode and index a catalog, or read what an earlier run left in ``root``.

    Its items have a price that follows their topic, a topic, and a lot that nothing follows.

    Args:
        root: directory of the files.
        items: number of items.
        queries: most queries, from users that the towers did not see.
        dim: width of the towers.
        seed: of the catalog.
        steps: that the towers are trained for.
        kind: of the index, one of :data:`INDEXES`.
        tags: makes the items' tags of those of their topics, their brands and the seed; default: those of their topics.
    """
    world, directory = World(seed), root / f"{items}-{dim}-{seed}-{steps}"
    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / QUERIES).exists():
        model = trained_towers(world, dim, steps, directory / "towers")
        np.save(directory / VECTORS, np.concatenate(list(item_vectors(model, world, items, CHUNK))))
        np.save(directory / QUERIES, query_vectors(model, world, items, 1000))
    vectors_ND: npt.NDArray[np.float32] = np.load(directory / VECTORS, mmap_mode="r")
    drawn_BD = np.load(directory / QUERIES)
    path = directory / f"{INDEXES[kind]}.faiss"
    settings = path.with_suffix(".json")
    if not settings.exists():
        index = INDEX_KINDS[kind].build(vectors_ND)
        assert isinstance(index, ApproximateIndex)
        tune(index, vectors_ND, drawn_BD[1::2], RECALL)
        index.save(path)
        settings.write_text(json.dumps(index.settings))
    encoder = feature_encoder()
    lot = FieldSpec(view="item", field="lot", side="item", kind="numeric", role="display", dtype="Float64")
    spec = replace(encoder.spec, fields=tuple(sorted((*encoder.spec.fields, lot), key=lambda f: f.name)))
    schema = ItemSchema(spec, encoder.widths, encoder.numeric)
    base = BaseSegment(
        path=directory,
        schema=schema,
        ids=range(items),
        row_of={},
        index=open_index(kind, path, vectors_ND, json.loads(settings.read_text())),
        vectors_ND=vectors_ND,
        tokens_ND=np.zeros((0, dim), np.float32),
        read_items=lambda: _table(world, items, schema, tags),
    )
    live_mask_N = np.ones(items, np.bool_)
    catalog = CatalogSnapshot(
        # Searching needs nothing of a bundle.
        bundle=cast(Any, None),
        base=base,
        sequence=0,
        live_mask_N=live_mask_N,
        alive=items,
        alive_base=items,
    )
    return FilteredCatalog(spec, catalog, drawn_BD[::2][:queries])


def _table(
    world: World, items: int, schema: ItemSchema, tags: Callable[[Jagged, npt.NDArray[np.int64], int], pa.Array] | None
) -> pa.Table:
    encoded = world.items(0, items)

    def lists(bags: Jagged) -> pa.Array:
        offsets = np.concatenate([bags.starts, [len(bags.values)]]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(bags.values))

    brands = encoded.ids["item__brand"].values
    columns = {
        "item_id": np.arange(items),
        LOT: np.random.default_rng(world.seed).random(items),
        PRICE: encoded.numbers[PRICE].astype(np.float64),
        TOPIC: encoded.ids[TOPIC].values,
        "item__brand": brands,
        TAGS: tags(encoded.ids[TAGS], brands, world.seed) if tags else lists(encoded.ids[TAGS]),
    }
    return schema.cast(pa.table(columns))
