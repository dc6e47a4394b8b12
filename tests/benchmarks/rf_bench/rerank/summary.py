"""Ratios of what was measured, and the tables that show them."""

from collections.abc import Mapping, Sequence
from typing import Any

from rf_bench.report import Table
from rf_bench.rerank.measure import Measured
from rf_bench.rerank.options import FULL, KINDS

LIME = tuple(kind for kind in KINDS if kind != FULL)
AT_HISTORY, AT_CANDIDATES = 1024, 4096
"""The history at which candidates are varied, and the candidates at which the history is; together, where kinds are compared."""
FEW = 64
GROWTH, SPEEDUP = 3.0, 10.0
"""Asked of LIME: the most that 4,096 candidates may cost over 64, and the least that the full ranker may cost over LIME."""


def ratios(measured: Sequence[Measured], most_history: int) -> dict[str, Any] | None:
    """Return the ratios that are asked for, by kind; None if their sizes were not measured.

    ``candidates`` is the cost of 4,096 candidates over that of 64, with a history of 1,024. ``history`` is the cost of the
    longest history over that of one of 1,024, with 4,096 candidates, and ``history_times`` how many times as long it is.
    ``speedup`` is the cost of the full ranker over that of the kind, with 4,096 candidates and a history of 1,024. ``met``: the
    first is at most 3, the second at most the third, the last at least 10.
    """
    cost = {(each.kind, each.candidates, each.history): each.total for each in measured}
    if (FULL, AT_CANDIDATES, AT_HISTORY) not in cost:
        return None
    found: dict[str, Any] = {}
    for kind in LIME:
        here = cost[kind, AT_CANDIDATES, AT_HISTORY]
        each = {
            "candidates": here / cost[kind, FEW, AT_HISTORY],
            "history": cost[kind, AT_CANDIDATES, most_history] / here,
            "history_times": most_history / AT_HISTORY,
            "speedup": cost[FULL, AT_CANDIDATES, AT_HISTORY] / here,
        }
        met = each["candidates"] <= GROWTH and each["history"] <= each["history_times"] and each["speedup"] >= SPEEDUP
        found[kind] = {**each, "met": met}
    return found


def verdict(found: Mapping[str, Any]) -> str:
    """Say in a sentence whether LIME costs what is asked of it."""
    parts = [
        f"{kind} costs {each['candidates']:.2f} times as much for {AT_CANDIDATES:,} candidates as for {FEW}, "
        f"{each['history']:.1f} times as much for {each['history_times']:.0f} times the history of {AT_HISTORY:,}, and "
        f"{each['speedup']:.1f} times less than the full ranker"
        for kind, each in found.items()
    ]
    met = "target met" if all(each["met"] for each in found.values()) else "target missed"
    return f"{met}: {'; '.join(parts)}"


def tables(measured: Sequence[Measured]) -> list[Table]:
    """Return what was measured along both axes, and how the cost grows in candidates for each history."""
    sizes = {(each.kind, each.candidates, each.history): each for each in measured}
    candidates = sorted({each.candidates for each in measured})
    histories = sorted({each.history for each in measured})
    history, count = min(AT_HISTORY, histories[-1]), min(AT_CANDIDATES, candidates[-1])
    return [
        _line(sizes, f"candidates, with a history of {history:,}", [(k, k, history) for k in candidates]),
        _line(sizes, f"history, with {count:,} candidates", [(t, count, t) for t in histories]),
        _growth(sizes, candidates, histories),
    ]


Sizes = Mapping[tuple[str, int, int], Measured]


def _line(sizes: Sizes, axis: str, places: Sequence[tuple[int, int, int]]) -> Table:
    heads = (axis.partition(",")[0], "re-ranker", "user state", "candidates", "all", "p50 ms", "full over it")
    rows = []
    for value, candidates, history in places:
        full = sizes.get((FULL, candidates, history))
        for kind in KINDS:
            each = sizes.get((kind, candidates, history))
            if each is None:
                rows.append([f"{value:,}", kind, "not measured", "", "", "", ""])
                continue
            part = each.cpu_ms
            times = (part["user"], part["gather"] + part["score"], each.total, each.ms)
            over = f"{full.total / each.total:.1f}x" if full and kind != FULL else ""
            rows.append([f"{value:,}", kind, *(f"{ms:.3g}" for ms in times), over])
    return Table(caption=f"CPU milliseconds of a request by {axis}", heads=heads, rows=rows, labels=2)


def _growth(sizes: Sizes, candidates: Sequence[int], histories: Sequence[int]) -> Table:
    shown = [k for k in candidates if k > FEW and (k.bit_length() % 3 == 1 or k == candidates[-1])]
    rows = [
        [f"{history:,}", kind]
        + [
            f"{sizes[kind, k, history].total / sizes[kind, FEW, history].total:.2f}"
            if (kind, k, history) in sizes
            else "not measured"
            for k in shown
        ]
        for history in histories
        for kind in KINDS
        if (kind, FEW, history) in sizes
    ]
    heads = ["history", "re-ranker", *(f"{k:,} over {FEW}" for k in shown)]
    return Table(caption="Growth in candidates: the cost over that of 64 candidates", heads=heads, rows=rows, labels=2)
