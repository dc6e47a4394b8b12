"""Report of a tuning: what was found, and which settings mattered."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from rf_platform.files import new_file, replace_text
from rf_training.recipes import override, write_recipe
from rf_training.report.drawing import MUTED, PNG_DPI, REST, SERIES, style
from rf_training.tuning.space import Choices
from rf_training.tuning.study import OWN, REASON, Tuning, quiet, suggested
from rf_training.validation import SELECTION_METRIC

LEAST = 4
"""Completed trials from which importances are told."""
QUANTILE = 0.25
"""Share of the trials that count as the best."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """A trial and its end."""

    number: int
    """From 1."""
    state: str
    """``complete``, ``pruned``, ``failed`` or ``running``."""
    value: float | None
    """Its best validation NDCG@20; None where it has none."""
    settings: dict[str, str]
    """Its settings, as `--set` takes them."""
    epochs: int
    """Epochs that were validated."""
    own: bool
    """Whether its settings are the recipe's own."""
    reason: str = ""
    """Reason of a failure."""


@dataclass(frozen=True, kw_only=True)
class TuningResult:
    """Result of a tuning."""

    name: str
    """Name of the tuning."""
    dataset: str
    """Name of the dataset version."""
    recipe: str
    """Recipe that was tuned."""
    metric: str = SELECTION_METRIC
    """Metric that trials are compared by, on the validation split, seen items excluded."""
    best: TrialResult | None
    """The best trial; None without any that was completed."""
    own: TrialResult | None
    """The trial with the recipe's own settings; None where they lie outside of the space."""
    importance: dict[str, float]
    """Share of every setting in what distinguishes the best trials (PED-ANOVA), largest first; empty after too few trials."""
    trials: list[TrialResult] = field(default_factory=list)
    """All trials."""


def tuning_result(tuning: Tuning) -> TuningResult:
    """Return what the trials so far have found."""
    trials = [_trial(tuning, each) for each in tuning.study.get_trials(deepcopy=False) if each.params]
    complete = [each for each in trials if each.state == "complete"]
    return TuningResult(
        name=tuning.plan.name,
        dataset=tuning.plan.dataset,
        recipe=tuning.plan.base,
        best=max(complete, key=lambda each: each.value or 0, default=None),
        own=next((each for each in trials if each.own), None),
        importance=_importance(tuning) if len(complete) >= LEAST else {},
        trials=trials,
    )


def _trial(tuning: Tuning, trial: Any) -> TrialResult:
    steps = trial.intermediate_values
    value = trial.value if trial.state.name == "COMPLETE" else max(steps.values(), default=None)
    return TrialResult(
        number=trial.number + 1,
        state={"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower()),
        value=value,
        settings=dict(each.split("=", 1) for each in suggested(tuning.space, _Fixed(trial.params))),
        epochs=len(steps),
        own=bool(trial.user_attrs.get(OWN)),
        reason=trial.user_attrs.get(REASON, ""),
    )


class _Fixed:
    """Trial that suggests what another has had."""

    def __init__(self, params: dict[str, Any]) -> None:
        self._params = params

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return float(self._params[name])

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        return int(self._params[name])

    def suggest_categorical(self, name: str, choices: list[str]) -> Any:
        return self._params[name]


def _importance(tuning: Tuning) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with quiet():
        found = get_param_importances(tuning.study, evaluator=PedAnovaImportanceEvaluator(target_quantile=QUANTILE))
    return dict(sorted(found.items(), key=lambda each: -each[1]))


def write_report(tuning: Tuning, result: TuningResult) -> list[Path]:
    """Write ``report.md``, ``trials.csv``, ``plot.png``, ``plot.svg`` and, of the best trial, ``recipe.yaml``; returns them."""
    directory, files = tuning.directory, []
    if result.best is not None:
        best = override(tuning.recipe, [f"{name}={value}" for name, value in result.best.settings.items()])
        title = (
            f"Best of {len(result.trials)} trials of `rf tune`, recipe {result.recipe}, dataset {result.dataset}: validation "
            f"{result.metric} {result.best.value:.4f}."
        )
        write_recipe(directory / "recipe.yaml", best, _named(result.recipe), title)
        files.append(directory / "recipe.yaml")
    replace_text(directory / "report.md", markdown(result, tuning))
    replace_text(directory / "trials.csv", _csv(result))
    return [*files, directory / "report.md", directory / "trials.csv", *_draw(result, tuning)]


def _named(recipe: str) -> str:
    return "default" if recipe.endswith((".yaml", ".yml")) else recipe


def setting_rows(result: TuningResult, tuning: Tuning) -> list[list[str]]:
    """Return a row for every setting: name, share in what mattered, best value, the recipe's, and what was searched."""
    names = [*result.importance, *(name for name in tuning.space if name not in result.importance)]
    rows = []
    for name in names:
        section, _, key = name.partition(".")
        own = getattr(getattr(tuning.recipe, section), key)
        share = f"{result.importance[name]:.0%}" if name in result.importance else "-"
        found = result.best.settings[name] if result.best is not None else "-"
        rows.append([name, share, found, f"{own:g}" if isinstance(own, float) else str(own), str(tuning.space[name])])
    return rows


SHARE = (
    "*share*: how much of what sets the best quarter of the trials apart from all is told by that setting alone (PED-ANOVA, "
    "Watanabe et al., 2023)."
)
HEADINGS = ("setting", "share", "best trial", "recipe", "searched")


def markdown(result: TuningResult, tuning: Tuning) -> str:
    """Return the report as Markdown."""
    lines = [
        f"# Tuning {result.name}",
        "",
        summary(result),
        "",
        f"| {' | '.join(HEADINGS)} |",
        "|---|---:|---:|---:|---|",
    ]
    lines += [f"| {' | '.join([f'`{name}`', *rest])} |" for name, *rest in setting_rows(result, tuning)]
    if result.importance:
        lines += ["", SHARE]
    heads = ("trial", "state", result.metric, "epochs", "settings")
    lines += ["", "![Trials](plot.svg)", "", f"| {' | '.join(heads)} |", "|---:|---|---:|---:|---|"]
    for trial in sorted(result.trials, key=lambda each: -(each.value or 0)):
        value = "-" if trial.value is None else f"{trial.value:.4f}"
        settings = "the recipe's own" if trial.own else ", ".join(f"{k}={v}" for k, v in trial.settings.items())
        lines.append(f"| {trial.number} | {trial.state} | {value} | {trial.epochs} | {trial.reason or settings} |")
    return "\n".join(lines) + "\n"


def summary(result: TuningResult) -> str:
    """Return what was found, in a few sentences."""
    counts = {
        state: sum(each.state == state for each in result.trials)
        for state in ("complete", "pruned", "failed", "running")
    }
    trials = (
        f"{len(result.trials)} trials, {', '.join(f'{n} {state}' for state, n in counts.items() if n) or 'none yet'}."
    )
    if result.best is None:
        return trials
    text = f"{trials} Best validation {result.metric} {result.best.value:.4f} (trial {result.best.number})"
    if result.own is not None and result.own.value is not None:
        text += f", {result.own.value:.4f} with the recipe's own settings"
    return text + ". The best of many flatters itself: train it with other seeds before you believe the difference."


def terminal(result: TuningResult, tuning: Tuning) -> Table:
    """Return the settings as a table."""
    table = Table(title=f"tuning {result.name}, recipe {result.recipe}", title_justify="left")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("setting", "searched") else "right")
    for row in setting_rows(result, tuning):
        table.add_row(*row)
    return table


