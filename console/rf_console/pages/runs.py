"""Training runs: the list, one with its curves, several side by side, and the report that `rf report` writes."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import FileResponse, HTMLResponse, Response

from rf_console.run_curves import (
    metric_names,
    plain,
    training_chart,
    training_tags,
    validation_chart,
    validations,
)
from rf_console.web.routes import Endpoint, Page
from rf_console.web.visit import Visit
from rf_platform.bundle import check_name
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_run_dataset
from rf_platform.errors import NotFoundError, RfError, UsageError
from rf_platform.failures import read_json, reading
from rf_platform.registry import RunRecord, RunStatus
from rf_platform.registry.differences import differences, flat
from rf_training.report.collect import compare_settings, recipe_values

_HEADLINES = ("recall@20", "ndcg@20", "mrr")
_A_PAGE, _MOST_COMPARED = 50, 8
_METRIC = "ndcg@20"
_REPORT_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"
"""The report is a document of its own: no script, no form, nothing from elsewhere; styles and drawings are in the page."""


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the runs that the filters of the address leave, the newest first."""
    every = visit.console.registry.runs()[::-1]
    wanted, status = visit.value("q").lower(), visit.value("status")
    found = [
        run
        for run in every
        if (visit.value("trials") or not run.trial)
        and (visit.value("removed") or run.removed_at is None)
        and status in ("", run.status.value)
        and visit.value("dataset") in ("", run.dataset)
        and wanted in f"{run.name} {run.recipe}".lower()
    ]
    pages = max(1, -(-len(found) // _A_PAGE))
    page = min(visit.whole("page", 1), pages)
    return {
        "runs": [(run, headlines(run)) for run in found[(page - 1) * _A_PAGE : page * _A_PAGE]],
        "count": len(found),
        "every": len(every),
        "page": page,
        "pages": pages,
        "headlines": _HEADLINES,
        "datasets": list(dict.fromkeys(run.dataset for run in every)),
        "statuses": [each.value for each in RunStatus],
    }


def headlines(run: RunRecord) -> list[float | None]:
    """Return the metrics that lists show of a run: of the test split, or else of its best epoch."""
    test = _model_row(run)
    if test is not None:
        return [plain(test["metrics"].get(name, {}).get("value")) for name in _HEADLINES]
    validation = run.metrics.get("validation")
    return [plain((validation if isinstance(validation, dict) else run.metrics).get(name)) for name in _HEADLINES]


def _model_row(run: RunRecord) -> dict[str, Any] | None:
    """Return the result on the test split of the model itself, seen items excluded; None before `rf evaluate`."""
    test = run.metrics.get("test")
    rows = _rows(test) if isinstance(test, dict) else []
    return rows[-1] if rows else None


def _rows(test: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the results of exact rankings, seen items excluded; the model's is the last."""
    approximate = {each["scorer"] for each in test.get("approximations", ())}
    return [
        row for row in test.get("results", ()) if row.get("seen") == "excluded" and row["scorer"] not in approximate
    ]


def show(visit: Visit) -> Mapping[str, Any]:
    """Return a run: its curves, results, settings, and what was made of it."""
    registry = visit.console.registry
    run = registry.run(visit.params["name"])
    notes = validations(run)
    metrics, tags = metric_names(notes), training_tags([run])
    metric, tag = _choice(visit, "metric", metrics, _METRIC), _choice(visit, "curve", tags, "train/loss")
    test = run.metrics.get("test")
    settings = compare_settings(run.config, recipe_values(run.recipe, _opened(visit, run)))
    return {
        "title": f"Run {run.name}",
        "current": "/runs",
        "run": run,
        "notes": notes,
        "metrics": metrics,
        "metric": metric,
        "validation": validation_chart({run.name: notes}, metric) if metric else None,
        "tags": tags,
        "tag": tag,
        "training": training_chart([run], tag) if tag else None,
        "results": _rows(test) if isinstance(test, dict) else [],
        "shown": _HEADLINES,
        "other_metrics": dict(flat({k: v for k, v in run.metrics.items() if k not in ("test", "goals")})),
        "settings": settings if visit.value("settings") == "all" else [each for each in settings if each.changed],
        "every_setting": len(settings),
        "bundles": [each for each in registry.bundles() if each.run == run.name],
        "report": run.removed_at is None and (run.path / "report.html").is_file(),
    }


def _opened(visit: Visit, run: RunRecord) -> Dataset | None:
    """Return the dataset that the sizes of a recipe follow from; None where its files are gone."""
    try:
        return open_run_dataset(visit.console.registry, run)
    except RfError:
        return None


def _choice(visit: Visit, name: str, among: Sequence[str], default: str) -> str:
    """Return what the address chooses; without a choice the default, or else the first there is; empty: there is none."""
    if (asked := visit.value(name)) and asked not in among:
        raise UsageError(
            f"{name}={asked[:40]!r} is not there; choose one of {', '.join(among) or 'none: there are none'}"
        )
    return asked or (default if default in among else next(iter(among), ""))


def compare(visit: Visit) -> Mapping[str, Any]:
    """Return several runs side by side: curves on top of each other, metrics, and settings that differ."""
    registry = visit.console.registry
    names = list(dict.fromkeys(visit.values("run")))
    if len(names) > _MOST_COMPARED:
        raise UsageError(f"{len(names)} runs are too many to tell apart; compare up to {_MOST_COMPARED}")
    runs = [registry.run(name) for name in names]
    notes_of = {run.name: validations(run) for run in runs}
    metrics = metric_names([note for notes in notes_of.values() for note in notes])
    tags = training_tags(runs)
    metric, tag = _choice(visit, "metric", metrics, _METRIC), _choice(visit, "curve", tags, "train/loss")
    settings = [dict(flat({"dataset": run.dataset, "recipe": run.recipe, **run.config})) for run in runs]
    differing = dict.fromkeys(name for other in settings[1:] for name in differences(settings[0], other))
    tests = [(_model_row(run) or {}).get("metrics", {}) for run in runs]
    return {
        "runs": runs,
        "known": [run.name for run in reversed(registry.runs()) if not run.trial or run.name in names],
        "metrics": metrics,
        "metric": metric,
        "validation": validation_chart(notes_of, metric) if metric else None,
        "tags": tags,
        "tag": tag,
        "training": training_chart(runs, tag) if tag else None,
        "settings": [(name, [each.get(name) for each in settings]) for name in differing],
        "tests": [(name, [test.get(name) for test in tests]) for name in (tests[0] if tests else ())],
        "rows": [(run, headlines(run)) for run in runs],
        "headlines": _HEADLINES,
    }


def report(visit: Visit) -> Response:
    """Return the report that `rf report` has written, as a document that can do nothing here."""
    run = visit.console.registry.run(visit.params["name"])
    path = run.path / "report.html"
    if not path.is_file():
        raise NotFoundError(f"run '{run.name}' has no report; `rf report {run.name}` writes one")
    with reading(path, "write it again by `rf report`"):
        return HTMLResponse(path.read_text(encoding="utf-8"), headers={"content-security-policy": _REPORT_POLICY})


def ablations(visit: Visit) -> Mapping[str, Any]:
    """Return the ablations there are, and the figures of one of them."""
    directory = visit.console.settings.workspace.root / "ablations"
    names = sorted(each.name for each in directory.glob("*") if (each / "plan.json").is_file())
    name = visit.value("name") or next(iter(names), "")
    if name and name not in names:
        raise NotFoundError(f"there is no ablation '{name[:40]}'; there are: {', '.join(names) or 'none'}")
    result, split = None, visit.value("split", "validation")
    if name:
        path = directory / name / ("test" if split == "test" else ".") / "results.json"
        result = read_json(path, "run `rf ablate --only-report` again") if path.is_file() else None
    kinds = list(result["cases"]) if result is not None else []
    return {
        "current": "/runs",
        "names": names,
        "name": name,
        "split": split,
        "result": result,
        "kinds": kinds,
        "kind": _choice(visit, "kind", kinds, "all"),
        "metric": result["metric"] if result is not None else "",
        "plot": result is not None and (path.parent / "plot.png").is_file(),
    }


def plot(visit: Visit) -> Response:
    """Return the plot of an ablation."""
    directory = visit.console.settings.workspace.root / "ablations" / check_name("ablation", visit.params["name"])
    path = directory / ("test" if visit.value("split") == "test" else ".") / "plot.png"
    if not path.is_file():
        raise NotFoundError("there is no such plot; `rf ablate` draws it")
    return FileResponse(path, media_type="image/png")


ROUTES = (
    Page(path="/runs", title="Runs", template="runs.html", read=read),
    Page(path="/runs/{name}", title="Run", template="run.html", read=show, listed=False),
    Endpoint(path="/runs/{name}/report", answer=report),
    Page(path="/compare", title="Runs side by side", template="compare.html", read=compare, listed=False),
    Page(path="/ablations", title="Ablations", template="ablations.html", read=ablations, listed=False),
    Endpoint(path="/ablations/{name}/plot.png", answer=plot),
)
