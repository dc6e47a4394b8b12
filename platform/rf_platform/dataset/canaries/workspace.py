"""Canaries of a workspace: its definitions, tables and event log, split by the protocol of its newest dataset."""

from collections.abc import Sequence

from rf_platform.data.event_log import has_clock
from rf_platform.dataset.canaries.canary import Canary, canaries
from rf_platform.dataset.dataset import Dataset
from rf_platform.dataset.version import protocol_of
from rf_platform.dataset.workspace_builder import workspace_builder
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.features.read import read_definitions
from rf_platform.features.store import open_store
from rf_platform.registry import Registry
from rf_platform.settings import Settings


def workspace_canaries(settings: Settings, views: Sequence[str] = (), seed: int = 0) -> list[Canary]:
    """Move the views of a workspace by a day; see :func:`~rf_platform.dataset.canaries.canary.canaries`.

    Raises:
        UsageError: there is no such view, or the times of the interactions are positions, which have no days.
        RfError: the tables cannot be read.
    """
    definitions = read_definitions(open_store(settings), settings.feature_service)
    known = [source.view for source in definitions.sources if source.side != "context"]
    if wrong := [view for view in views if view not in known]:
        raise UsageError(f"--view={wrong[0]}: there is no such view of users or items; known are {', '.join(known)}")
    if not has_clock(settings):
        raise UsageError("the times of these interactions are positions, made by the import, so a day means nothing")
    registry = Registry.of(settings)
    try:
        protocol = protocol_of(Dataset.open(registry.dataset().path).protocol)
    except NotFoundError:
        protocol = None
    with workspace_builder(settings, definitions, protocol) as builder:
        builder.read_log()
        return canaries(builder, views, seed)
