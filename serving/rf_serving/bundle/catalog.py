"""Display fields and features of a bundle's items, for people."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.features.spec import FeatureSpec
from rf_serving.bundle import files


class BundleItems:
    """Display fields and features of a bundle's items."""

    def __init__(self, spec: FeatureSpec, table: pa.Table) -> None:
        self._key, self._table = spec.item.join_key, table
        self.display = [f.name for f in spec.carried("item") if f.role == "display"]
        """Full names of the fields that are made for people."""
        self.features = [f.name for f in spec.inputs("item")]
        """Full names of the model's features."""

    @classmethod
    def open(cls, directory: Path) -> "BundleItems":
        """Read the items of a bundle."""
        return cls(FeatureSpec.load(directory / files.SPEC), pq.read_table(directory / files.ITEMS))

    def describe(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return the fields of the given items, by id, as they are written in replies."""
        texts = self._table[self._key].cast(pa.string())
        chosen = self._table.filter(pc.is_in(texts, value_set=pa.array(set(ids), pa.string())))
        return {
            str(row[self._key]): row for row in chosen.select([self._key, *self.display, *self.features]).to_pylist()
        }
