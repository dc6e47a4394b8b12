"""Collector of first events: the leader notes the first users of new and rare items, with the query just before.

It follows the event log behind the consumer, a second or so at a time and in a thread of low priority. A flood of events costs no
more than :data:`MOST_AT_ONCE` queries a second: those of the least known items come first, the others are not made up for.
"""

from collections.abc import Sequence
from threading import Event as Flag
from typing import Protocol

import numpy as np
import structlog

from rf_platform.data.event_log import EventLog, LoggedEvent
from rf_platform.errors import UnavailableError
from rf_platform.failures import summary
from rf_platform.features.meanings import meaning_of
from rf_platform.registry.evidence import EvidenceJournal, FirstUser
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.first_users import FirstUsers
from rf_serving.catalog.live import LiveCatalog
from rf_serving.events.metrics import EventMetrics
from rf_serving.retrieval.retriever import Retriever
from rf_serving.retrieval.routing import Route
from rf_serving.threads import start_background
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.user_features.moment import before, written
from rf_serving.wire.ids import id_of, typed
from rf_training.fold_in.rule import MOST_USERS

TICK_SECONDS = 1.0
"""Interval at which events are looked for: an item moves at most as often."""
READ_AT_ONCE = 5000
"""Most events of the log in one round."""
MOST_AT_ONCE = 100
"""Most first users that are noted in one round."""
_TOGETHER = 32


class Applied(Protocol):
    """The consumer of the event log."""

    @property
    def applied(self) -> int | None:
        """The online store has the events up to this number; None where another process leads."""


class FirstEventsCollector:
    """A thread that notes first users as long as this process leads."""

    def __init__(
        self,
        log: EventLog,
        consumer: Applied,
        retriever: Retriever,
        evidence: EvidenceJournal,
        metrics: EventMetrics,
    ) -> None:
        """Start the thread.

        Args:
            log: what to follow.
            consumer: which events the online store has.
            retriever: has the bundle that answers.
            evidence: where first users are noted.
            metrics: told what is noted.
        """
        self._log, self._consumer, self._retriever, self._evidence = log, consumer, retriever, evidence
        self._metrics = metrics
        self._position: int | None = None
        self._connected: tuple[FeatureFetcher, FeatureFetcher] | None = None
        self._logger = structlog.get_logger("rf_serving")
        self._failing = False
        self._ended = Flag()
        self._thread = start_background("rf-first-events", self._run)

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._thread.join(10.0)

    def _run(self) -> None:
        while not self._ended.wait(TICK_SECONDS):
            try:
                self.step()
                self._failing = False
            except Exception as error:  # each store raises its own classes
                self._position = None
                if not self._failing:
                    self._logger.warning("first events are not noted", error=summary(error), remedy="tried again")
                self._failing = True
        self._forget_connection()

    def step(self) -> int:
        """Note the first users among the events that were applied since; return how many."""
        applied, route = self._consumer.applied, self._retriever.routing.active
        catalog = route.engine.catalog
        if applied is None or not isinstance(catalog, LiveCatalog) or (known := catalog.first_users) is None:
            self._position = None
            return 0
        if self._position is None:  # this process has just begun to lead
            self._position = self._log.learned()
        if self._position >= applied:
            return 0
        events = [event for event in self._log.read(self._position, READ_AT_ONCE) if event.sequence <= applied]
        noted = self._note(events, route, catalog, known) if events else 0
        self._position = events[-1].sequence if events else applied
        self._log.note_learned(self._position)
        return noted

    def _note(self, events: Sequence[LoggedEvent], route: Route, catalog: LiveCatalog, known: FirstUsers) -> int:
        chosen = self._chosen(events, catalog, known)
        fetcher, noted = self._fetcher(route), 0
        for start in range(0, min(len(chosen), MOST_AT_ONCE), _TOGETHER):
            some = chosen[start : min(start + _TOGETHER, MOST_AT_ONCE)]
            noted += self._evidence.record(self._first_users(some, fetcher, catalog.bundle, known), MOST_USERS)
        self._metrics.first_events(noted=noted, skipped=max(0, len(chosen) - MOST_AT_ONCE))
        return noted

    def _first_users(
        self, events: Sequence[LoggedEvent], fetcher: FeatureFetcher, bundle: ServedBundle, known: FirstUsers
    ) -> list[FirstUser]:
        """Return what is noted of events, read and encoded together; one by one where one of them breaks the others.

        Raises:
            UnavailableError: the online store cannot be read: all of them are tried again.
        """
        spec, most = bundle.spec, bundle.model.config.max_history
        try:
            users = [typed(event.user_id, spec.user.id_type) for event in events]
            texts = [
                written(before(features, typed(event.item_id, spec.item.id_type), event.timestamp_us), most)
                for event, features in zip(events, fetcher.fetch_many(users), strict=True)
            ]
            query_BD = known.encode(texts)
        except UnavailableError:
            raise
        except Exception as error:
            if len(events) > 1:
                return [user for event in events for user in self._first_users([event], fetcher, bundle, known)]
            self._logger.warning(
                "a first event is passed over",
                user=events[0].user_id,
                item=events[0].item_id,
                error=summary(error),
                remedy="load the user's history again with `rf features materialize`",
            )
            return []
        return [
            FirstUser(
                item_id=event.item_id,
                user_id=event.user_id,
                event=event.sequence,
                timestamp_us=event.timestamp_us,
                bundle=bundle.name,
                query=query_D.astype("<f4").tobytes(),
                features=text,
            )
            for event, text, query_D in zip(events, texts, query_BD, strict=True)
            if np.isfinite(query_D).all()
        ]

    def _chosen(self, events: Sequence[LoggedEvent], catalog: LiveCatalog, known: FirstUsers) -> list[LoggedEvent]:
        """Return the events that may count: one of each user and item, those of the least known items first."""
        spec, snapshot = catalog.bundle.spec, catalog.snapshot
        first: dict[tuple[str, str], LoggedEvent] = {}
        for event in events:
            if meaning_of(spec.meanings, event.values) == "wanted":
                first.setdefault((event.item_id, event.user_id), event)
        wanted, items = [], []
        for event in first.values():
            if (item := id_of(event.item_id, spec.item.id_type)) is not None:
                wanted.append(event)
                items.append(item)
        trained = known.trained(items)
        may = np.flatnonzero(snapshot.live(snapshot.rows_of(items)) & (trained < MOST_USERS))
        # Counted anew every time: items may be deleted, and another process may have led.
        counts = self._evidence.counts(sorted({wanted[place].item_id for place in may.tolist()}))
        count = trained[may] + np.array([counts.get(wanted[place].item_id, 0) for place in may.tolist()], np.int64)
        order = may[np.argsort(count, kind="stable")][: np.count_nonzero(count < MOST_USERS)]
        return [wanted[place] for place in order.tolist()]

    def _fetcher(self, route: Route) -> FeatureFetcher:
        """Return a reader of the online store with a connection of its own."""
        if self._connected is None or self._connected[0] is not route.fetcher:
            self._forget_connection()
            self._connected = route.fetcher, route.fetcher.connected()
        return self._connected[1]

    def _forget_connection(self) -> None:
        if self._connected is not None:
            self._connected[1].close()
            self._connected = None
