"""Size of a model, read from its saved weights alone."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

_TABLE = re.compile(r"embedding_bags\.(?P<name>.+)\.weight$")


@dataclass(frozen=True, kw_only=True)
class TableSize:
    """One embedding table."""

    name: str
    rows: int
    width: int
    size: int
    """Bytes."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """Parameters and bytes of a model."""

    parts: dict[str, int]
    """Number of parameters of each part of the model, embedding tables among them."""
    tables: tuple[TableSize, ...]
    """Largest first."""

    @property
    def parameters(self) -> int:
        """Number of parameters in all."""
        return sum(self.parts.values())

    @property
    def table_bytes(self) -> int:
        """Bytes of all embedding tables."""
        return sum(table.size for table in self.tables)


def model_size(weights: Mapping[str, Tensor]) -> ModelSize:
    """Measure a state dictionary; a part is the first component of a name, such as ``user_tower``."""
    parts: Counter[str] = Counter()
    tables = []
    for name, weight in weights.items():
        if name == "cold_shift":  # set after training, no parameter
            continue
        parts[name.partition(".")[0]] += weight.numel()
        if match := _TABLE.search(name):
            rows, width = weight.shape
            tables.append(
                TableSize(name=match["name"], rows=rows, width=width, size=weight.numel() * weight.element_size())
            )
    return ModelSize(parts=dict(parts.most_common()), tables=tuple(sorted(tables, key=lambda t: (-t.size, t.name))))
