"""The registry: what was built, what is served, and what was served before."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from rf_platform.bundle import check_name, to_plain
from rf_platform.errors import ConfigError, UsageError
from rf_platform.object_store import Kind, ObjectStore
from rf_platform.registry.engine import explained, make_directory, make_engine, parse_url, upgrade, writing
from rf_platform.registry.experiments import Experiments
from rf_platform.registry.lookup import (
    HISTORY,
    NEWEST_DEPLOYMENT,
    RowReader,
    all_rows,
    append_deployment,
    named,
    previous_bundle,
)
from rf_platform.registry.models import Bundle, Dataset, Run
from rf_platform.registry.policies import PolicyVersions
from rf_platform.registry.records import Action, BundleRecord, DatasetRecord, DeploymentRecord, RunRecord, RunStatus
from rf_platform.registry.traffic import TrafficControl, withdraw
from rf_platform.settings import Settings, get_settings


class Registry:
    """Datasets, runs, bundles and deployments of a workspace.

    Every method is one transaction, safe from many threads and processes at once, and returns values, never live
    database objects. Lists run from the oldest to the newest. Methods that look a name up raise
    :class:`~rf_platform.errors.NotFoundError`, which names what there is; all of them raise
    :class:`~rf_platform.errors.UnavailableError` when the database cannot be used.
    """

    def __init__(self, engine: Engine, root: Path, settings: Settings | None = None) -> None:
        self._engine, self._writer = engine, writing(engine)
        self._rows = RowReader(root.resolve())
        self.signed_by = settings.require_signature if settings is not None else None
        """Public keys that a bundle has to be signed with to be promoted; None: signatures are not looked at."""
        self.signing_key = settings.signing_key if settings is not None else None
        """Private key that bundles are signed with when they are built."""
        self.store = ObjectStore(settings) if settings is not None and settings.store_url else None
        """The object store; None: files stay where they are made."""
        self.traffic = TrafficControl(self._session, self._engine, self._writer, self._rows)
        """The split and the shadow beside the served bundle."""
        self.policies = PolicyVersions(self._session, self._engine, self._writer)
        """The versions of the policy."""
        self.experiments = Experiments(self._session, self._engine, self._writer)
        """Experiments on splits."""

    @classmethod
    def of(cls, settings: Settings | None = None) -> "Registry":
        """Open the registry of a workspace, see :meth:`open`; default: that of the process's settings."""
        settings = settings or get_settings()
        if settings.registry_url is None:
            settings.workspace.check_exists()
        return cls.open(settings.platform_registry_url, root=settings.workspace.root, settings=settings)

    @classmethod
    def open(cls, url: str, *, root: Path | None = None, settings: Settings | None = None) -> "Registry":
        """Open a registry, creating or upgrading its tables if need be.

        Args:
            url: SQLAlchemy URL.
            root: paths inside this directory are stored relative to it, so that a workspace can be moved or mounted
                elsewhere; default: the workspace of the process's settings.
            settings: keys of bundles; default: none.

        Raises:
            ConfigError: the URL is not usable, or a newer version of the code has written the tables.
            UnavailableError: the database cannot be reached.
            CorruptError: the file is no SQLite database.
        """
        parsed = parse_url(url)
        engine = make_engine(parsed)
        with explained(parsed):
            make_directory(parsed)
            upgrade(engine)
        return cls(engine, root or get_settings().workspace.root, settings)

    @property
    def store_or_refuse(self) -> ObjectStore:
        """The object store.

        Raises:
            ConfigError: there is none.
        """
        if self.store is None:
            raise ConfigError(
                "there is no object store; set RF_STORE_URL, such as s3://bucket/prefix or file:///directory"
            )
        return self.store

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        with explained(engine.url), Session(engine) as session, session.begin():
            yield session

    # Datasets

    def record_dataset(
        self,
        *,
        name: str,
        version: int,
        path: Path | str,
        fingerprint: str,
        spec_hash: str,
        counts: Mapping[str, Any],
    ) -> DatasetRecord:
        """Record a dataset version that was just built or found again: it is the latest one now, wherever it lies.

        Raises:
            UsageError: runs were trained on a version of this name with another fingerprint, or the name is not usable.
        """
        check_name("dataset", name)
        with self._session(self._writer) as session:
            row = session.scalar(select(Dataset).filter_by(name=name))
            if row is None:
                row = Dataset(name=name)
                session.add(row)
            elif row.fingerprint != fingerprint and (
                run := session.scalar(select(Run).filter_by(dataset_id=row.id).limit(1))
            ):
                raise UsageError(
                    f"dataset '{name}' had fingerprint {row.fingerprint} when run '{run.name}' was trained on it, and now "
                    f"has {fingerprint}; a version that was trained on never changes: build it under another name"
                )
            row.version, row.fingerprint, row.spec_hash = version, fingerprint, spec_hash
            row.path, row.counts, row.created_at = self._rows.store_path(path), to_plain(counts), datetime.now(UTC)
            row.removed_at = None
            session.flush()
            return self._rows.dataset(row)

    def datasets(self) -> list[DatasetRecord]:
        """Return all dataset versions, in the order they were last built."""
        with self._session(self._engine) as session:
            return [self._rows.dataset(row) for row in all_rows(session, Dataset)]

    def dataset(self, name: str | None = None) -> DatasetRecord:
        """Return a dataset version by name, or the one that was built last and has its files."""
        with self._session(self._engine) as session:
            return self._rows.dataset(named(session, Dataset, name))

    # Runs

    def start_run(
        self,
        name: str,
        *,
        dataset: str,
        recipe: str,
        config: Mapping[str, Any],
        path: Path | str,
        resume: bool = False,
        trial: bool = False,
    ) -> RunRecord:
        """Record that a training run starts, or goes on.

        Args:
            name: name of the run, also that of its directory.
            dataset: name of the dataset version.
            recipe: name of the recipe.
            config: the complete configuration.
            path: directory of the run.
            resume: continue the run of this name if there is one: it is running again, with this configuration, and
                keeps its start time and metrics.
            trial: it is one of many, and never taken where no run is named.

        Raises:
            NotFoundError: the dataset is not recorded.
            UsageError: a run of this name exists and is not to be resumed, or is of another dataset version or recipe.
        """
        check_name("run", name)
        with self._session(self._writer) as session:
            on = named(session, Dataset, dataset)
            row = session.scalar(select(Run).filter_by(name=name))
            if row is None:
                row = Run(name=name, dataset=on, recipe=recipe, metrics={}, started_at=datetime.now(UTC), trial=trial)
                session.add(row)
            elif not resume:
                raise UsageError(
                    f"there is a run '{name}' already ({row.status}, started {row.started_at:%Y-%m-%d %H:%M} UTC); resume "
                    f"it or choose another name"
                )
            elif (row.dataset_id, row.recipe) != (on.id, recipe):
                raise UsageError(
                    f"run '{name}' was started on dataset '{row.dataset.name}' with recipe '{row.recipe}' and cannot go on "
                    f"with '{on.name}' and '{recipe}'; choose another name for a new run"
                )
            row.status, row.error, row.ended_at = RunStatus.RUNNING, None, None
            row.config, row.path = to_plain(config), self._rows.store_path(path)
            session.flush()
            return self._rows.run(row)

    def finish_run(self, name: str, metrics: Mapping[str, Any]) -> RunRecord:
        """Record that a run is completed; a metric that is NaN becomes null.

        Done again, later evaluations replace the metrics, and the time of completion stays.
        """
        with self._session(self._writer) as session:
            row = named(session, Run, name)
            if row.status is not RunStatus.COMPLETED:
                row.status, row.error, row.ended_at = RunStatus.COMPLETED, None, datetime.now(UTC)
            row.metrics = to_plain(metrics)
            return self._rows.run(row)

    def fail_run(self, name: str, error: str) -> RunRecord:
        """Record that a run failed, and why."""
        with self._session(self._writer) as session:
            row = named(session, Run, name)
            row.status, row.error, row.ended_at = RunStatus.FAILED, error, datetime.now(UTC)
            return self._rows.run(row)

    def runs(self) -> list[RunRecord]:
        """Return all runs, in the order they were first started."""
        with self._session(self._engine) as session:
            return [self._rows.run(row) for row in all_rows(session, Run)]

    def run(self, name: str | None = None) -> RunRecord:
        """Return a run by name, or the one started last that is no trial and has its files."""
        with self._session(self._engine) as session:
            return self._rows.run(named(session, Run, name))

    # Bundles

    def next_bundle_name(self, run: str, directory: Path) -> str:
        """Return ``<run>-<n>`` with the first number that neither the registry nor ``directory`` has taken."""
        taken = {b.name for b in self.bundles()} | {p.name for p in directory.glob(f"{run}-*")}
        return next(name for n in range(1, len(taken) + 2) if (name := f"{run}-{n}") not in taken)

    def record_bundle(
        self,
        *,
        name: str,
        run: str,
        path: Path | str,
        manifest_sha256: str,
        spec_hash: str,
        metrics: Mapping[str, Any],
    ) -> BundleRecord:
        """Record a published bundle; recording the same one again only notes where it now lies.

        Raises:
            NotFoundError: the run is not recorded.
            UsageError: another bundle was recorded under this name (bundles never change), or the name is not usable.
        """
        check_name("bundle", name)
        with self._session(self._writer) as session:
            of = named(session, Run, run)
            row = session.scalar(select(Bundle).filter_by(name=name))
            if row is None:
                row = Bundle(name=name, run=of, manifest_sha256=manifest_sha256, created_at=datetime.now(UTC))
                row.spec_hash, row.metrics = spec_hash, to_plain(metrics)
                session.add(row)
            elif (row.run_id, row.manifest_sha256) != (of.id, manifest_sha256):
                raise UsageError(
                    f"another bundle, of run '{row.run.name}', was recorded as '{name}', and bundles never change; choose "
                    f"another name"
                )
            row.path = self._rows.store_path(path)
            session.flush()
            return self._rows.bundle(row)

    def bundles(self) -> list[BundleRecord]:
        """Return all bundles, in the order they were recorded."""
        with self._session(self._engine) as session:
            return [self._rows.bundle(row) for row in all_rows(session, Bundle)]

    def bundle(self, name: str) -> BundleRecord:
        """Return a bundle by name."""
        with self._session(self._engine) as session:
            return self._rows.bundle(named(session, Bundle, name))

    def note_removed(
        self, *, bundles: Iterable[str] = (), runs: Iterable[str] = (), datasets: Iterable[str] = ()
    ) -> None:
        """Note that the files of bundles, runs and datasets are removed; what they were stays recorded."""
        now = datetime.now(UTC)
        with self._session(self._writer) as session:
            for bundle in bundles:
                named(session, Bundle, bundle).removed_at = now
            for run in runs:
                named(session, Run, run).removed_at = now
            for dataset in datasets:
                named(session, Dataset, dataset).removed_at = now

    def note_back(self, kind: Kind, name: str) -> None:
        """Note that the files of a bundle, run or dataset that were removed are there again."""
        with self._session(self._writer) as session:
            table: Any = {Kind.BUNDLE: Bundle, Kind.RUN: Run, Kind.DATASET: Dataset}[kind]
            named(session, table, name).removed_at = None

    # Deployments

    def promote(self, name: str, note: str = "") -> DeploymentRecord:
        """Make a bundle the served one, without looking at its files (:func:`rf_platform.registry.promote` does).

        Promoting the served bundle again adds nothing to the history and returns the deployment that made it the served one. A
        split ends, and so does the shadow of the promoted bundle.
        """
        with self._session(self._writer) as session:
            bundle = named(session, Bundle, name)
            newest = session.scalar(NEWEST_DEPLOYMENT)
            withdraw(session, note, promoted=bundle)
            if newest is None or newest.bundle_id != bundle.id:
                newest = append_deployment(session, bundle, Action.PROMOTE, note)
            return self._rows.deployment(newest)

    def rollback(self, note: str = "", *, expected: str | None = None) -> DeploymentRecord:
        """Go back to the bundle served before the current one; :mod:`rf_platform.registry.lookup` says which that is.

        Args:
            note: why, for the history.
            expected: name of the bundle that the caller has checked; nothing is changed if it is another one by now.

        Raises:
            UsageError: nothing was served before the current bundle, or it is not the expected one.
        """
        with self._session(self._writer) as session:
            target = previous_bundle(session)
            if expected not in (None, target.name):
                raise UsageError(
                    f"somebody else promoted or rolled back meanwhile: a rollback now leads to '{target.name}', not to "
                    f"'{expected}'; look at `rf bundles` and try again"
                )
            withdraw(session, note, promoted=target)
            return self._rows.deployment(append_deployment(session, target, Action.ROLLBACK, note))

    def rollback_target(self) -> BundleRecord:
        """Return the bundle that a rollback would go back to.

        Raises:
            UsageError: nothing was served before the current bundle.
        """
        with self._session(self._engine) as session:
            return self._rows.bundle(previous_bundle(session))

    def active_bundle(self) -> BundleRecord | None:
        """Return the served bundle: that of the newest deployment, or None if nothing was ever promoted."""
        with self._session(self._engine) as session:
            newest = session.scalar(NEWEST_DEPLOYMENT)
            return None if newest is None else self._rows.bundle(newest.bundle)

    def deployments(self) -> list[DeploymentRecord]:
        """Return the history of deployments."""
        with self._session(self._engine) as session:
            return [self._rows.deployment(row) for row in session.scalars(HISTORY)]
