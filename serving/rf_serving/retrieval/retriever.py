"""The stages put together: fetch, encode, search, filter."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import faiss
import numpy as np
import numpy.typing as npt
import torch

from rf_platform.errors import CorruptError, DataError, UnavailableError
from rf_protos.v1.retrieval_pb2 import Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.features import UserFeatures
from rf_serving.retrieval.fetcher import FeatureFetcher
from rf_serving.retrieval.filter import Filter
from rf_serving.retrieval.searcher import Searcher
from rf_serving.retrieval.session import SessionReader
from rf_serving.retrieval.stopwatch import Observe, Stopwatch
from rf_serving.retrieval.user_encoder import UserEncoder

if TYPE_CHECKING:
    from feast import FeatureStore

T = TypeVar("T")
FETCH_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Query:
    """A request that was checked."""

    subject: int | str | Session
    """A user's id in the catalog's type, or a session."""
    k: int
    exclude_seen: bool


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was found."""

    rows: npt.NDArray[np.int64]
    """Rows of the catalog, best first."""
    scores: npt.NDArray[np.float32]
    history: npt.NDArray[np.int64]
    """Rows of the items in the history, oldest first."""
    cold: bool
    seconds: dict[str, float]
    """By stage, in order."""


class Retriever:
    """Answers queries from one bundle and one feature store.

    Feature reads have one thread of their own and tensor work another, so that the event loop never waits; more threads of
    either give nothing under Python's lock: scale by processes.
    """

    def __init__(
        self, bundle: ServedBundle, store: "FeatureStore", observe: Observe = lambda stage, seconds: None
    ) -> None:
        self.bundle = bundle
        self._fetcher, self._sessions = FeatureFetcher(store, bundle), SessionReader(bundle)
        self._encoder, self._searcher, self._filter = UserEncoder(bundle), Searcher(bundle), Filter(bundle)
        self._observe = observe
        self._reads = ThreadPoolExecutor(1, thread_name_prefix="rf-read")
        self._compute = ThreadPoolExecutor(1, thread_name_prefix="rf-compute", initializer=_use_one_thread)

    async def retrieve(self, query: Query, fetch_seconds: float = FETCH_SECONDS) -> Answer:
        """Answer a query.

        Args:
            query: what is asked.
            fetch_seconds: how long the online store may take.

        Raises:
            UsageError, DataError: a session's field is wrong.
            UnavailableError: the online store cannot be read in time.
            CorruptError: a user's stored features cannot be used.
        """
        watch = Stopwatch(self._observe)
        subject = query.subject
        if isinstance(subject, Session):
            features = await self._in(self._compute, lambda: self._read_session(subject, watch))
        else:
            try:
                async with asyncio.timeout(fetch_seconds):
                    features = await self._in(self._reads, lambda: self._fetch(subject, watch))
            except TimeoutError as error:
                raise UnavailableError(
                    f"the features of user_id {subject!r} cannot be read: the online store took longer than {fetch_seconds:g} s"
                ) from error
        try:
            return await self._in(self._compute, lambda: self._rank(features, query, watch))
        except DataError as error:
            if isinstance(subject, Session):
                raise
            raise CorruptError(f"the stored features of user_id {subject!r} cannot be used: {error}") from error

    def close(self) -> None:
        """Stop the threads; queries that wait are dropped."""
        for threads in (self._reads, self._compute):
            threads.shutdown(wait=False, cancel_futures=True)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, work)

    def _fetch(self, user_id: int | str, watch: Stopwatch) -> UserFeatures:
        with watch.stage("fetch"):
            return self._fetcher.fetch(user_id)

    def _read_session(self, session: Session, watch: Stopwatch) -> UserFeatures:
        with watch.stage("fetch"):
            return self._sessions.read(session)

    def _rank(self, features: UserFeatures, query: Query, watch: Stopwatch) -> Answer:
        excluded = np.unique(features.rows) if query.exclude_seen else np.zeros(0, np.int64)
        with watch.stage("encode"):
            vector_D = self._encoder.encode(features)
        with watch.stage("search"):
            found = self._searcher.search(vector_D, query.k + len(excluded))
        with watch.stage("filter"):
            kept = self._filter.filter(vector_D, found, excluded, query.k)
        return Answer(
            rows=kept.rows, scores=kept.scores, history=features.rows, cold=features.cold, seconds=watch.seconds
        )


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
