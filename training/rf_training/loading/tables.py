"""Encoded tables of items and users, made some rows at a time: raw values are never held as a whole."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.dataset import Dataset
from rf_platform.features.jagged import EncodedTable, Jagged
from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.features.vocabulary import UNKNOWN_ID

ROWS_AT_ONCE = 1 << 20
"""Rows with raw values in memory; fewer would look the values up in more rounds, each of which prepares the vocabulary."""


@dataclass(frozen=True, eq=False)
class EncodedSides:
    """Encoded features of all items and all users: the same for training and for everything that is measured after it."""

    items: EncodedTable
    """Every state of every item, in the order of the dataset's ``items``."""
    users: EncodedTable
    """Every state of every user's profile, in the order of the dataset's ``users``."""

    @classmethod
    def of(cls, dataset: Dataset) -> "EncodedSides":
        """Encode a dataset's items and users."""
        encoder, profile = dataset.encoder, dataset.spec.inputs("user")
        return cls(
            items=encode_file(dataset.path / "items.parquet", encoder.encode_items),
            users=encode_file(dataset.path / "users.parquet", lambda table: encoder.encode(table, profile)),
        )


def without_ids(sides: EncodedSides, unnamed: npt.NDArray[np.bool_]) -> EncodedSides:
    """Return the items and users with the ids of some states of items unknown."""
    items = sides.items
    ids = items.ids[ITEM_ID_DOMAIN]  # an id always has one value
    unknown = replace(ids, values=np.where(unnamed, UNKNOWN_ID, ids.values).astype(ids.values.dtype))
    return replace(sides, items=replace(items, ids={**items.ids, ITEM_ID_DOMAIN: unknown}))


def encode_file(path: Path, encode: Callable[[pa.Table], EncodedTable]) -> EncodedTable:
    """Encode all rows of a Parquet file.

    Args:
        path: the file.
        encode: encodes some rows; how a row is encoded must not depend on the others.
    """
    file = pq.ParquetFile(path)
    parts = [encode(pa.Table.from_batches([batch])) for batch in file.iter_batches(ROWS_AT_ONCE)]
    return joined(parts) if parts else encode(file.schema_arrow.empty_table())


def joined(parts: list[EncodedTable]) -> EncodedTable:
    """Return the rows of all parts, one part after the other; the parts have the same features."""
    first = parts[0]
    if len(parts) == 1:
        return first
    return EncodedTable(
        rows=sum(part.rows for part in parts),
        ids={
            name: Jagged(
                np.concatenate([part.ids[name].values for part in parts]),
                np.concatenate([part.ids[name].lengths for part in parts]),
            )
            for name in first.ids
        },
        numbers={name: np.concatenate([part.numbers[name] for part in parts]) for name in first.numbers},
        vectors={name: np.concatenate([part.vectors[name] for part in parts]) for name in first.vectors},
    )
