"""Load the latest feature values into the online store."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING

from rf_platform.cli.console import track
from rf_platform.data.event_log import has_clock, note_loading, note_materialized, seal
from rf_platform.errors import NotFoundError, RfError, UnavailableError, UsageError
from rf_platform.features.history import write_user_history
from rf_platform.features.leftovers import remove_leftovers
from rf_platform.features.load import load_view
from rf_platform.features.read import FeatureDefinitions, ViewSource, read_definitions
from rf_platform.features.sources import count_rows
from rf_platform.features.store import first_line, open_store, quiet
from rf_platform.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

_START = datetime(1970, 1, 1, tzinfo=UTC)
# Recorded events may carry times of clocks that run ahead a little.
_SKEW = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Materialized:
    """One view that was loaded."""

    view: str
    rows: int
    seconds: float


def materialize(settings: Settings, views: Collection[str] = ()) -> list[Materialized]:
    """Write the history arrays from the interaction log, then load every view of the service into the online store.

    Afterwards the online store holds what the tables and the event log hold: corrected rows replace older ones also where their
    time did not change, and users and items that are gone are removed. What was written to it directly, and is not in the
    tables, is lost.

    Args:
        settings: the workspace and its stores.
        views: only these; default: all of the service.

    Raises:
        UsageError: the service has no view of that name.
        NotFoundError: no tables are imported, or a view's source file is missing.
        ConfigError: the definitions were registered for another workspace, or a history view would overwrite other data.
        UnavailableError: the online store cannot be written.
    """
    interactions = settings.workspace.tables / "interactions.parquet"
    if not interactions.exists():
        raise NotFoundError(f"no interactions in {settings.workspace.tables}; run `rf data import` first")
    store = open_store(settings)
    definitions = read_definitions(store, settings.feature_service)
    sources = _chosen(definitions.sources, views)
    note_loading(settings)
    events = seal(settings)
    sealed = events.sealed  # the files may have more by the time they are read, which is then applied once more
    with events.reading() as files:
        clock = has_clock(settings)
        write_user_history(definitions, interactions, settings.threads, files, clock=clock)
    if hasattr(store.config.online_store, "skip_dedup"):  # else Redis keeps what it has of the same time
        store.config.online_store.skip_dedup = True
    try:
        return _load(store, definitions, sources, settings.threads)
    finally:
        # Servers wrote events to the same rows meanwhile, and may have been overwritten, or have overwritten what was loaded.
        note_materialized(settings, sealed)


def _load(
    store: "FeatureStore", definitions: FeatureDefinitions, sources: Sequence[ViewSource], threads: int | None
) -> list[Materialized]:
    rows = {
        source.view: count_rows(source, definitions.spec) for source in sources
    }  # all are checked before any is loaded
    done: list[Materialized] = []
    until = datetime.now(UTC) + _SKEW
    with track("materialise", len(sources)) as progress:
        for source in sources:
            start = perf_counter()
            try:
                with quiet():
                    keys = load_view(store, source, definitions.spec, until, threads)
                    remove_leftovers(store, source.view, keys)
                    view = store.get_feature_view(source.view)
                    store.registry.apply_materialization(view, store.project, _START, until)
            except RfError:
                raise
            except Exception as error:  # each online store raises its own classes
                raise UnavailableError(
                    f"view '{source.view}' cannot be loaded into the online store: {first_line(error)}"
                ) from error
            done.append(Materialized(view=source.view, rows=rows[source.view], seconds=perf_counter() - start))
            progress.advance(note=source.view)
    return done


def _chosen(sources: Sequence[ViewSource], views: Collection[str]) -> Sequence[ViewSource]:
    known = [source.view for source in sources]
    if unknown := [view for view in views if view not in known]:
        raise UsageError(f"--view {unknown[0]}: the feature service has no such view; it has {', '.join(known)}")
    return [source for source in sources if not views or source.view in views]
