"""Load the latest feature values into the online store."""

from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter

from rf_platform.cli.console import track
from rf_platform.errors import NotFoundError, UnavailableError
from rf_platform.features.history import write_user_history
from rf_platform.features.leftovers import remove_leftovers
from rf_platform.features.read import read_definitions
from rf_platform.features.sources import count_rows
from rf_platform.features.store import first_line, open_store, quiet
from rf_platform.settings import Settings

# Feast's incremental materialisation starts 52 weeks ago and silently skips what is older: always give the whole range.
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Materialized:
    """One view that was loaded."""

    view: str
    rows: int
    seconds: float


def materialize(settings: Settings) -> list[Materialized]:
    """Write the history arrays from the interaction log, then load every view of the service into the online store.

    Afterwards the online store holds what the tables hold: corrected rows replace older ones also where their time did not
    change, and users and items that are gone are removed. What was written to it directly, and is not in the tables, is lost.

    Raises:
        NotFoundError: no tables are imported, or a view's source file is missing.
        ConfigError: the definitions were registered for another workspace, or a history view would overwrite other data.
        UnavailableError: the online store cannot be written.
    """
    interactions = settings.workspace.tables / "interactions.parquet"
    if not interactions.exists():
        raise NotFoundError(f"no interactions in {settings.workspace.tables}; run `rf data import` first")
    store = open_store(settings)
    definitions = read_definitions(store, settings.feature_service)
    write_user_history(definitions, interactions, threads=settings.threads)
    if hasattr(store.config.online_store, "skip_dedup"):  # else Redis keeps what it has of the same time
        store.config.online_store.skip_dedup = True
    done: list[Materialized] = []
    now = datetime.now(UTC)
    with track("materialise", len(definitions.sources)) as progress:
        for source in definitions.sources:
            rows = count_rows(source, definitions.spec)
            start = perf_counter()
            try:
                with quiet():
                    store.materialize(_START, now, feature_views=[source.view])
                    remove_leftovers(store, source)
            except Exception as error:  # each online store raises its own classes
                raise UnavailableError(
                    f"view '{source.view}' cannot be loaded into the online store: {first_line(error)}"
                ) from error
            done.append(Materialized(view=source.view, rows=rows, seconds=perf_counter() - start))
            progress.advance(note=source.view)
    return done
