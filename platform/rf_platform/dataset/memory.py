"""Memory of a model's embedding tables, by arithmetic alone, and as tables for people (R22): no model is built."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from rf_platform.features.spec import ITEM_ID_DOMAIN, FeatureSpec
from rf_platform.text import byte_size

FLOAT_BYTES = 4
ADAMW_FLOATS = 2
"""Floats of state that AdamW keeps for every weight: running means of the gradient and of its square."""


@dataclass(frozen=True, kw_only=True)
class TableMemory:
    """One embedding domain: its shared table, and what its features would take with tables of their own."""

    domain: str
    rows: int
    """Rows of the table, padding and unknown among them."""
    dim: int
    """Width."""
    uses: tuple[str, ...]
    """Places where the table is read, such as ``items__genres (item)``; an item's features are read in two places: where the item
    stands for itself, and where it stands in a history."""

    @property
    def parameters(self) -> int:
        """Weights of the shared table."""
        return self.rows * self.dim

    @property
    def unshared_rows(self) -> int:
        """Rows of the tables that every use would have of its own."""
        return self.rows * len(self.uses)

    @property
    def unshared_parameters(self) -> int:
        """Weights of the tables that every use would have of its own."""
        return self.unshared_rows * self.dim

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {
            "domain": self.domain,
            "rows": self.rows,
            "dim": self.dim,
            "uses": list(self.uses),
            "shared": _sizes(self.parameters, self.rows),
            "unshared": _sizes(self.unshared_parameters, self.unshared_rows),
        }


@dataclass(frozen=True, kw_only=True)
class MemoryReport:
    """The tables of a dataset's features beside one embedding per item."""

    items: int
    """Size of the catalog."""
    dim: int
    """Width of an item's embedding."""
    attributes: tuple[TableMemory, ...]
    """Tables of a model that knows items by their features alone."""
    with_item_id: tuple[TableMemory, ...]
    """Tables of a model that has the item's id as one more feature."""

    @property
    def choices(self) -> dict[str, tuple[int, int]]:
        """Weights and rows of each way to represent the catalog, by its name; the first is what the others are compared with."""
        return {
            "one embedding per item": (self.items * self.dim, self.items),
            "feature tables": _total(self.attributes),
            "feature tables, un-shared": _total(self.attributes, shared=False),
            "feature tables and item id": _total(self.with_item_id),
            "feature tables and item id, un-shared": _total(self.with_item_id, shared=False),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return all figures as plain data."""
        return {
            "items": self.items,
            "dim": self.dim,
            "tables": [table.to_dict() for table in self.with_item_id],
            "choices": {name: _sizes(*counts) for name, counts in self.choices.items()},
        }


def memory_report(
    spec: FeatureSpec, rows: Mapping[str, int], *, items: int, dim: int, feature_dim: int | None = None
) -> MemoryReport:
    """Work out the tables of a model over a dataset's features.

    Args:
        spec: the features.
        rows: rows of every domain, as a dataset's manifest has them under ``vocabularies``.
        items: size of the catalog.
        dim: width of the item id's table (``model.dim``).
        feature_dim: width of the other tables (``model.feature_dim``); None for the same.
    """
    widths = (dim, feature_dim or dim)
    return MemoryReport(
        items=items,
        dim=dim,
        attributes=_tables(spec, rows, *widths, item_id=False),
        with_item_id=_tables(spec, rows, *widths, item_id=True),
    )


def _tables(
    spec: FeatureSpec, rows: Mapping[str, int], dim: int, feature_dim: int, *, item_id: bool
) -> tuple[TableMemory, ...]:
    """Return the tables that are used at all, the largest first."""
    uses: dict[str, list[str]] = {}
    if item_id:
        uses[ITEM_ID_DOMAIN] = ["item_id (item)", "item_id (history)"]
    for domain in spec.semantic_domains:
        uses[domain.name] = [f"{domain.name} (item)", f"{domain.name} (history)"]
    for side in ("item", "user", "context"):
        for f in spec.inputs(side):
            if f.domain is not None:
                places = ("item", "history") if side == "item" else (side,)
                uses.setdefault(f.domain, []).extend(f"{f.name} ({place})" for place in places)
    tables = (
        TableMemory(
            domain=domain,
            rows=rows[domain],
            dim=dim if domain == ITEM_ID_DOMAIN else feature_dim,
            uses=tuple(where),
        )
        for domain, where in uses.items()
    )
    return tuple(sorted(tables, key=lambda table: (-table.parameters, table.domain)))


def _total(tables: Iterable[TableMemory], *, shared: bool = True) -> tuple[int, int]:
    tables = tuple(tables)
    if shared:
        return sum(t.parameters for t in tables), sum(t.rows for t in tables)
    return sum(t.unshared_parameters for t in tables), sum(t.unshared_rows for t in tables)


def _sizes(parameters: int, rows: int) -> dict[str, int]:
    """Return bytes of weights and of the optimisers' states.

    Row-wise Adagrad keeps one float a row, whatever the width: the mean square of the row's gradients.
    """
    return {
        "parameters": parameters,
        "rows": rows,
        "weights_bytes": parameters * FLOAT_BYTES,
        "adamw_state_bytes": parameters * ADAMW_FLOATS * FLOAT_BYTES,
        "rowwise_adagrad_state_bytes": rows * FLOAT_BYTES,
    }


def memory_tables(report: MemoryReport) -> tuple[Table, Table]:
    """Return one table of the embedding domains and one of the ways to represent the catalog."""
    return _domains(report), _choices(report)


def _domains(report: MemoryReport) -> Table:
    table = Table(title="embedding tables, one per domain", title_justify="left")
    for column in ("domain", "read by"):
        table.add_column(column)
    for column in ("rows", "dim", "weights", "un-shared", "AdamW state", "row-wise Adagrad"):
        table.add_column(column, justify="right")
    for domain in report.to_dict()["tables"]:
        shared = domain["shared"]
        table.add_row(
            domain["domain"],
            _read_by(domain["uses"]),
            f"{domain['rows']:,}",
            str(domain["dim"]),
            byte_size(shared["weights_bytes"]),
            byte_size(domain["unshared"]["weights_bytes"]),
            byte_size(shared["adamw_state_bytes"]),
            byte_size(shared["rowwise_adagrad_state_bytes"]),
        )
    return table


def _choices(report: MemoryReport) -> Table:
    table = Table(
        title=f"a catalog of {report.items:,} items, {report.dim} wide: weights and what an optimiser keeps beside them",
        title_justify="left",
    )
    table.add_column("what is embedded")
    for column in ("parameters", "weights", "with AdamW", "with row-wise Adagrad", "of the first"):
        table.add_column(column, justify="right")
    choices = report.to_dict()["choices"]
    first = next(iter(choices.values()))["parameters"]
    for name, sizes in choices.items():
        weights = sizes["weights_bytes"]
        table.add_row(
            name,
            f"{sizes['parameters']:,}",
            byte_size(weights),
            byte_size(weights + sizes["adamw_state_bytes"]),
            byte_size(weights + sizes["rowwise_adagrad_state_bytes"]),
            f"{sizes['parameters'] / first:.2f}x" if first else "-",
        )
    return table


def _read_by(uses: list[str]) -> str:
    """Put the places of a feature behind its name once, without the name of its view."""
    places: dict[str, list[str]] = {}
    for use in uses:
        name, _, place = use.partition(" ")
        places.setdefault(name.rpartition("__")[2], []).append(place.strip("()"))
    return "\n".join(f"{name}: {', '.join(found)}" for name, found in places.items())
