"""The results as a table for people."""

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal
from rich.table import Table

from rf_bench.latency.options import size_name

HEADS = (
    "items",
    "kind",
    "recall@10",
    "recall@100",
    "p50 ms",
    "p99 ms",
    "CPU ms",
    "faster",
    "index",
    "build s",
    "effort",
)
"""The last one is for the page only."""
SHORT = len(HEADS) - 1


def result_rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the cells under :data:`HEADS`, a row for each size and kind."""
    rows: list[tuple[str, ...]] = []
    for size in result["sizes"]:
        for kind, found in size["kinds"].items():
            build = found["build"]
            efforts = build["settings"].get("efforts", [])
            rows.append(
                (
                    size_name(size["items"]),
                    kind,
                    f"{found['recall']['10']:.4f}",
                    f"{found['recall']['100']:.4f}",
                    f"{found['ms']['p50']:.3g}",
                    f"{found['ms']['p99']:.3g}",
                    f"{found['cpu_ms']['p50']:.3g}",
                    "1" if kind == "exact" else f"{found['speedup']['p50']:.3g}x",
                    decimal(build["index_bytes"]) if build["index_bytes"] else "",
                    f"{build['cpu_seconds']:,.0f}" if build["index_bytes"] else "",
                    ", ".join(f"{e['width']} wide, {e['short_list']} re-scored" for e in efforts),
                )
            )
    return rows


def result_table(result: Mapping[str, Any]) -> Table:
    """Return a table for the terminal."""
    table = Table(title="Search on one thread, 100 results a query")
    for head in HEADS[:SHORT]:
        table.add_column(head, justify="left" if head in ("items", "kind") else "right")
    for row in result_rows(result):
        table.add_row(*row[:SHORT])
    return table


def markdown(result: Mapping[str, Any]) -> str:
    """Return the table as Markdown, for a document."""
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(row) + " |" for row in result_rows(result)]
    return "\n".join(lines) + "\n"


def verdict(result: Mapping[str, Any]) -> str | None:
    """Say in a sentence whether the target is met; None where it does not apply."""
    target = result["target"]
    if target is None:
        return None
    return (
        f"{'target met' if target['met'] else 'target missed'}: IVF-PQ is {target['measured_speedup']:.0f} times faster than the "
        f"exact scan of {size_name(target['items'])} items at recall@100 {target['measured_recall']:.4f}; asked for are "
        f"{target['speedup']:.0f} times at {target['recall']}"
    )
