"""Files of bundles, runs and datasets in the object store: they follow their records from host to host."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rf_platform.bundle.manifest import MANIFEST
from rf_platform.errors import CorruptError, RfError, UsageError
from rf_platform.object_store import Kind, Listing, ObjectStore, Pushed
from rf_platform.registry.records import BundleRecord, DatasetRecord, RunRecord, RunStatus

if TYPE_CHECKING:
    from rf_platform.registry.registry import Registry

Record = BundleRecord | RunRecord | DatasetRecord
R = TypeVar("R", BundleRecord, RunRecord, DatasetRecord)


def kind_of(record: Record) -> Kind:
    """Return the kind of what a record is of."""
    if isinstance(record, BundleRecord):
        return Kind.BUNDLE
    return Kind.RUN if isinstance(record, RunRecord) else Kind.DATASET


def fetch(store: ObjectStore | None, record: Record, *, visible: bool = True) -> bool:
    """Fetch what a record is of if its files are not here; return whether they were fetched.

    Args:
        store: the object store; None: nothing is fetched.
        record: of a bundle, run or dataset.
        visible: show the progress.

    Raises:
        NotFoundError: it is neither here nor in the store.
        CorruptError: the store has another one of that name, or a content that is damaged; the message names it.
        ConfigError, UnavailableError: the store cannot be read, or there is no room.
    """
    if store is None or record.path.exists():
        return False
    listing = store.listing(kind_of(record), record.name)
    _check_same(store, listing, record)
    store.pull(listing, record.path, visible=visible)
    return True


def fetched(registry: "Registry", record: R, *, visible: bool = True) -> R:
    """Have the files of a record here, from the object store if need be, and return it; see :func:`fetch` for what is raised."""
    if fetch(registry.store, record, visible=visible) and record.removed_at is not None:
        registry.note_back(kind_of(record), record.name)
    return record


def pushed(registry: "Registry", record: Record) -> Pushed:
    """Upload what a record is of, with the records that it comes from.

    Raises:
        NotFoundError: it has no files here, or there is no such bucket.
        UsageError: it is a run that is being trained, or the store has another bundle of that name.
        ConfigError, UnavailableError: there is no store, or it cannot be written to.
    """
    if isinstance(record, RunRecord) and record.status is RunStatus.RUNNING:
        raise UsageError(f"run '{record.name}' is being trained; push it when it has ended")
    return registry.store_or_refuse.push(kind_of(record), record.name, record.path, _facts(registry, record))


def published(registry: "Registry", record: Record) -> None:
    """Upload what was just made, where there is an object store.

    Raises:
        RfError: as :func:`pushed`; the message says that it is complete here, and how it is pushed by hand.
    """
    if registry.store is None:
        return
    try:
        pushed(registry, record)
    except RfError as error:
        kind = kind_of(record)
        raise type(error)(
            f"{kind} '{record.name}' is complete here, but was not pushed: {error}; then "
            f"`rf store push {kind} {record.name}`"
        ) from error


def pulled(registry: "Registry", kind: Kind, name: str, workspace: Path) -> Path:
    """Fetch a thing by name, record it if the registry does not have it, and return where it is.

    Args:
        registry: where bundles, runs and datasets are recorded; those that a bundle comes from are, too, without their files.
        kind: bundle, dataset or run.
        name: of the thing.
        workspace: where what is not recorded goes.

    Raises:
        NotFoundError: the store has no such thing.
        CorruptError: it is another one than the recorded one, or damaged.
        UsageError: the registry has another run or dataset of a name that it comes from.
    """
    store = registry.store_or_refuse
    listing = store.listing(kind, name)
    known = next((each for each in _all(registry, kind) if each.name == name), None)
    if known is not None:
        _check_same(store, listing, known)
    directory = workspace / f"{kind}s" / name if known is None else known.path
    store.pull(listing, directory)
    if known is None:
        _record(registry, listing, directory)
    elif known.removed_at is not None:
        registry.note_back(kind, name)
    return directory


def _all(registry: "Registry", kind: Kind) -> Sequence[Record]:
    if kind is Kind.BUNDLE:
        return registry.bundles()
    return registry.runs() if kind is Kind.RUN else registry.datasets()


def _check_same(store: ObjectStore, listing: Listing, record: Record) -> None:
    """Refuse another thing of the same name, before anything of it is fetched."""
    if isinstance(record, BundleRecord):
        there, here = listing.files[MANIFEST].sha256 if MANIFEST in listing.files else "", record.manifest_sha256
    elif isinstance(record, DatasetRecord):
        there, here = str(listing.facts.get("dataset", {}).get("fingerprint")), record.fingerprint
    else:
        there, here = str(listing.facts.get("run", {}).get("dataset")), record.dataset
    if there != here:
        raise CorruptError(
            f"{store.remote.url} has another {listing.kind} '{listing.name}' ({there[:12]}) than the registry ({here[:12]}); "
            f"correct RF_STORE_URL or RF_REGISTRY_URL, which belong together"
        )


def _facts(registry: "Registry", record: Record) -> dict[str, dict[str, Any]]:
    """Return a record, and those of the run and the dataset that it comes from, as values for :func:`_record`."""
    found: dict[str, dict[str, Any]] = {}
    if isinstance(record, BundleRecord):
        found["bundle"] = _fields(record, "name", "run", "manifest_sha256", "spec_hash", "metrics")
        record = registry.run(record.run)
    if isinstance(record, RunRecord):
        found["run"] = _fields(record, "name", "dataset", "recipe", "config", "status", "metrics", "error", "trial")
        record = registry.dataset(record.dataset)
    found["dataset"] = _fields(record, "name", "version", "fingerprint", "spec_hash", "counts")
    return found


def _fields(record: Record, *names: str) -> dict[str, Any]:
    return {name: getattr(record, name) for name in names}


def _record(registry: "Registry", listing: Listing, directory: Path) -> None:
    """Record a thing and what it comes from, the latter as removed: their files are not here."""
    facts, home = listing.facts, directory.parent.parent
    dataset, run = facts.get("dataset"), facts.get("run")
    if dataset is not None and dataset["name"] not in {each.name for each in registry.datasets()}:
        registry.record_dataset(**dataset, path=home / "datasets" / dataset["name"])
        if listing.kind is not Kind.DATASET:
            registry.note_removed(datasets=[dataset["name"]])
    if run is not None and run["name"] not in {each.name for each in registry.runs()}:
        path = home / "runs" / run["name"]
        given = {name: run[name] for name in ("dataset", "recipe", "config", "trial")}
        registry.start_run(run["name"], **given, path=path)
        if run["status"] == RunStatus.COMPLETED:
            registry.finish_run(run["name"], run["metrics"])
        else:
            registry.fail_run(run["name"], str(run["error"]))
        if listing.kind is not Kind.RUN:
            registry.note_removed(runs=[run["name"]])
    if listing.kind is Kind.BUNDLE:
        registry.record_bundle(**facts["bundle"], path=directory)
