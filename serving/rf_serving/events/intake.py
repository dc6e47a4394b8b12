"""Takes in events: checks them, records them, and keeps the online store up with them."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from rf_platform.data.event_log import Event, EventLog, EventParts, EventWindow, GroupCommit, StoreFault, has_clock
from rf_platform.errors import ConfigError, UsageError
from rf_platform.features.encode import NumericStats
from rf_platform.features.read import read_definitions, read_spec
from rf_platform.registry.evidence import EvidenceJournal
from rf_platform.settings import Settings
from rf_protos.v1 import feedback_pb2
from rf_protos.v1.feedback_pb2 import EventStatus
from rf_serving.events.consumer import EventConsumer, Progress
from rf_serving.events.first_events import FirstEventsCollector
from rf_serving.events.history import HistoryLayout
from rf_serving.events.leadership import leadership_of
from rf_serving.events.metrics import EventMetrics
from rf_serving.events.online_history import OnlineHistory
from rf_serving.events.online_seen import OnlineSeen
from rf_serving.events.reader import Columns, EventReader
from rf_serving.events.rebuild import HistoryRebuilder
from rf_serving.events.store_reload import StoreReload
from rf_serving.retrieval.retriever import Retriever

if TYPE_CHECKING:
    from feast import FeatureStore

_MANY = 50
"""Reading more events than this would hold up the event loop."""


class EventIntake:
    """The event log of a server process, and its part in following it."""

    def __init__(
        self,
        settings: Settings,
        store: "FeatureStore",
        registry: CollectorRegistry | None = None,
        *,
        apply: bool = True,
        tell: Callable[[StoreFault], None] = lambda fault: None,
    ) -> None:
        """Open the log and start following it.

        Args:
            settings: where things are.
            store: has the online store that is kept up to date.
            registry: of the metrics.
            apply: whether this process may be the one that updates the online store.
            tell: is told again and again what is known to be wrong with the online store, from another thread.

        Raises:
            ConfigError, UnavailableError, CorruptError: the log cannot be used.
        """
        self._settings, self._store = settings, store
        self._window = EventWindow(since=settings.events_since, ahead_seconds=settings.events_ahead_seconds)
        self._metrics = EventMetrics(registry or CollectorRegistry())
        self._collector: FirstEventsCollector | None = None
        self._tell = tell
        self._interactions = settings.workspace.tables / "interactions.parquet"
        self._log = EventLog.open(settings)
        self._spec = read_spec(store, settings.feature_service)
        self._reader = EventReader(self._spec, self._columns(), self._window)
        self._commits = GroupCommit(self._log)
        self._opened = False
        self._applier = (
            EventConsumer(
                self._log,
                leadership_of(self._log.engine, settings.workspace.events),
                self._open_history,
                self._observe,
                self._metrics.went_back,
                parts=EventParts(settings.workspace.events),
                reload=StoreReload(settings) if self._interactions.exists() else None,
            )
            if apply
            else None
        )

    async def record(
        self,
        events: Sequence[feedback_pb2.Event],
        in_catalog: Callable[[int | str], bool],
        numeric: Mapping[str, NumericStats] | None = None,
    ) -> list[EventStatus]:
        """Record events and return what became of each, in order; what is recorded is on disk then.

        Args:
            events: of a request.
            in_catalog: says whether there is an item.
            numeric: mean and deviation of the columns that are numbers to the model that answers.

        Raises:
            UnavailableError: the log cannot be written; then nothing was recorded.
        """
        if len(events) > _MANY:
            read = await asyncio.to_thread(self._read, events, numeric or {})
        else:
            read = self._read(events, numeric or {})
        checked = [event for event in read if isinstance(event, Event)]
        flags = await asyncio.wrap_future(self._commits.submit(checked)) if checked else []
        new = iter(flags)
        if checked and self._applier is not None:
            self._applier.wake()
        statuses = []
        for asked, event in zip(events, read, strict=True):
            if isinstance(event, UsageError):
                statuses.append(
                    EventStatus(event_id=asked.event_id[:128], outcome=EventStatus.REJECTED, message=str(event))
                )
                continue
            outcome = EventStatus.RECORDED if next(new) else EventStatus.DUPLICATE
            item: int | str = int(event.item_id) if self._spec.item.id_type == "int64" else event.item_id
            absent = "" if in_catalog(item) else "item_id: the catalog has no such item; the event counts once it has"
            message = "; ".join(filter(None, (absent, self._reader.doubt(event))))
            statuses.append(EventStatus(event_id=event.event_id, outcome=outcome, message=message))
        self._metrics.recorded(Counter(EventStatus.Outcome.Name(status.outcome) for status in statuses))
        return statuses

    def follow_first_events(self, retriever: Retriever, evidence: EvidenceJournal) -> None:
        """Note the first users of items from now on, where this process leads.

        Args:
            retriever: has the bundle that answers.
            evidence: where they are noted.
        """
        if self._applier is not None:
            self._collector = FirstEventsCollector(self._log, self._applier, retriever, evidence, self._metrics)

    def close(self) -> None:
        """Record what was submitted, and let another process follow the log."""
        self._commits.close()
        if self._collector is not None:
            self._collector.close()
        if self._applier is not None:
            self._applier.close()
        self._log.close()

    def _read(
        self, events: Sequence[feedback_pb2.Event], numeric: Mapping[str, NumericStats]
    ) -> list[Event | UsageError]:
        read: list[Event | UsageError] = []
        for event in events:
            try:
                read.append(self._reader.read(event, numeric))
            except UsageError as error:
                read.append(error)
        return read

    def _columns(self) -> Columns:
        return Columns.of(self._spec, self._interactions)

    def _observe(self, progress: Progress) -> None:
        self._metrics.progress(progress)
        self._tell(progress.fault)

    def _open_history(self) -> OnlineHistory:
        """Read the definitions, anew if the online store was loaded since."""
        settings, store = self._settings, self._store
        if self._opened:
            store.refresh_registry()
            self._spec = read_spec(store, settings.feature_service)
            self._reader = EventReader(self._spec, self._columns(), self._window)
        self._opened = True
        clock = has_clock(settings)
        rebuilder = None
        if self._interactions.exists():
            try:
                rebuilder = HistoryRebuilder(
                    store,
                    read_definitions(store, settings.feature_service),
                    self._log,
                    EventParts(settings.workspace.events),
                    self._interactions,
                    clock=clock,
                )
            except ConfigError:  # they are registered for the tables of another workspace
                rebuilder = None
        layout = HistoryLayout(self._spec, clock=clock, single=self._columns().single)
        return OnlineHistory(store, layout, rebuilder, OnlineSeen(store, self._spec))
