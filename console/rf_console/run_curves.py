"""Curves of runs as charts: validation by epoch, training by step; read anew only when the files have changed."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

from rf_platform.registry import RunRecord
from rf_training.notes import read_notes
from rf_training.report.collect import Recorded, binned, read_curves

_NOT_SHOWN = ("epoch", "steps", "step")
Chart = dict[str, Any]
"""What ``data-chart`` takes: ``x``, and ``series`` with a label and values each."""


def validations(run: RunRecord) -> list[dict[str, Any]]:
    """Return the validation of each epoch; none for a run without files."""
    return read_notes(run.path / "history.jsonl") if run.removed_at is None else []


def metric_names(notes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the metrics that epochs were validated with."""
    names = dict.fromkeys(name for note in notes for name, value in note.items() if isinstance(value, int | float))
    return [name for name in names if name not in _NOT_SHOWN]


def validation_chart(notes_of: Mapping[str, Sequence[Mapping[str, Any]]], metric: str) -> Chart:
    """Return one metric of several runs by epoch; a gap where a run has no such epoch."""
    epochs = sorted({int(note["epoch"]) for notes in notes_of.values() for note in notes if "epoch" in note})
    series = []
    for name, notes in notes_of.items():
        by_epoch = {int(note["epoch"]): note.get(metric) for note in notes if "epoch" in note}
        series.append({"label": name, "values": [plain(by_epoch.get(epoch)) for epoch in epochs]})
    return {"x": epochs, "series": series}


def training_tags(runs: Sequence[RunRecord]) -> list[str]:
    """Return the names of the curves by step that any of these runs has."""
    found = dict.fromkeys(tag for run in runs if (recorded := _recorded(run)) for tag in recorded.curves)
    return [tag for tag in found if tag.startswith("train/")]


def training_chart(runs: Sequence[RunRecord], tag: str) -> Chart:
    """Return one curve of several runs by step, neighbouring points joined."""
    curves = {
        run.name: binned(recorded.curves[tag])
        for run in runs
        if (recorded := _recorded(run)) and tag in recorded.curves
    }
    steps = sorted({float(step) for curve in curves.values() for step in curve.steps})
    series = []
    for name, curve in curves.items():
        at = dict(zip(curve.steps.tolist(), curve.mean.tolist(), strict=True))
        series.append({"label": name, "values": [plain(at.get(step)) for step in steps]})
    return {"x": steps, "series": series}


def plain(value: Any) -> float | None:
    """Return a number that JSON can have; None for what is missing or not finite."""
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def _recorded(run: RunRecord) -> Recorded | None:
    directory = run.path / "tensorboard"
    if run.removed_at is not None or not directory.is_dir():
        return None
    files = sorted((each.name, each.stat().st_size) for each in directory.iterdir())
    return _read(directory, tuple(files))


@lru_cache(maxsize=16)
def _read(directory: Path, _: tuple[tuple[str, int], ...]) -> Recorded | None:
    return read_curves(directory)
