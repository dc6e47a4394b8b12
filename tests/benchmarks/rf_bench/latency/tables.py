"""The table and the verdict of ``rf bench latency``."""

from collections.abc import Mapping
from typing import Any

from rich.filesize import decimal

from rf_bench.latency.options import size_name
from rf_bench.report import Table


def result_table(result: Mapping[str, Any]) -> Table:
    """Return a row for each size and kind."""
    heads = "items, kind, recall@10, recall@100, p50 ms, p99 ms, CPU ms, faster, index, build s, effort"
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
                    ", ".join(f"{e['probes']} probes, {e['refine_k']} re-scored" for e in efforts),
                )
            )
    return Table(
        caption="Search on one thread, 100 results a query; CPU time is that of a query, building is in CPU seconds",
        heads=heads.split(", "),
        rows=rows,
        labels=2,
        page_only=("effort",),
    )


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
