"""The tables of ``rf bench train``."""

from collections.abc import Iterator
from typing import Any

from rf_bench.report import Table
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
    yield Table(
        caption="targets",
        heads=("target", "found", ""),
        rows=[(each["target"], each["value"], "met" if each["met"] else "missed") for each in result["targets"]],
        labels=3,
    )


def _rigs(title: str, rigs: list[dict[str, Any]], speed: dict[str, dict[str, float]], ratio: str) -> Iterator[Table]:
    several = len({rig["processes"] for rig in rigs}) > 1
    names = [f"{rig['name']} x {rig['processes']}" if several else rig["name"] for rig in rigs]
    compared = [speed.get(rig["name"]) if not several or rig["processes"] > 1 else None for rig in rigs]
    yield Table(
        caption=title,
        heads=("training", "ms a step", "CPU ms", "sequences/s", "events/s", "memory", ratio, "by CPU"),
        rows=[
            (
                name,
                f"{rig['step_seconds'] * 1e3:,.1f}",
                f"{rig['cpu_seconds'] * 1e3:,.1f}",
                f"{rig['sequences_per_second']:,.0f}",
                f"{rig['events_per_second']:,.0f}",
                byte_size(rig["peak_bytes"]),
                f"{beside['median']:.2f}x" if beside else "",
                f"{beside['cpu']:.2f}x" if beside else "",
            )
            for name, rig, beside in zip(names, rigs, compared, strict=True)
        ],
    )
    parts = (*PARTS, COMMUNICATION)
    shares = [(name, *(f"{rig['shares'][part]:.1%}" for part in parts)) for name, rig in zip(names, rigs, strict=True)]
    yield Table(caption="share of a step", heads=("training", *parts), rows=shares)


def _memory(rows: list[dict[str, Any]]) -> Table:
    sizes = ("weights_bytes", "expected_weights_bytes", "state_bytes", "expected_state_bytes")
    return Table(
        caption="memory of the tables: counted on the tensors, and by arithmetic",
        heads=("table", "optimiser", "rows", "weights", "expected", "state", "expected"),
        rows=[
            (
                row["table"].removeprefix(PREFIX),
                row["optimizer"],
                f"{row['rows']:,}",
                *(byte_size(row[size]) for size in sizes),
            )
            for row in rows
        ],
        labels=2,
    )