def to_dict(result: TuningResult) -> dict[str, Any]:
    """Return the result as JSON has it."""
    return asdict(result)


def _csv(result: TuningResult) -> str:
    names = list(result.trials[0].settings) if result.trials else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", result.metric, "epochs", "own", *names, "reason"])
    for each in result.trials:
        value = "" if each.value is None else f"{each.value:.6f}"
        settings = [each.settings[name] for name in names]
        writer.writerow([each.number, each.state, value, each.epochs, each.own, *settings, each.reason])
    return text.getvalue()


def _draw(result: TuningResult, tuning: Tuning) -> list[Path]:
    """Draw the trials in order, and the value of every setting against what came of it, what mattered most first."""
    names = [row[0] for row in setting_rows(result, tuning)]
    done = [each for each in result.trials if each.value is not None]
    columns, rows = 3, -(-(len(names) + 1) // 3)
    files = [tuning.directory / "plot.png", tuning.directory / "plot.svg"]
    with style():
        figure = Figure(figsize=(3.6 * columns, 2.6 * rows), layout="constrained")
        panels: Sequence[Axes] = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
        _trials(panels[0], done, result)
        for axes, name in zip(panels[1:], names, strict=False):
            _slice(axes, name, done, tuning)
            share = f", {result.importance[name]:.0%}" if name in result.importance else ""
            axes.set_title(f"{name}{share}")
        for axes in panels[len(names) + 1 :]:
            axes.set_axis_off()
        with new_file(files[0]) as png, new_file(files[1]) as svg:
            figure.savefig(png, format="png", dpi=PNG_DPI, facecolor="white")
            figure.savefig(svg, format="svg", facecolor="white", metadata={"Date": None})
    return files


def _ink(trial: TrialResult) -> str:
    return SERIES[0].light if trial.state == "complete" else REST.light


def _trials(axes: Axes, done: list[TrialResult], result: TuningResult) -> None:
    axes.set_title("trials in order (grey: pruned)")
    axes.scatter(
        [each.number for each in done], [each.value or 0 for each in done], c=[_ink(each) for each in done], s=14
    )
    if result.own is not None and result.own.value is not None:
        axes.axhline(result.own.value, color=MUTED.light, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_ylabel(f"validation {result.metric}")
    axes.set_xlabel("trial; the line is the recipe")


def _slice(axes: Axes, name: str, done: list[TrialResult], tuning: Tuning) -> None:
    axis, texts = tuning.space[name], [each.settings[name] for each in done]
    values = [each.value or 0 for each in done]
    if isinstance(axis, Choices):
        axes.scatter([axis.values.index(text) for text in texts], values, c=[_ink(each) for each in done], s=14)
        axes.set_xticks(range(len(axis.values)), axis.values)
        axes.set_xlim(-0.5, len(axis.values) - 0.5)
        return
    axes.scatter([float(text) for text in texts], values, c=[_ink(each) for each in done], s=14)
    if axis.log:
        axes.set_xscale("log")
