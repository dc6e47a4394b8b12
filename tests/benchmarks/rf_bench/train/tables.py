"""The tables of ``rf bench train``."""

from collections.abc import Iterator

from rf_bench.report import Table
from rf_bench.train.benchmark import TrainResult
from rf_bench.train.rig import PARTS
from rf_bench.train.summary import COMMUNICATION, Comparison
from rf_platform.text import byte_size
from rf_training.model.embeddings import PREFIX


def result_tables(result: TrainResult) -> Iterator[Table]:
    """Yield a table of each comparison, and one of the targets."""
    yield from _rigs("one process: TorchRec's tables and plain ones", result.tables, "of plain")
    yield from _rigs("one process and several, each in processes of its own", result.processes, "of one")
    for each in result.objectives:
        title = f"objectives: {each.items:,} items, {each.batch} sequences with one target each, {each.dim} wide"
        yield from _rigs(title, each.compared, "of full")
    yield Table(
        caption="memory of the tables: counted on the tensors, and by arithmetic",
        heads=("table", "optimiser", "rows", "weights", "expected", "state", "expected"),
        rows=[
            (
                each.table.removeprefix(PREFIX),
                each.optimizer,
                f"{each.rows:,}",
                byte_size(each.weights_bytes),
                byte_size(each.expected_weights_bytes),
                byte_size(each.state_bytes),
                byte_size(each.expected_state_bytes),
            )
            for each in result.memory
        ],
        labels=2,
    )
    met = [(each.target, each.value, "met" if each.met else "missed") for each in result.targets]
    yield Table(caption="targets", heads=("target", "found", ""), rows=met, labels=3)


def _rigs(title: str, compared: Comparison, ratio: str) -> Iterator[Table]:
    rigs = compared.rigs
    several = len({rig.processes for rig in rigs}) > 1
    names = [f"{rig.name} x {rig.processes}" if several else rig.name for rig in rigs]
    beside = [compared.speed.get(rig.name) if not several or rig.processes > 1 else None for rig in rigs]
    yield Table(
        caption=title,
        heads=("training", "ms a step", "CPU ms", "sequences/s", "events/s", "memory", ratio, "by CPU"),
        rows=[
            (
                name,
                f"{rig.step_seconds * 1e3:,.1f}",
                f"{rig.cpu_seconds * 1e3:,.1f}",
                f"{rig.sequences_per_second:,.0f}",
                f"{rig.events_per_second:,.0f}",
                byte_size(rig.peak_bytes),
                f"{speed['median']:.2f}x" if speed else "",
                f"{speed['cpu']:.2f}x" if speed else "",
            )
            for name, rig, speed in zip(names, rigs, beside, strict=True)
        ],
    )
    parts = (*PARTS, COMMUNICATION)
    shares = [(name, *(f"{rig.shares[part]:.1%}" for part in parts)) for name, rig in zip(names, rigs, strict=True)]
    yield Table(caption="share of a step", heads=("training", *parts), rows=shares)
