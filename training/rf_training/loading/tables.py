"""Encode a table of items or users some rows at a time: what is held is what the model reads, not the raw values beside it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.features.encode import EncodedTable, Jagged

ROWS_AT_ONCE = 1 << 20
"""Rows whose raw values are in memory; fewer would look the values up in more rounds, each of which prepares the vocabulary."""


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
