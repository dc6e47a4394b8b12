"""Features: the registry as the model sees it, with what each one holds, and the views and sources they come from."""

from collections.abc import Mapping
from typing import Any

from rf_console.feature_statistics import FeatureStatistics
from rf_console.web.routes import Page
from rf_console.web.visit import Visit
from rf_platform.dataset import Dataset
from rf_platform.dataset.run_dataset import open_run_dataset
from rf_platform.errors import NotFoundError
from rf_platform.features.spec import FieldSpec

_SIDES, _LONG_WAIT = ("item", "user", "context"), 20.0


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the fields that the filters of the address leave, by view, with their statistics."""
    registry = visit.console.registry
    datasets = [each.name for each in reversed(registry.datasets()) if each.removed_at is None]
    dataset, of = _opened(visit)
    if dataset is None:
        return {"dataset": None, "datasets": datasets, "feast_ui": visit.console.options.feast_ui}
    statistics, complete = visit.console.features.of(dataset)
    wanted = visit.value("q").lower()
    fields = [
        each
        for each in dataset.spec.fields
        if visit.value("side") in ("", each.side)
        and visit.value("kind") in ("", each.kind)
        and visit.value("role") in ("", each.role)
        and wanted in f"{each.name} {each.domain or ''}".lower()
    ]
    return {
        "dataset": dataset,
        "datasets": datasets,
        "of": of,
        "feast_ui": visit.console.options.feast_ui,
        "rows": [(each, _row(dataset, each, statistics.get(each.name))) for each in fields],
        "complete": complete,
        "sides": _SIDES,
        "kinds": sorted({each.kind for each in dataset.spec.fields}),
        "roles_of": sorted({each.role for each in dataset.spec.fields}),
        "views": _views(dataset),
        "warnings": dataset.manifest.get("warnings", []),
    }


def _opened(visit: Visit) -> tuple[Dataset | None, str]:
    """Return the dataset that the address names, or that of the served model, with its id maps; or the newest one."""
    registry = visit.console.registry
    if name := visit.value("dataset"):
        return Dataset.open(registry.dataset(name).path), f"dataset {name}"
    if (bundle := registry.active_bundle()) is not None:
        run = registry.run(bundle.run)
        if run.removed_at is None and registry.dataset(run.dataset).removed_at is None:
            return open_run_dataset(registry, run), f"dataset {run.dataset}, which bundle {bundle.name} was trained on"
    try:
        newest = registry.dataset()
    except NotFoundError:
        return None, ""
    return Dataset.open(newest.path), f"dataset {newest.name}"


def _row(dataset: Dataset, f: FieldSpec, statistics: FeatureStatistics | None) -> dict[str, Any]:
    """Return what the list shows of a feature beside its definition."""
    covered = dataset.manifest.get("coverage", {}).get(f.name, {})
    now = covered.get(f"{f.side}s")
    vocabulary = dataset.manifest.get("vocabularies", {}).get(f.domain) if f.domain else None
    return {
        "policy": dataset.spec.domain(f.domain).policy if f.domain else "",
        "rows": vocabulary,
        "missing_events": None if "events" not in covered else 1 - covered["events"],
        "missing_now": None if now is None else 1 - now,
        "unknown": statistics.unknown if statistics is not None else None,
        "statistics": statistics,
    }


def _views(dataset: Dataset) -> list[tuple[str, str, str, int]]:
    """Return each feature view: name, side, file of its source, and number of fields."""
    sources = dataset.manifest.get("sources", {})
    views: dict[str, tuple[str, str, str, int]] = {}
    for f in dataset.spec.fields:
        _, _, _, count = views.get(f.view, ("", "", "", 0))
        views[f.view] = (f.view, f.side, str(sources.get(f.view, "interactions.parquet")), count + 1)
    return sorted(views.values())


def show(visit: Visit) -> Mapping[str, Any]:
    """Return one feature: definition, statistics of training, and what it holds now."""
    name = visit.needed("name")
    dataset, of = _opened(visit)
    if dataset is None or name not in {each.name for each in dataset.spec.fields}:
        raise NotFoundError(f"there is no feature '{name[:80]}'; the page of the features lists them")
    f = dataset.spec.field(name)
    statistics = visit.console.features.of(dataset, _LONG_WAIT)[0].get(name)
    encoder = visit.console.features.encoder(dataset)
    vocabulary = encoder.vocabularies.get(f.domain) if f.domain else None
    return {
        "title": f.name,
        "current": "/features",
        "dataset": dataset,
        "of": of,
        "field": f,
        "row": _row(dataset, f, statistics),
        "source": next(source for view, _, source, _ in _views(dataset) if view == f.view),
        "numeric": encoder.numeric.get(name),
        "width": encoder.widths.get(name),
        "sharing": [each.name for each in dataset.spec.fields if f.domain and each.domain == f.domain and each != f],
        "vocabulary": vocabulary,
        "frequent": [] if vocabulary is None else _frequent(vocabulary.values.slice(0, 12), vocabulary.counts),
    }


def _frequent(values: Any, counts: Any) -> list[tuple[str, int]]:
    return [(str(value), int(count)) for value, count in zip(values.to_pylist(), counts[: len(values)], strict=True)]


ROUTES = (
    Page(path="/features", title="Features", template="features.html", read=read),
    Page(path="/feature", title="Feature", template="feature.html", read=show, listed=False),
)
