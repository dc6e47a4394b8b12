"""Values to embedding ids: 0 = padding or missing, 1 = unknown, 2.. = values by falling frequency in the training split (R1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.failures import reading
from rf_platform.features.dtype import MISSING_INTEGER, MISSING_STRING
from rf_platform.features.spec import DomainSpec, IdType

PADDING_ID = 0
UNKNOWN_ID = 1
FIRST_ID = 2


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The id map of one embedding domain, learned or hashed."""

    domain: DomainSpec
    values: pa.Array
    """Known values in id order, the first one has id 2; empty for a hashed domain."""
    counts: np.ndarray
    """Occurrences of each value in the training split, int64."""

    @classmethod
    def hashed(cls, domain: DomainSpec) -> "Vocabulary":
        """Return the id map of a domain with a hash policy."""
        return cls(domain, pa.array([], arrow_type(domain.value_type)), np.zeros(0, np.int64))

    @property
    def rows(self) -> int:
        """Rows of the embedding table, the two reserved ones included."""
        return FIRST_ID + (len(self.values) if self.domain.buckets is None else self.domain.buckets)

    def encode(self, values: pa.Array) -> np.ndarray:
        """Return int64 ids of ``values``; null becomes 0, a value that is not known becomes 1."""
        values = values.cast(arrow_type(self.domain.value_type))
        if self.domain.buckets is not None:
            return self._hash(values)
        found = pc.fill_null(pc.index_in(values, value_set=self.values), UNKNOWN_ID - FIRST_ID)
        ids: np.ndarray = found.to_numpy(zero_copy_only=False).astype(np.int64) + FIRST_ID
        ids[values.is_null().to_numpy(zero_copy_only=False)] = PADDING_ID
        return ids

    def encode_plain(self, values: Sequence[Any]) -> np.ndarray:
        """Return int64 ids of plain values; None and the markers of history arrays become 0, others as in :meth:`encode`."""
        if self.domain.buckets is not None:
            return self.encode(without_markers(pa.array(values, arrow_type(self.domain.value_type))))
        return np.fromiter(map(self._ids.get, values, repeat(UNKNOWN_ID)), np.int64, len(values))

    @cached_property
    def _ids(self) -> dict[Any, int]:
        ids: dict[Any, int] = {value: FIRST_ID + n for n, value in enumerate(self.values.to_pylist())}
        return ids | dict.fromkeys((None, _marker(self.domain.value_type)), PADDING_ID)

    def _hash(self, values: pa.Array) -> np.ndarray:
        missing = values.is_null().to_numpy(zero_copy_only=False)
        filled = values.fill_null("" if self.domain.value_type == "string" else 0)
        plain = filled.to_numpy(zero_copy_only=False)
        hashed = pd.util.hash_array(plain, categorize=False)
        assert self.domain.buckets is not None
        ids: np.ndarray = (hashed % np.uint64(self.domain.buckets)).astype(np.int64) + FIRST_ID
        ids[missing] = PADDING_ID
        return ids

    @cached_property
    def as_table(self) -> pa.Table:
        """The vocabulary as a table of value, id and count."""
        ids = np.arange(FIRST_ID, FIRST_ID + len(self.values))
        return pa.table({"value": self.values, "id": ids, "count": self.counts})

    def save(self, path: Path) -> None:
        """Write the vocabulary as Parquet."""
        pq.write_table(self.as_table, path)

    @classmethod
    def load(cls, domain: DomainSpec, path: Path) -> "Vocabulary":
        """Read a vocabulary written by :meth:`save`.

        Raises:
            CorruptError: the file is missing or damaged.
        """
        with reading(path, "restore it, or build again what it belongs to"):
            table = pq.read_table(path)
            return cls(domain, table["value"].combine_chunks(), table["count"].to_numpy())


def arrow_type(value_type: IdType) -> pa.DataType:
    """Return the Arrow type of a domain's values."""
    return pa.string() if value_type == "string" else pa.int64()


def without_markers(values: pa.Array) -> pa.Array:
    """Turn the markers that stand for missing values inside history arrays back into nulls."""
    marker = _marker("string" if pa.types.is_string(values.type) else "int64")
    return pc.if_else(pc.equal(values, marker), pa.scalar(None, values.type), values)


def _marker(value_type: IdType) -> str | int:
    return MISSING_STRING if value_type == "string" else MISSING_INTEGER
