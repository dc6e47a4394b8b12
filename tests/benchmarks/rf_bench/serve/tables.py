"""Tables and verdict of ``rf bench serve``."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from rf_bench.report import Table
from rf_bench.serve.rounds import Medians, Rounds

CPU_US = {500.0: 800.0, 1000.0: 650.0}
"""Targets for a server of one process: rate -> CPU microseconds a call at most; p90 is to be kept at the same rates."""
P90_MS, PEAK, GOODPUT_SHARE = 7.0, 2000.0, 0.9
_PERCENTILES = ("p50", "p90", "p99")


def tables(found: Rounds) -> list[Table]:
    """Return the medians, every round, and peak and overload."""
    return [_medians_table(found.medians), _rounds_table(found), _overload_table(found)]


def _medians_table(medians: Sequence[Medians]) -> Table:
    heads = ("server", "rate", "CPU µs", "wait µs", *_PERCENTILES, "valid rounds", "failed", "pressure")
    rows = [
        [
            each.server,
            f"{each.rate:g}",
            f"{each.cpu_us:.0f}",
            _number(each.wait_us),
            *(_number(each.milliseconds.get(p), ".2f") for p in _PERCENTILES),
            f"{each.valid} of {each.rounds}",
            f"{each.failed_share:.2%}",
            _number(each.pressure, ".0%"),
        ]
        for each in medians
    ]
    return Table(
        caption="Medians of rounds, CPU and waiting of a call, latency in milliseconds", heads=heads, rows=rows
    )


def _rounds_table(found: Rounds) -> Table:
    heads = (
        "server",
        "rate",
        "round",
        "CPU µs",
        "wait µs",
        *_PERCENTILES,
        "",
        "pressure",
        "sent late, p99",
        "statuses",
    )
    rows = []
    for turn in found.turns:
        each, load = turn.stretch, turn.stretch.load
        rows.append(
            [
                turn.server,
                f"{load.rate:g}",
                str(turn.round + 1),
                f"{each.cpu_us:.0f}",
                _number(each.wait_us),
                *(f"{load.percentile(q):.2f}" for q in (50, 90, 99)),
                "void" if turn.void else "",
                _number(each.pressure, ".0%"),
                _number(load.late_ms["p99"], ".2f"),
                _statuses(load.statuses),
            ]
        )
    page_only = ("sent late, p99", "statuses")
    return Table(caption="Every round", heads=heads, rows=rows, page_only=page_only)


def _overload_table(found: Rounds) -> Table:
    heads = ("server", "round", "peak", "times sent", "goodput", "refusal, CPU µs", "memory", "others")
    rows = [
        [
            each.server,
            str(each.round + 1),
            f"{each.peak.good_rate:.0f}",
            f"{each.factor:.1f}",
            f"{each.goodput_share:.0%}",
            _number(each.refusal_us),
            f"{each.memory[1] / max(1, each.memory[0]) - 1:+.1%}",
            _statuses(each.rest),
        ]
        for each in found.overloads
    ]
    return Table(
        caption="Calls a second at the peak, and three times as many with a deadline of 250 ms", heads=heads, rows=rows
    )


def verdict(found: Rounds, server: str) -> str:
    """Return a sentence on the targets of a server with one process.

    Args:
        found: outcome of all rounds.
        server: name of the server.
    """
    aims = list(_aims(found, server))
    missed = [text for text, met in aims if not met]
    kept = [text for text, met in aims if met]
    return f"{server}: " + "; ".join(
        f"{word} {', '.join(texts)}" for word, texts in (("met:", kept), ("missed:", missed)) if texts
    )


def _aims(found: Rounds, server: str) -> Iterator[tuple[str, bool]]:
    """Yield each target's figure in words, and whether it was met."""
    for each in found.medians:
        if each.server != server or each.rate not in CPU_US:
            continue
        most, p90 = CPU_US[each.rate], each.milliseconds.get("p90")
        yield f"{each.cpu_us:.0f} µs of CPU a call at {each.rate:g}/s (at most {most:.0f})", each.cpu_us <= most
        shown = "void in all rounds" if p90 is None else f"{p90:.1f} ms"
        yield f"p90 {shown} there (at most {P90_MS:g} ms)", p90 is not None and p90 <= P90_MS
    if server in found.peaks:
        peak = found.peaks[server]
        goodput = median(each.goodput_share for each in found.overloads if each.server == server)
        yield f"peak {peak:.0f}/s (at least {PEAK:.0f})", peak >= PEAK
        yield f"goodput {goodput:.0%} under overload (at least {GOODPUT_SHARE:.0%})", goodput >= GOODPUT_SHARE


def _number(value: float | None, form: str = ".0f") -> str:
    return "" if value is None else format(value, form)


def _statuses(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {calls:,}" for name, calls in statuses.items())
