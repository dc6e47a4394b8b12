"""Vectors of items without one of their features, or without their identity, by the item tower.

Shapes: K items, C causes, D width of the vectors that are searched.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_protos.v1.explanation_pb2 import FeatureCause
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.wire.ids import parse_id
from rf_training.model_scorer import encode_vectors


class ItemsLeftOut(NamedTuple):
    """Items as they are, and without each cause."""

    causes: list[FeatureCause]
    """[C]: the features by full name, and last the identity, ``item_id``."""
    whole_KD: npt.NDArray[np.float32]
    """Vectors of the items as they are, encoded beside the others."""
    without_CKD: npt.NDArray[np.float32]
    """Vectors of the items without each cause; without its identity an item is one with these features that came today."""


def items_left_out(catalog: CatalogSnapshot, rows_K: npt.NDArray[np.int64]) -> ItemsLeftOut:
    """Encode items without each of their features, all in one batch.

    A feature that is left out is missing. Without its identity an item's id is the unknown one, and it counts as an item that
    training never met, shift of cold items included.
    """
    bundle, schema = catalog.bundle, catalog.base.schema
    id_type = bundle.spec.item.id_type
    ids = [parse_id(text, id_type, "item_id") for text in catalog.texts(rows_K.tolist())]
    names = [f.name for f in bundle.spec.inputs("item")]
    items = schema.table(ids, catalog.values(rows_K))
    K, C = len(ids), len(names) + 1
    whole_and_without = [items, *(_missing(items, name) for name in names), items]
    encoded = bundle.encoder.encode_items(pa.concat_tables(whole_and_without))
    cold = np.tile(ItemEncoder(bundle).cold(ids), 1 + C)
    # An id always has one value: the last K are those of the items without identity.
    encoded.ids[ITEM_ID_DOMAIN].values[C * K :] = UNKNOWN_ID
    cold[C * K :] = True
    vectors = encode_vectors(bundle.model, encoded, torch.from_numpy(cold)).numpy().reshape(1 + C, K, -1)
    causes = [FeatureCause(side=FeatureCause.ITEM, name=name) for name in (*names, ITEM_ID_DOMAIN)]
    return ItemsLeftOut(causes, vectors[0], vectors[1:])


def _missing(items: pa.Table, name: str) -> pa.Table:
    column = items.schema.get_field_index(name)
    return items.set_column(
        column, items.schema.field(column), pa.nulls(items.num_rows, items.schema.field(column).type)
    )
