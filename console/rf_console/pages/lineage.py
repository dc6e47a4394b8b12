"""Lineage: tables, dataset, run, bundle and deployment with their fingerprints, and what differs between two of a kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from rf_console.web.routes import Page
from rf_console.web.visit import Visit
from rf_platform.bundle import read_manifest
from rf_platform.bundle.manifest import manifest_sha256
from rf_platform.errors import NotFoundError, RfError, UsageError
from rf_platform.failures import read_json
from rf_platform.features.lineage import LINEAGE
from rf_platform.registry import BundleRecord, DatasetRecord, Registry, RunRecord
from rf_platform.registry.differences import differences, flat

_SHOWN = 100


@dataclass(frozen=True, kw_only=True)
class Link:
    """One link of the chain."""

    kind: str
    name: str
    at: datetime | str | None
    facts: Sequence[tuple[str, str]]
    """Label and fingerprint or figure."""
    problem: str = ""
    """Why the fingerprints do not fit those of the link before it."""
    page: str = ""


def read(visit: Visit) -> Mapping[str, Any]:
    """Return the chain of a bundle, a run or a dataset, and all there are of each kind."""
    registry = visit.console.registry
    plan, datasets, runs, bundles = registry.traffic.plan(), registry.datasets(), registry.runs(), registry.bundles()
    dataset, run, bundle = _chosen(visit, plan.active, datasets, runs, bundles)
    links = [_tables(visit.console.settings.workspace.tables, dataset)]
    links += [_dataset(dataset)] if dataset is not None else []
    links += [_run(run, dataset)] if run is not None and dataset is not None else []
    links += [_bundle(bundle, dataset)] if bundle is not None and dataset is not None else []
    served = [each for each in registry.deployments() if bundle is not None and each.bundle == bundle.name][::-1]
    beside = {
        "served now": plan.active,
        f"challenger, {plan.traffic.percent:g}% of the users": plan.challenger,
        "shadow": plan.shadow,
    }
    return {
        "links": [each for each in links if each is not None],
        "dataset": dataset,
        "run": run,
        "bundle": bundle,
        "served": served,
        "roles_of_bundle": [
            role
            for role, each in beside.items()
            if bundle is not None and each is not None and each.name == bundle.name
        ],
        "datasets": datasets[::-1][:_SHOWN],
        "runs": [each for each in reversed(runs) if not each.trial][:_SHOWN],
        "bundles": bundles[::-1][:_SHOWN],
    }


_Chain = tuple[DatasetRecord | None, RunRecord | None, BundleRecord | None]


def _chosen(
    visit: Visit,
    active: BundleRecord | None,
    datasets: Sequence[DatasetRecord],
    runs: Sequence[RunRecord],
    bundles: Sequence[BundleRecord],
) -> _Chain:
    """Return what the address names and what it was made from; without a name, that of the served bundle."""
    if name := visit.value("dataset"):
        return _named("dataset", name, datasets), None, None
    bundle, run = active, None
    if name := visit.value("run"):
        bundle, run = None, _named("run", name, runs)
    elif name := visit.value("bundle"):
        bundle = _named("bundle", name, bundles)
    if bundle is not None:
        run = _named("run", bundle.run, runs)
    if run is not None:
        return _named("dataset", run.dataset, datasets), run, bundle
    return next((each for each in reversed(datasets) if each.removed_at is None), None), None, None


_Record = TypeVar("_Record", DatasetRecord, RunRecord, BundleRecord)


def _named(kind: str, name: str, among: Sequence[_Record]) -> _Record:
    for each in among:
        if each.name == name:
            return each
    raise NotFoundError(
        f"there is no {kind} '{name[:80]}'; the lists on the page of the lineage have those that there are"
    )


def _tables(tables: Path, dataset: DatasetRecord | None) -> Link | None:
    if not (tables / "import.json").is_file():
        return None
    told = read_json(tables / "import.json", "run `rf data import` again")
    counts = told.get("counts", {})
    facts = [(name, f"{count:,}") for name, count in counts.items() if isinstance(count, int)]
    facts += [(file, str(sha)[:16]) for file, sha in told.get("files", {}).items()]
    at, problem = told.get("imported_at") or None, ""
    if dataset is not None and at and datetime.fromisoformat(at) > dataset.created_at:
        problem = f"imported after {dataset.name} was built: `rf dataset build` makes a version of these tables"
    return Link(kind="tables", name=str(told.get("name", "")), at=at, facts=facts, problem=problem)


def _dataset(dataset: DatasetRecord) -> Link:
    shown = ("users", "items", "events", "train", "validation", "test")
    return Link(
        kind="dataset",
        name=dataset.name,
        at=dataset.created_at,
        facts=[
            ("fingerprint", dataset.fingerprint[:16]),
            ("specification", dataset.spec_hash[:16]),
            *((name, f"{dataset.counts[name]:,}") for name in shown if name in dataset.counts),
        ],
        problem=_gone(dataset.removed_at),
        page=f"/features?dataset={dataset.name}",
    )


def _run(run: RunRecord, dataset: DatasetRecord) -> Link:
    problem, facts = _gone(run.removed_at), [("recipe", run.recipe), ("status", run.status.value)]
    if not problem and (run.path / "run.json").is_file():
        of = str(read_json(run.path / "run.json", "train it again").get("dataset_fingerprint", ""))
        facts.append(("of dataset", of[:16]))
        problem = _other(of, dataset)
    if not problem and (run.path / LINEAGE).is_file():
        parent = read_json(run.path / LINEAGE, "restore it")["parent"]
        facts += [("goes on from bundle", parent["bundle"]), ("its manifest", parent["manifest_sha256"][:16])]
    return Link(kind="run", name=run.name, at=run.started_at, facts=facts, problem=problem, page=f"/runs/{run.name}")


def _bundle(bundle: BundleRecord, dataset: DatasetRecord) -> Link:
    facts = [("manifest", bundle.manifest_sha256[:16]), ("specification", bundle.spec_hash[:16])]
    problem = _gone(bundle.removed_at)
    if not problem:
        try:
            manifest = read_manifest(bundle.path)
            facts += [
                ("of dataset", manifest.dataset_fingerprint[:16]),
                ("index", manifest.index.kind),
                ("size", f"{manifest.total_bytes / 2**20:,.1f} MiB in {len(manifest.files)} files"),
            ]
            changed = manifest_sha256(bundle.path) != bundle.manifest_sha256
            problem = "its manifest is another one than was recorded" if changed else ""
            problem = problem or _other(manifest.dataset_fingerprint, dataset)
        except RfError as error:
            problem = str(error)
    return Link(
        kind="bundle", name=bundle.name, at=bundle.created_at, facts=facts, problem=problem, page="/deployments"
    )


def _gone(removed_at: datetime | None) -> str:
    return f"its files were removed at {removed_at:%Y-%m-%d %H:%M} UTC" if removed_at is not None else ""


def _other(fingerprint: str, dataset: DatasetRecord) -> str:
    """Return a sentence where a fingerprint is not that of the dataset."""
    if not fingerprint or fingerprint == dataset.fingerprint:
        return ""
    return f"made from a dataset with fingerprint {fingerprint[:16]}, and {dataset.name} has {dataset.fingerprint[:16]}"


def compare(visit: Visit) -> Mapping[str, Any]:
    """Return what differs between two datasets, runs or bundles."""
    registry, kind = visit.console.registry, visit.value("kind", "bundle")
    if kind not in _KINDS:
        raise UsageError(f"kind={kind[:40]!r} cannot be compared; choose one of {', '.join(_KINDS)}")
    names_of, facts_of = _KINDS[kind]
    names = names_of(registry)
    one, other = visit.value("one"), visit.value("other")
    found: dict[str, tuple[Any, Any]] | None = None
    if one and other:
        found = differences(facts_of(registry, one), facts_of(registry, other))
    return {"kind": kind, "kinds": list(_KINDS), "names": names, "one": one, "other": other, "found": found}


def _dataset_facts(registry: Registry, name: str) -> dict[str, Any]:
    record = registry.dataset(name)
    facts = {"fingerprint": record.fingerprint, "spec_hash": record.spec_hash, "counts": record.counts}
    if (record.path / "manifest.json").is_file():
        facts |= read_json(record.path / "manifest.json", "build it again")
    return _without(flat(facts), "name", "created_at", "format")


def _run_facts(registry: Registry, name: str) -> dict[str, Any]:
    run = registry.run(name)
    facts = {"dataset": run.dataset, "recipe": run.recipe, "status": run.status.value, "error": run.error}
    return dict(flat({**facts, "config": run.config, "metrics": run.metrics}))


def _bundle_facts(registry: Registry, name: str) -> dict[str, Any]:
    record = registry.bundle(name)
    run = registry.run(record.run)
    facts: dict[str, Any] = {"run": record.run, "dataset": run.dataset, "specification": record.spec_hash}
    facts |= {"config": run.config, "metrics": record.metrics}
    if record.removed_at is None:
        manifest = read_manifest(record.path)
        facts |= {"dataset fingerprint": manifest.dataset_fingerprint, "index": manifest.index.model_dump()}
        facts["files"] = {name: f"{entry.bytes:,} bytes, {entry.sha256[:12]}" for name, entry in manifest.files.items()}
    return dict(flat(facts))


def _without(facts: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in facts if name not in names}


_KINDS: dict[str, tuple[Callable[[Registry], list[str]], Callable[[Registry, str], dict[str, Any]]]] = {
    "dataset": (lambda registry: [each.name for each in reversed(registry.datasets())], _dataset_facts),
    "run": (lambda registry: [each.name for each in reversed(registry.runs())], _run_facts),
    "bundle": (lambda registry: [each.name for each in reversed(registry.bundles())], _bundle_facts),
}

ROUTES = (
    Page(path="/lineage", title="Lineage", template="lineage.html", read=read),
    Page(path="/lineage/compare", title="What differs", template="lineage_compare.html", read=compare, listed=False),
)
