"""Builder over a workspace's tables and event log as they are, for questions about a dataset that is not built."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from rf_platform.data.event_log import has_clock, seal
from rf_platform.data.replacing import reading_tables
from rf_platform.dataset.build import BuildOptions, DatasetBuilder
from rf_platform.dataset.protocols import LeaveOneOut, SplitProtocol
from rf_platform.errors import NotFoundError
from rf_platform.features.read import FeatureDefinitions
from rf_platform.settings import Settings


@contextmanager
def workspace_builder(
    settings: Settings, definitions: FeatureDefinitions, protocol: SplitProtocol | None = None
) -> Iterator[DatasetBuilder]:
    """Yield a builder that has read nothing yet; its files are temporary.

    Args:
        settings: the workspace.
        definitions: the feature service.
        protocol: what is held out; default: leave-one-out.

    Raises:
        NotFoundError: nothing was imported.
        UnavailableError: the tables are being replaced.
    """
    interactions = settings.workspace.tables / "interactions.parquet"
    if not interactions.exists():
        raise NotFoundError(f"no interaction log at {interactions}; run `rf data import` first")
    with (
        TemporaryDirectory() as work,
        reading_tables(interactions.parent),
        seal(settings).reading() as files,
        duckdb.connect(str(Path(work) / "work.duckdb")) as db,
    ):
        db.execute("SET TimeZone = 'UTC'")
        if settings.threads:
            db.execute(f"SET threads = {settings.threads}")
        options = BuildOptions(
            events=tuple(files), clock=has_clock(settings), protocol=LeaveOneOut() if protocol is None else protocol
        )
        yield DatasetBuilder(db, definitions, interactions, Path(work), options)
