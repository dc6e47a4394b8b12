"""``rf bench``: the table of all benchmarks; a new one is a line here."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import typer

from rf_platform.cli.app import LazyGroup
from rf_platform.cli.commands import CommandEntry


class Benchmark(NamedTuple):
    """Place of a benchmark, its summary, and where its figures are."""

    target: str
    """``module:attribute`` of a ``typer.Typer`` application with one command, imported only when it is run."""
    summary: str
    figures: str
    """Page of the documents, with the section."""


BENCHMARKS: dict[str, Benchmark] = {
    "latency": Benchmark(
        "rf_bench.latency.command:app",
        "Search: exact scan, IVF-PQ and HNSW, from 10K to 10M items.",
        "benchmarks.md#search",
    ),
    "filter": Benchmark(
        "rf_bench.filter.command:app",
        "Filtered search: latency and recall at falling shares of eligible items.",
        "filters.md",
    ),
    "encode": Benchmark(
        "rf_bench.encode.command:app",
        "Encoding requests: CPU of one alone and of many together.",
        "benchmarks.md#encoding-requests",
    ),
    "text": Benchmark(
        "rf_bench.text.command:app",
        "Sentence encoders: texts a second together, alone and from the cache.",
        "text.md#cost",
    ),
    "fetch": Benchmark(
        "rf_bench.fetch.command:app",
        "The online store: one read per request beside Feast's own call.",
        "events.md",
    ),
    "serve": Benchmark(
        "rf_bench.serve.command:app",
        "A server under load: CPU a call, latency at fixed rates, peak, overload, soak.",
        "benchmarks.md#serving-under-load",
    ),
    "catalog": Benchmark(
        "rf_bench.catalog.command:app",
        "Live catalog: from an upsert to the answers of another server.",
        "live-catalog.md#measured",
    ),
    "rules": Benchmark(
        "rf_bench.rules.command:app",
        "Rules of a placement: cost of each kind in an answer, and the trade of diversity.",
        "policies.md#measured",
    ),
    "experiments": Benchmark(
        "rf_bench.experiments.command:app",
        "Experiments: false alarms, coverage and power on simulated users.",
        "experiments.md#measured",
    ),
    "arrivals": Benchmark(
        "rf_bench.arrivals.command:app",
        "First events: from an event to the answers of another server, and what learning costs.",
        "live-catalog.md#measured",
    ),
    "rerank": Benchmark(
        "rf_bench.rerank.command:app",
        "Re-ranking: cost by candidates and history, LIME beside the full ranker.",
        "benchmarks.md#re-ranking",
    ),
    "rerank-served": Benchmark(
        "rf_bench.rerank_served.command:app",
        "Re-ranking in answers: what each order adds to a request of a bundle.",
        "benchmarks.md#re-ranking",
    ),
    "console": Benchmark(
        "rf_bench.console.command:app",
        "Pages of the console, and what a busy one costs the answers beside it.",
        "console.md#measured",
    ),
    "train": Benchmark(
        "rf_bench.train.command:app",
        "Training: parts of a step, TorchRec, processes, objectives.",
        "scaling.md#measured",
    ),
}


class BenchGroup(LazyGroup):
    """Shows every benchmark and imports only the one that is run."""

    table: ClassVar[Mapping[str, CommandEntry]] = {
        name: CommandEntry(each.target, each.summary) for name, each in BENCHMARKS.items()
    }


app = typer.Typer(
    cls=BenchGroup,
    no_args_is_help=True,
    add_completion=False,
    help="Measure how fast it is; docs/benchmarks.md lists all benchmarks with their figures.",
)


@app.callback()
def bench() -> None:
    """Measure how fast it is. Every benchmark reports ratios of things that ran side by side, as JSON and as an HTML page."""
