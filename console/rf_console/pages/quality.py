"""Quality: recall of the index, drift of features, skew between training and serving, and experiments."""

from collections.abc import Mapping
from typing import Any

from rf_console.web.routes import Page
from rf_console.web.visit import Visit
from rf_platform.bundle import read_manifest
from rf_platform.errors import NotFoundError, RfError
from rf_platform.failures import read_json
from rf_platform.features.lineage import LINEAGE, NOTABLE_SHIFT, NOTABLE_STRETCH
from rf_platform.registry import BundleRecord, RunRecord
from rf_platform.skew.difference import Status
from rf_platform.skew.monitors import limits_text
from rf_platform.skew.results import SkewResults

_SHOWN, _EARLIER = 20, 12


def read(visit: Visit) -> Mapping[str, Any]:
    """Return what was measured, the newest first."""
    registry = visit.console.registry
    wanted = visit.value("bundle")
    bundles = [
        each
        for each in reversed(registry.bundles())
        if each.removed_at is None and (not wanted or wanted in (each.name, each.run))
    ][:_SHOWN]
    runs = {run.name: run for run in registry.runs()}
    experiments = registry.experiments.history()[::-1]
    if (name := visit.value("experiment")) and name not in {each.name for each in experiments}:
        raise NotFoundError(f"there is no experiment '{name[:40]}'; this page lists those that there are")
    measured = SkewResults(visit.console.settings.workspace.skew)
    return {
        "replays": measured.newest("replay", _EARLIER),
        "monitors": measured.newest("monitor", _EARLIER),
        "statuses": [status.value for status in Status],
        "limits_text": limits_text,
        "index": [(each, _index(each), _kept(each)) for each in bundles],
        "drift": [found for each in bundles if (found := _drift(each, runs.get(each.run))) is not None],
        "experiments": [each for each in experiments if name in ("", each.name)],
        "every_experiment": len(experiments),
        "shift": NOTABLE_SHIFT,
        "stretch": NOTABLE_STRETCH,
    }


def _index(bundle: BundleRecord) -> dict[str, Any]:
    """Return kind and settings of a bundle's index, and its recall against the exact search where that was measured."""
    try:
        found = read_manifest(bundle.path).index.model_dump()
    except RfError as error:
        return {"kind": "", "problem": str(error), "recalls": {}, "settings": {}, "queries": None}
    recalls = {name: found.pop(name) for name in list(found) if name.startswith("recall@")}
    return {
        "kind": found.pop("kind"),
        "problem": "",
        "recalls": recalls,
        "queries": found.pop("recall_queries", None),
        "settings": found,
    }


def _kept(bundle: BundleRecord) -> list[dict[str, Any]]:
    """Return what approximate rankings kept of the exact one on the test split, as `rf evaluate` found."""
    test = bundle.metrics.get("test")
    return list(test.get("approximations", ())) if isinstance(test, dict) else []


def _drift(bundle: BundleRecord, run: RunRecord | None) -> tuple[BundleRecord, dict[str, Any], list[Any]] | None:
    """Return how numbers have moved since the statistics of a bundle's ancestor; None for one that was trained from nothing."""
    path = bundle.path / LINEAGE
    if run is None or not path.is_file():
        return None
    told = read_json(path, "restore it")
    moved = []
    for each in told["drift"]:
        kept, now = each["kept"], each["now"]
        shift, stretch = (now["mean"] - kept["mean"]) / kept["std"], now["std"] / kept["std"]
        notable = abs(shift) >= NOTABLE_SHIFT or not 1 / NOTABLE_STRETCH < stretch < NOTABLE_STRETCH
        moved.append((each["feature"], kept, now, shift, stretch, notable))
    return bundle, told, moved


ROUTES = (Page(path="/quality", title="Quality", template="quality.html", read=read),)
