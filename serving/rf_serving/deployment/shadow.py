"""A bundle that answers a share of the requests unseen, for comparison."""

import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Full, Queue
from statistics import median
from threading import Lock

import structlog

from rf_protos.v1.retrieval_pb2 import RERANK_LIME, RERANK_UNSPECIFIED, Session
from rf_serving.deployment.loader import Loaded
from rf_serving.deployment.metrics import DeploymentMetrics
from rf_serving.retrieval.query import Answer, Query
from rf_serving.stage_timer import StageTimer
from rf_serving.threads import start_background
from rf_serving.user_features.features import UserFeatures

_WAITING = 64
_REMEMBERED = 10_000


@dataclass(frozen=True, kw_only=True)
class ShadowReport:
    """Comparison of a shadow with the active bundle."""

    requests: int
    """Both answered."""
    failed: int
    """The shadow could not answer, or had no time to."""
    overlap: float
    """Mean share of the active bundle's items that the shadow returned too."""
    active_ms: float
    """Median time of the active bundle, without the feature read, over the latest requests."""
    shadow_ms: float


class Shadow:
    """Answers again what the active bundle has answered: later, in a thread of lower priority, or not at all.

    It never stands in the way: what it cannot take at once, it leaves out.
    """

    def __init__(
        self,
        loaded: Loaded,
        share: float,
        metrics: DeploymentMetrics,
        busy: Callable[[], bool] = lambda: False,
        seed: int | None = None,
    ) -> None:
        """Start the thread.

        Args:
            loaded: the bundle.
            share: of the requests, 0 to 1.
            metrics: told about everything.
            busy: whether the server has so much to do that the shadow should pause.
            seed: of the choice of requests.
        """
        self.loaded, self.share = loaded, share
        self.route = loaded.route
        """The bundle with the policy that its answers follow; replaced as a whole."""
        self._metrics, self._busy = metrics, busy
        self._random = random.Random(seed)
        self._waiting: Queue[tuple[Query, UserFeatures, Answer] | None] = Queue(_WAITING)
        self._log = structlog.get_logger("rf_serving")
        self._lock = Lock()
        self._requests = self._failed = 0
        self._overlap = 0.0
        self._seconds: deque[tuple[float, float]] = deque(maxlen=_REMEMBERED)
        self._ended = False
        self._reader = loaded.route.fetcher.connected()
        self._thread = start_background("rf-shadow", self._run)

    def offer(self, query: Query, features: UserFeatures, answer: Answer) -> None:
        """Queue an answer of the active bundle for comparison, if it is sampled and the server is not busy."""
        if self._random.random() >= self.share:
            return
        if not self._busy():
            try:
                self._waiting.put_nowait((query, features, answer))
                return
            except Full:
                pass
        with self._lock:
            self._failed += 1
        self._metrics.shadowed("dropped")

    def report(self) -> ShadowReport:
        """Return the comparison since the shadow was loaded."""
        with self._lock:
            active, shadow = zip(*self._seconds, strict=True) if self._seconds else ((0.0,), (0.0,))
            return ShadowReport(
                requests=self._requests,
                failed=self._failed,
                overlap=self._overlap / self._requests if self._requests else 0.0,
                active_ms=1000 * median(active),
                shadow_ms=1000 * median(shadow),
            )

    def close(self) -> None:
        """End after the request that is being answered."""
        self._ended = True
        # If it is full, the thread has something to look at, and sees that it is over.
        with suppress(Full):
            self._waiting.put_nowait(None)
        self._thread.join()

    def _run(self) -> None:
        while (asked := self._waiting.get()) is not None and not self._ended:
            try:
                self._compare(*asked)
            except Exception as error:
                with self._lock:
                    self._failed += 1
                self._metrics.shadowed("failed")
                self._log.warning("shadow failed", bundle=self.loaded.name, error=f"{type(error).__name__}: {error}")
        self._reader.close()

    def _compare(self, query: Query, features: UserFeatures, answer: Answer) -> None:
        engine = self.route.engine
        if answer.spec_hash != engine.bundle.manifest.spec_hash:
            # Made of other features than the active bundle: it has to read them itself.
            subject = query.subject
            needed = query.seen_read(self.route.rules_of(query))
            read = None if isinstance(subject, Session) else self._reader.fetch(subject, seen=needed)
        else:
            read = features
        other = engine.rank(
            read, _plainly(query), StageTimer(lambda stage, seconds: None), rules=self.route.rules_of(query)
        )
        overlap = len(set(answer.items) & set(other.items)) / len(answer.items) if answer.items else 1.0
        active, shadow = _own_seconds(answer), _own_seconds(other)
        with self._lock:
            self._requests += 1
            self._overlap += overlap
            self._seconds.append((active, shadow))
        self._metrics.shadowed("answered", overlap=overlap, active=active, shadow=shadow)


def _plainly(query: Query) -> Query:
    """Return a query as the shadow's bundle orders items, which may have no re-ranker, and without explanations."""
    return replace(query, rerank=RERANK_UNSPECIFIED if query.rerank == RERANK_LIME else query.rerank, explain=False)


def _own_seconds(answer: Answer) -> float:
    return sum(seconds for stage, seconds in answer.seconds.items() if stage != "fetch")
