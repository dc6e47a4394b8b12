"""The sharding plan of a run, for people and on disk."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from rf_platform.cli.byte_size import byte_size
from rf_training.distributed.plan import TablePlan

FILE = "sharding.json"


def plan_table(tables: Sequence[TablePlan], processes: int) -> Table:
    """Return the plan as a table: every embedding table, where it lies, and what trains it."""
    title = f"Embedding tables on {processes} {'process' if processes == 1 else 'processes'}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in ("table", "rows", "dim", "sharding", "kernel", "optimiser", "ranks", "weights", "state"):
        table.add_column(column, justify="right" if column in ("rows", "dim", "weights", "state") else "left")
    for t in tables:
        ranks = "all" if len(t.ranks) == processes > 1 else ", ".join(map(str, t.ranks))
        sizes = (byte_size(t.weight_bytes), byte_size(t.state_bytes))
        table.add_row(t.table, f"{t.rows:,}", str(t.dim), t.sharding, t.kernel, t.optimizer, ranks, *sizes)
    return table


def write_plan(directory: Path, tables: Sequence[TablePlan], processes: int, device: str) -> None:
    """Store the plan in a run's ``sharding.json``; a run that goes on with other processes replaces it."""
    document = {"processes": processes, "device": device, "tables": [asdict(t) for t in tables]}
    (directory / FILE).write_text(json.dumps(document, indent=2) + "\n")
