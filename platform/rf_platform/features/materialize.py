"""Load the latest feature values into the online store."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from dataclasses import dataclass, replace
from datetime import timedelta
from time import perf_counter
from typing import TYPE_CHECKING, Self

from rf_platform.cli.console import track
from rf_platform.data.event_log import EventLog, EventParts, has_clock, seal
from rf_platform.data.event_log.reading import interaction_log
from rf_platform.data.replacing import reading_tables
from rf_platform.errors import NotFoundError, UnavailableError, UsageError
from rf_platform.failures import translated
from rf_platform.features.expiry import now_us
from rf_platform.features.history import write_user_history
from rf_platform.features.load import Loaded, load_view
from rf_platform.features.online_table import has_table
from rf_platform.features.read import FeatureDefinitions, ViewSource, read_definitions
from rf_platform.features.seen import VIEW as SEEN
from rf_platform.features.seen_rows import load_seen
from rf_platform.features.sources import check_file
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.store import open_store, quiet
from rf_platform.features.store_marks import VIEW as MARKS
from rf_platform.features.store_marks import LoadMark, Standing, StoreMarks, standing_of
from rf_platform.locks import locked
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from feast import FeatureStore


@dataclass(frozen=True, kw_only=True)
class Materialized(Loaded):
    """One view that was loaded."""

    view: str
    seconds: float
    ttl: timedelta | None
    remark: str = ""
    """About the store as it was before."""

    @property
    def warnings(self) -> list[str]:
        """Warnings about the load, one sentence each; empty if there are none."""
        said = [self.remark] if self.remark else []
        if self.rows and self.expired == self.rows:
            said.append(
                f"all {self.rows:,} rows of view '{self.view}' have expired: its ttl is {self.ttl}, its newest row is of "
                f"{self.newest}; no entity has a value of it at present"
            )
        if self.kept:
            said.append(
                f"{self.kept:,} rows of view '{self.view}' were written to the online store since its last load and are newer "
                f"than its file: they stay this time, and the next load takes the file's, which should have them by then"
            )
        if self.replaced:
            said.append(
                f"{self.replaced:,} rows of view '{self.view}' were newer in the online store than in its file, and are now as "
                f"in the file: they were withdrawn from it, or written with a time before the last load"
            )
        return said


def materialize(settings: Settings, views: Collection[str] = (), moment_us: int | None = None) -> list[Materialized]:
    """Write the history arrays from the interaction log, then load every view of the service into the online store.

    The seen sets (:mod:`rf_platform.features.seen`) are loaded with the history views, and come last in the result.

    Afterwards the online store holds what the tables and the event log hold: corrected rows replace older ones also where their
    time did not change, and users and items that are gone are removed. Feature rows that were written to it directly since the
    last time and are newer than the tables' stay this time. Views of items with ``online=False`` are left out.

    Args:
        settings: the workspace and its stores.
        views: only these; default: all of the service.
        moment_us: load what holds then, in microseconds since 1970; default: now.

    Raises:
        UsageError: the service has no view of that name, or it has ``online=False``.
        NotFoundError: no tables are imported, or a view's source file is missing.
        ConfigError: the definitions were registered for another workspace, or a history view would overwrite other data.
        UnavailableError: the online store cannot be written, or another process loads it or imports.
    """
    interactions = settings.workspace.tables / "interactions.parquet"
    if not interactions.exists():
        raise NotFoundError(f"no interactions in {settings.workspace.tables}; run `rf data import` first")
    store = open_store(settings)
    definitions = read_definitions(store, settings.feature_service)
    sources = _chosen(definitions.sources, views)
    with (
        reading_tables(settings.workspace.tables),
        locked(settings.workspace.tables, f"another `rf features materialize` works on {settings.workspace.root}"),
        _StoreLoad(settings, store) as load,
    ):
        return _materialize(settings, load, store, definitions, sources, whole=not views, moment_us=moment_us)


def _materialize(
    settings: Settings,
    load: "_StoreLoad",
    store: "FeatureStore",
    definitions: FeatureDefinitions,
    sources: Sequence[ViewSource],
    *,
    whole: bool,
    moment_us: int | None,
) -> list[Materialized]:
    interactions = settings.workspace.tables / "interactions.parquet"
    events = seal(settings)
    load.sealed = events.sealed  # the files may have more by the time they are read, which is then applied once more
    clock = has_clock(settings)
    with events.reading() as files:
        write_user_history(definitions, interactions, settings.threads, files, clock=clock)
    done = _load(store, definitions, sources, now_us() if moment_us is None else moment_us, settings.threads)
    if whole or any(source.side == "context" for source in sources):
        with (
            events.reading() as files,
            interaction_log(interactions, files, threads=settings.threads, clock=clock) as log,
        ):
            done.append(_load_seen(store, definitions.spec, log, str(interactions)))
    every = {source.view for source in _chosen(definitions.sources, ())} | {SEEN}
    with _loading(MARKS):
        remark = load.finish(whole=every <= {each.view for each in done})
    return [*done[:-1], replace(done[-1], remark=remark)] if done else []


class _StoreLoad:
    """The load as the event log and the marks of the store know it, from its beginning to its end, also of one that fails."""

    def __init__(self, settings: Settings, store: "FeatureStore") -> None:
        """Initialise; nothing is loaded yet."""
        self._settings, self._store, self._marks = settings, store, StoreMarks(store)
        self._online = store._get_provider().online_store
        self._epoch = 0
        self.sealed = 0
        """The last event that the rows have."""

    def __enter__(self) -> Self:
        """Begin the load; the log keeps its events until the end."""
        with ExitStack() as ending:
            self._log = ending.enter_context(closing(EventLog.open(self._settings)))
            with _loading(MARKS):
                self._before = standing_of(self._settings, self._store, self._log)
                self._marks.create(self._online)
            self.sealed = EventParts(self._settings.workspace.events).sealed
            self._pending = self._log.loading(self.sealed)
            self._ending = ending.pop_all()
        return self

    def finish(self, *, whole: bool) -> str:
        """Mark the store as loaded, and return a remark about what it was before; all rows are there.

        Args:
            whole: whether all views were loaded. If not, a store that lost others stays one that lost them.
        """
        before, now = self._before, self._before
        if not whole:
            now = standing_of(self._settings, self._store, self._log)
            if now.standing is not Standing.CURRENT:
                return "" if now.standing is Standing.UNMARKED else f"{now.detail}; load all views"
        state = self._log.state()
        if not whole:  # with some of the views alone no events are loaded
            self.sealed = min(self.sealed, state.applied, now.position)
        self._marks.write_load(self._online, LoadMark(state.log, self._pending, self.sealed))
        self._epoch = self._pending
        return f"{before.detail}; it is of this one now" if before.standing is Standing.FOREIGN else ""

    def __exit__(self, *_: object) -> None:
        """Tell the event log, so that events applied to the same rows meanwhile are replayed."""
        with self._ending:
            self._log.materialized(self.sealed, self._epoch)


def _load(
    store: "FeatureStore",
    definitions: FeatureDefinitions,
    sources: Sequence[ViewSource],
    moment_us: int,
    threads: int | None,
) -> list[Materialized]:
    spec, done = definitions.spec, list[Materialized]()
    for source in sources:  # all are checked before any is loaded
        check_file(source, spec)
    online = store._get_provider().online_store
    lacking = [v for v in (store.get_feature_view(s.view) for s in sources) if not has_table(store.config, online, v)]
    if lacking:  # the store was deleted, or is another one
        online.update(store.config, [], lacking, [], [], True)
    with track("materialise", len(sources)) as progress:
        for source in sources:
            start = perf_counter()
            with _loading(source.view), quiet():
                loaded = load_view(store, source, spec, moment_us, threads)
            seconds = perf_counter() - start
            done.append(Materialized(view=source.view, seconds=seconds, ttl=source.ttl, **vars(loaded)))
            progress.advance(note=source.view)
    return done


def _load_seen(store: "FeatureStore", spec: FeatureSpec, log: "DuckDBPyConnection", named: str) -> Materialized:
    start = perf_counter()
    with _loading(SEEN):
        users = load_seen(store, spec, log, named)
    return Materialized(view=SEEN, rows=users, seconds=perf_counter() - start, ttl=None)


def _loading(view: str) -> AbstractContextManager[None]:
    """Translate what the online store raises of a view."""
    about, remedy = (
        f"view '{view}' cannot be loaded into the online store",
        "mend that and run `rf features materialize` again",
    )
    return translated(about, remedy, UnavailableError, packages=("feast",))


def _chosen(sources: Sequence[ViewSource], views: Collection[str]) -> Sequence[ViewSource]:
    known = [source.view for source in sources]
    if unknown := [view for view in views if view not in known]:
        raise UsageError(f"--view {unknown[0]}: the feature service has no such view; it has {', '.join(known)}")
    offline = [source.view for source in sources if not source.online]
    if asked := [view for view in views if view in offline]:
        raise UsageError(f"--view {asked[0]}: the view is defined with online=False, so it is not loaded")
    return [source for source in sources if source.online and (not views or source.view in views)]
