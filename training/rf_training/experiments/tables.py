"""An ablation's tables: Markdown and CSV for files, rich for the terminal."""

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group as Renderables
from rich.markup import escape
from rich.table import Table

from rf_training.evaluation.bootstrap import Estimate
from rf_training.evaluation.rendering import markdown_table
from rf_training.evaluation.sampled import LABELS, METRIC_KEYS
from rf_training.experiments.results import AMONG_COLD, AblationResult, Arm, GroupResult, Score

CPU, WALL = "CPU s/epoch", "s/epoch"
NONE = "–"  # noqa: RUF001 - an en dash is what is meant


@dataclass(frozen=True)
class _Column:
    kind: str
    """Of targets: all, warm or cold."""
    metric: str
    difference: bool = False

    def head(self, cold: bool) -> str:
        return ("Δ " if self.difference else "") + LABELS[self.metric] + (f" {self.kind}" if cold else "")

    def cell(self, arm: Arm, interval: Callable[[Estimate], str]) -> str:
        score = arm.targets.get(self.kind, {}).get(self.metric)
        if score is None:
            return NONE
        return _difference(score, arm.base, interval) if self.difference else _value(score)


def _columns(result: AblationResult) -> list[_Column]:
    chosen = result.metric
    if not result.has_cold:
        return [
            *(_Column("all", m) for m in ("recall@5", "recall@20", "ndcg@5", "ndcg@20")),
            _Column("all", chosen, True),
        ]
    return [
        column
        for kind in result.cases
        for column in (_Column(kind, "recall@20"), _Column(kind, "ndcg@20"), _Column(kind, chosen, True))
        if (kind, column.difference) not in (("all", True), (AMONG_COLD, True))
    ]


def _rows(result: AblationResult, group: GroupResult, *, interval: Callable[[Estimate], str]) -> list[list[str]]:
    columns = _columns(result)
    return [
        [
            f"{arm.name} (base)" if arm.base and arm.name != "base" else arm.name,
            *(column.cell(arm, interval) for column in columns),
            _number(arm.cpu_seconds),
            _number(arm.wall_seconds),
            _number(arm.parameters),
        ]
        for arm in group.arms
    ]


def _heads(result: AblationResult) -> list[str]:
    return ["", *(c.head(result.has_cold) for c in _columns(result)), CPU, WALL, "parameters"]


def markdown(result: AblationResult) -> str:
    """All groups in Markdown, under one heading and with what is needed to read them."""
    heads = _heads(result)
    sections = [f"# Ablation {result.name}", caption(result)]
    for group in result.groups:
        lines = [f"## {group.title}"]
        if group.fixed:
            lines += ["", f"All with {_settings(group.fixed)}."]
        rows = [
            [f"**{name}**" if arm.base else name, *cells]
            for arm, (name, *cells) in zip(group.arms, _rows(result, group, interval=_bounds), strict=True)
        ]
        sections.append("\n".join([*lines, "", markdown_table(heads, rows).rstrip("\n")]))
    if result.missing:
        missing = [f"- `{run}`: {' '.join(reason.split())}" for run, reason in result.missing.items()]
        sections.append("\n".join(["## Not in the tables", "", *missing]))
    return "\n\n".join(sections) + "\n"


def terminal(result: AblationResult) -> Renderables:
    """All groups as tables for a terminal, narrower than those of the files: without the columns of all targets where there are
    cold ones, and without the time on the clock.
    """
    heads = _heads(result)
    shown = [i for i, head in enumerate(heads) if head != WALL and not head.endswith(" all")]
    tables = []
    for group in result.groups:
        title = group.title + (f" (all with {_settings(group.fixed)})" if group.fixed else "")
        table = Table(title=escape(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for i in shown:
            table.add_column(_narrow(heads[i]), justify="right" if i else "left")
        for arm, row in zip(group.arms, _rows(result, group, interval=_half_width), strict=True):
            cells = [escape(row[i]).replace(" ±", "\n±") for i in shown]
            table.add_row(*cells, style="bold" if arm.base else None)
        tables.append(table)
    return Renderables(*tables, escape(caption(result)), "Under a Δ: half the width of its interval.")


def csv_text(result: AblationResult) -> str:
    """One line for each arm and kind of target, every metric with its spread and difference."""
    file = io.StringIO()
    heads = ["group", "variant", "base", "settings", "targets", "users", "seeds"]
    heads += [name for m in METRIC_KEYS for name in (m, f"{m} spread", f"{m} difference", f"{m} low", f"{m} high")]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*heads, "cpu seconds per epoch", "wall seconds per epoch", "best epoch", "parameters"])
    for group in result.groups:
        for arm in group.arms:
            for kind, scores in arm.targets.items():
                row: list[object] = [group.name, arm.name, int(arm.base), _settings(arm.settings), kind]
                row += [result.cases[kind], " ".join(map(str, arm.runs))]
                for metric in METRIC_KEYS:
                    score = scores[metric]
                    d = score.difference
                    row += [score.value, score.spread, *((d.value, d.low, d.high) if d else (None, None, None))]
                writer.writerow([*row, arm.cpu_seconds, arm.wall_seconds, arm.best_epoch, arm.parameters])
    return file.getvalue()


def caption(result: AblationResult) -> str:
    """Return the explanation of the figures."""
    cases = f"{result.cases['all']:,} users"
    if result.has_cold:
        cases += f" ({result.cases['warm']:,} with a warm target, {result.cases['cold']:,} with a cold one)"
    seeds = len(result.seeds)
    return (
        f"Around recipe {result.recipe}, dataset {result.dataset}, {result.split} split: {cases}, one target each, ranked among "
        f"all {result.items:,} items, seen items excluded. "
        + (
            f"Means over up to {seeds} training seeds, ± their standard deviation. "
            if seeds > 1
            else "One training seed. "
        )
        + f"Δ is the paired difference from the group's base with its {result.confidence:.0%} bootstrap interval over users; * "
        "where it leaves out 0. Seconds are of an epoch of training with its validation."
    )


def _narrow(head: str) -> str:
    """Return a heading on several lines, as narrow as its figures."""
    kind = next((kind for kind in (AMONG_COLD, "warm", "cold") if head.endswith(f" {kind}")), "")
    metric = head.removesuffix(f" {kind}") if kind else head
    lines = [*metric.replace("CPU s/", "CPU s@/").split("@"), *kind.split()]
    return "\n".join(f"@{line}" if line.isdigit() else line for line in lines)


def _value(score: Score) -> str:
    return f"{score.value:.4f}" + (f" ±{score.spread:.4f}" if score.spread is not None else "")


def _difference(score: Score, base: bool, interval: Callable[[Estimate], str]) -> str:
    d = score.difference
    if d is None:
        return "" if base else NONE
    star = "*" if d.low > 0 or d.high < 0 else ""
    return f"{d.value:+.4f}{star} {interval(d)}"


def _bounds(d: Estimate) -> str:
    return f"[{d.low:+.4f}, {d.high:+.4f}]"


def _half_width(d: Estimate) -> str:
    return f"±{(d.high - d.low) / 2:.4f}"


def _settings(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{path}={value}" for path, value in settings.items())


def _number(value: float | None) -> str:
    if value is None:
        return NONE
    return f"{value:.1f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"
