"""The memory of embedding tables, as tables for people (R22)."""

from rich.table import Table

from rf_platform.cli.byte_size import byte_size
from rf_platform.dataset.memory import MemoryReport


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
