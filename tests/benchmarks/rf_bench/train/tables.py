"""The figures of `rf bench train` as tables for people."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from rf_bench.train.rig import PARTS
from rf_bench.train.summary import COMMUNICATION
from rf_platform.cli.byte_size import byte_size
from rf_training.model.embeddings import PREFIX


def result_tables(result: dict[str, Any]) -> Iterator[Table]:
    """Yield a table of each comparison, and one of the targets."""
    tables, processes = result["tables"], result["processes"]
    yield from _rigs("one process: TorchRec's tables and plain ones", tables["rigs"], tables["speed"], "of plain")
    yield from _rigs(
        "one process and several, each in processes of its own", processes["rigs"], processes["speed"], "of one"
    )
    for each in result["objectives"]:
        title = (
            f"objectives: {each['items']:,} items, {each['batch']} sequences with one target each, {each['dim']} wide"
        )
        yield from _rigs(title, each["rigs"], each["speed"], "of full")
    yield _memory(tables["memory"])
    table = Table(title="targets", title_justify="left")
    for column in ("target", "found", ""):
        table.add_column(column)
    for target in result["targets"]:
        table.add_row(target["target"], target["value"], "met" if target["met"] else "missed")
    yield table


def _rigs(title: str, rigs: list[dict[str, Any]], speed: dict[str, dict[str, float]], ratio: str) -> Iterator[Table]:
    several = len({rig["processes"] for rig in rigs}) > 1
    names = [f"{rig['name']} x {rig['processes']}" if several else rig["name"] for rig in rigs]
    table = Table(title=title, title_justify="left")
    table.add_column("training")
    for column in ("ms a step", "CPU ms", "sequences/s", "events/s", "memory", ratio, "by CPU"):
        table.add_column(column, justify="right")
    for name, rig in zip(names, rigs, strict=True):
        compared = speed.get(rig["name"]) if not several or rig["processes"] > 1 else None
        table.add_row(
            name,
            f"{rig['step_seconds'] * 1e3:,.1f}",
            f"{rig['cpu_seconds'] * 1e3:,.1f}",
            f"{rig['sequences_per_second']:,.0f}",
            f"{rig['events_per_second']:,.0f}",
            byte_size(rig["peak_bytes"]),
            f"{compared['median']:.2f}x" if compared else "",
            f"{compared['cpu']:.2f}x" if compared else "",
        )
    yield table
    shares = Table(title="share of a step", title_justify="left")
    shares.add_column("training")
    for part in (*PARTS, COMMUNICATION):
        shares.add_column(part, justify="right")
    for name, rig in zip(names, rigs, strict=True):
        shares.add_row(name, *(f"{rig['shares'][part]:.1%}" for part in (*PARTS, COMMUNICATION)))
    yield shares


def _memory(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="memory of the tables: counted on the tensors, and by arithmetic", title_justify="left")
    table.add_column("table")
    table.add_column("rows", justify="right")
    table.add_column("optimiser")
    for column in ("weights", "expected", "state", "expected"):
        table.add_column(column, justify="right")
    for row in rows:
        sizes = ("weights_bytes", "expected_weights_bytes", "state_bytes", "expected_state_bytes")
        table.add_row(
            row["table"].removeprefix(PREFIX),
            f"{row['rows']:,}",
            row["optimizer"],
            *(byte_size(row[size]) for size in sizes),
        )
    return table
