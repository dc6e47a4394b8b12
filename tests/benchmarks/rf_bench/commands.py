"""``rf bench``: the table of all benchmarks; a new one is a line here."""

from collections.abc import Mapping
from typing import ClassVar

import typer

from rf_platform.cli.app import LazyGroup
from rf_platform.cli.commands import CommandEntry

BENCHMARKS: dict[str, CommandEntry] = {
    "latency": CommandEntry(
        "rf_bench.latency.command:app", "Search: exact scan, IVF-PQ and HNSW, from 10K to 10M items."
    ),
    "filter": CommandEntry(
        "rf_bench.filter.command:app",
        "Filtered search: latency and recall at falling shares of eligible items.",
    ),
    "encode": CommandEntry("rf_bench.encode.command:app", "Encoding requests: CPU of one alone and of many together."),
    "fetch": CommandEntry(
        "rf_bench.fetch.command:app", "The online store: one read per request beside Feast's own call."
    ),
    "serve": CommandEntry(
        "rf_bench.serve.command:app", "A server under load: rates within limits, CPU a call, overload, soak."
    ),
    "catalog": CommandEntry(
        "rf_bench.catalog.command:app", "Live catalog: from an upsert to the answers of another server."
    ),
    "rerank": CommandEntry(
        "rf_bench.rerank.command:app",
        "Re-ranking: cost by candidates and history, LIME beside the full ranker.",
    ),
    "rerank-served": CommandEntry(
        "rf_bench.rerank_served.command:app",
        "Re-ranking in answers: what each order adds to a request of a bundle.",
    ),
    "train": CommandEntry("rf_bench.train.command:app", "Training: parts of a step, TorchRec, processes, objectives."),
}
"""Name -> a typer application with one command, imported only when it is run."""


class BenchGroup(LazyGroup):
    """Shows every benchmark and imports only the one that is run."""

    table: ClassVar[Mapping[str, CommandEntry]] = BENCHMARKS


app = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    add_completion=False,
    help="Measure how fast it is; docs/benchmarks.md explains every figure.",
)


@app.callback()
def bench() -> None:
    """Measure how fast it is. Every benchmark reports ratios of things that ran side by side, and writes JSON and charts."""
