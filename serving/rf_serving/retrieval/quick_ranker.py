"""Quick requests of one bundle, a batch at a time: what they have in common is done once, in arrays.

Shapes: B requests, V items of their histories, K results of a search.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from time import perf_counter
from weakref import ref

import numpy as np
import numpy.typing as npt

from rf_platform.errors import DataError, RfError
from rf_platform.features.seen import Ids
from rf_protos.v1.retrieval_pb2 import (
    DEGRADED_REASON_UNSPECIFIED,
    RERANK_NONE,
    DegradedReason,
    Rerank,
    RetrieveResponse,
    SearchPlan,
    Session,
)
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding import UserEncoder
from rf_serving.index import Found
from rf_serving.index.vector_index import NO_ROW
from rf_serving.retrieval.query import Answer, Query
from rf_serving.search.depths import depths, search_deeper
from rf_serving.search.eligibility import NO_ROWS, Eligibility
from rf_serving.search.searcher import Search, Searcher
from rf_serving.user_features.features import KnownFeatures, UserFeatures
from rf_serving.user_features.session import SessionReader
from rf_serving.wire.replies import history_bytes, items_bytes, timings_bytes

_Ranked = tuple[list[int], bytes, "SearchPlan.Strategy"]
"""Rows of an answer, their scores as float32, and how they were found."""


@dataclass(frozen=True, eq=False, slots=True)
class _Batch:
    """Common parts of the answers of a batch."""

    bundle: str
    spec_hash: str
    catalog: CatalogSnapshot
    seconds: dict[str, float]
    begins: dict[str, float]
    timings: bytes
    """As a field of the reply."""
    tails: "dict[SearchPlan.Strategy, bytes]"
    """Common fields of the replies from one snapshot, by how the items were found."""

    def tail(self, strategy: "SearchPlan.Strategy") -> bytes:
        """Return the fields that replies share, timings aside."""
        if (tail := self.tails.get(strategy)) is None:
            said = RetrieveResponse(
                bundle=self.bundle,
                spec_hash=self.spec_hash,
                plan=SearchPlan(strategy=strategy, eligible=self.catalog.alive),
                catalog_sequence=self.catalog.sequence,
                rerank=RERANK_NONE,
            )
            tail = self.tails[strategy] = said.SerializeToString()
        return tail


@dataclass(eq=False, slots=True)
class QuickAnswer:
    """Answer of a request, as a message or as an :class:`Answer`."""

    batch: _Batch
    query: Query
    features: UserFeatures
    known: KnownFeatures
    rows: list[int]
    """Best first."""
    scores: bytes
    """Float32, little-endian."""
    strategy: "SearchPlan.Strategy"
    degraded: "DegradedReason" = DEGRADED_REASON_UNSPECIFIED
    """Fault of the store that the features were read from."""

    @property
    def cold(self) -> bool:
        """Whether there is no history."""
        return self.known.cold

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, of the whole batch."""
        return self.batch.seconds

    @property
    def begins(self) -> dict[str, float]:
        """Start of each stage."""
        return self.batch.begins

    @property
    def rerank(self) -> "Rerank":
        """Order of the items."""
        return RERANK_NONE

    @property
    def unknown(self) -> Sequence[str]:
        """Items of the session's history that the catalog does not have."""
        return self.features.unknown

    @property
    def bundle(self) -> str:
        """Name of the bundle."""
        return self.batch.bundle

    def message(self) -> bytes:
        """Return the reply, serialised."""
        catalog = self.batch.catalog
        items = items_bytes(catalog.utf8(self.rows), self.scores)
        parts = [items, self.batch.tail(self.strategy), self.batch.timings]
        if self.cold or self.degraded or self.query.history or self.unknown:
            said = RetrieveResponse(
                cold=self.cold,
                degraded=bool(self.degraded),
                degraded_reason=self.degraded,
                unknown_items=self.unknown,
            )
            parts += [said.SerializeToString(), history_bytes(catalog.utf8(self._history))]
        return b"".join(parts)

    def answer(self) -> Answer:
        """Return the answer with texts and numbers."""
        batch = self.batch
        return Answer(
            bundle=batch.bundle,
            spec_hash=batch.spec_hash,
            items=batch.catalog.texts(self.rows),
            scores=np.frombuffer(self.scores, "<f4").tolist(),
            history=batch.catalog.texts(self._history),
            cold=self.cold,
            plan=SearchPlan(strategy=self.strategy, eligible=batch.catalog.alive),
            sequence=batch.catalog.sequence,
            seconds=batch.seconds,
            begins=batch.begins,
            degraded=self.degraded,
            unknown=self.unknown,
            features=self.features,
        )

    @property
    def _history(self) -> list[int]:
        return self.known.rows.tolist() if self.query.history else []


class QuickRanker:
    """Encodes the users of quick requests together, searches for them together, and leaves out what each has seen.

    Its answers are those of :meth:`~rf_serving.retrieval.engine.Engine.rank_many`, at a third of the cost. Safe from any thread.
    """

    def __init__(
        self,
        bundle: ServedBundle,
        encoder: UserEncoder,
        sessions: SessionReader,
        eligibility: Eligibility,
        searcher: Searcher,
    ) -> None:
        self._bundle, self._encoder, self._sessions = bundle, encoder, sessions
        self._eligibility, self._searcher = eligibility, searcher
        self._tails: tuple[ref[CatalogSnapshot], dict[SearchPlan.Strategy, bytes]] | None = None

    def rank(
        self,
        asked: Sequence[tuple[Query, UserFeatures | None]],
        catalog: CatalogSnapshot,
        fetched: tuple[float, float] | None = None,
    ) -> list[QuickAnswer | RfError]:
        """Answer queries; what is wrong with one of them is its answer alone.

        Args:
            asked: each with the features of its user; None for a session.
            catalog: the snapshot to search.
            fetched: start and seconds of the read of the features; None: of sessions, which are read here.
        """
        begin = perf_counter()
        answers: list[QuickAnswer | RfError | None] = [None] * len(asked)
        numbers: list[int] = []
        features: list[UserFeatures] = []
        goals: dict[int, npt.NDArray[np.float32] | None] = {}
        for number, (query, given) in enumerate(asked):
            try:
                if given is None:
                    assert isinstance(query.subject, Session)
                    given = self._sessions.read(query.subject, catalog)
                if query.goals:
                    goals[len(numbers)] = self._encoder.goals_of(query.goals)
            except RfError as error:
                answers[number] = error
                continue
            numbers.append(number)
            features.append(given)
        read = perf_counter()
        known = _known(features, catalog)
        for place, weights in goals.items():
            known[place] = replace(known[place], goals=weights)
        queries_BD = self._encoder.queries(known, catalog)
        finite_B = np.isfinite(queries_BD.sum(axis=1))
        if not finite_B.all():
            for place in np.flatnonzero(~finite_B).tolist():
                answers[numbers[place]] = DataError("the features give no usable query vector")
            usable = np.flatnonzero(finite_B).tolist()
            numbers, features, known = ([each[n] for n in usable] for each in (numbers, features, known))  # type: ignore[assignment]
            queries_BD = queries_BD[finite_B]
        encoded = perf_counter()
        queries = [asked[number][0] for number in numbers]
        seen = self._seen(queries, features, known, catalog)
        filtered = perf_counter()
        found = self._find(queries, queries_BD, seen, catalog)
        end = perf_counter()
        fetch = (begin, read - begin) if fetched is None else fetched
        stages = {
            "fetch": fetch,
            "encode": (read, encoded - read),
            "search": (filtered, end - filtered),
            "filter": (encoded, filtered - encoded),
        }
        seconds = {stage: seconds for stage, (_, seconds) in stages.items()}
        batch = _Batch(
            bundle=self._bundle.name,
            spec_hash=self._bundle.manifest.spec_hash,
            catalog=catalog,
            seconds=seconds,
            begins={stage: start for stage, (start, _) in stages.items()},
            timings=timings_bytes(seconds),
            tails=self._tails_of(catalog),
        )
        for place, number in enumerate(numbers):
            answers[number] = QuickAnswer(batch, queries[place], features[place], known[place], *found[place])
        return answers  # type: ignore[return-value]

    def _tails_of(self, catalog: CatalogSnapshot) -> "dict[SearchPlan.Strategy, bytes]":
        tails = self._tails  # another thread may replace it meanwhile
        if tails is None or tails[0]() is not catalog:
            tails = self._tails = ref(catalog), {}
        return tails[1]

    def _seen(
        self,
        queries: Sequence[Query],
        features: Sequence[UserFeatures],
        known: Sequence[KnownFeatures],
        catalog: CatalogSnapshot,
    ) -> list[set[int]]:
        """Return the living rows to leave out, of each request."""
        apart = [n for n, each in enumerate(features) if each.seen is not None and queries[n].exclude_seen]
        rows = [known[n].rows for n, query in enumerate(queries) if query.exclude_seen]
        places = [n for n, query in enumerate(queries) if query.exclude_seen]
        left_out: list[set[int]] = [set() for _ in queries]
        if apart:
            rows += _rows_of([features[n].seen for n in apart], catalog)  # type: ignore[misc]
        for n, some, living in zip([*places, *apart], rows, _living(rows, catalog), strict=True):
            left_out[n].update(some.tolist() if living is None else some[living].tolist())
        return left_out

    def _find(
        self,
        queries: Sequence[Query],
        queries_BD: npt.NDArray[np.float32],
        seen: Sequence[set[int]],
        catalog: CatalogSnapshot,
    ) -> list[_Ranked]:
        strategy = SearchPlan.EXACT if catalog.base.index.exact else SearchPlan.APPROXIMATE
        best: dict[int, _Ranked] = {}

        def search(numbers: list[int], depth: int) -> Found:
            return catalog.search(queries_BD if len(numbers) == len(queries) else queries_BD[numbers], depth)

        def take(numbers: list[int], found: Found) -> Iterator[bool]:
            rows, scores_BK = found.rows.tolist(), np.ascontiguousarray(found.scores, "<f4")
            for n, listed, scores_K in zip(numbers, rows, scores_BK, strict=True):
                k, left_out = queries[n].k, seen[n]
                kept = list(islice((j for j, row in enumerate(listed) if row not in left_out and row >= 0), k))
                best[n] = [listed[j] for j in kept], scores_K[kept].tobytes(), strategy
                yield len(kept) >= min(k, catalog.alive - len(left_out))

        for n in search_deeper([depths(query.k, len(seen[n])) for n, query in enumerate(queries)], search, take):
            best[n] = self._scan(queries[n], queries_BD[n], seen[n], catalog)
        return [best[n] for n in range(len(queries))]

    def _scan(
        self, query: Query, query_D: npt.NDArray[np.float32], left_out: set[int], catalog: CatalogSnapshot
    ) -> _Ranked:
        """Search for one request in earnest: so much was seen that too little is left of what the index found."""
        search = Search(
            query_D=query_D,
            k=query.k,
            eligible=self._eligibility.all(catalog),
            seen=np.array(sorted(left_out), np.int64),
            filtered=False,
        )
        (result,) = self._searcher.find(catalog, [search])
        scores = np.ascontiguousarray(result.found.scores, "<f4").tobytes()
        return result.found.rows.tolist(), scores, result.strategy


def _known(features: Sequence[UserFeatures], catalog: CatalogSnapshot) -> list[KnownFeatures]:
    """Return the features with the items' rows, which are looked up together; see :meth:`UserFeatures.known`."""
    rows = _rows_of([each.items for each in features], catalog)
    return [each.with_rows(found) for each, found in zip(features, rows, strict=True)]


def _rows_of(lists: Sequence[Ids | Sequence[int | str]], catalog: CatalogSnapshot) -> list[npt.NDArray[np.int64]]:
    """Return the rows of the items of each list."""
    if not lists:
        return []
    if len(lists) == 1:
        return [catalog.find_rows(lists[0])]
    arrays = [each for each in lists if isinstance(each, np.ndarray)]
    rows = catalog.find_rows(np.concatenate(arrays) if len(arrays) == len(lists) else list(chain.from_iterable(lists)))
    ends = np.cumsum([len(each) for each in lists]).tolist()
    return [rows[end - len(each) : end] for each, end in zip(lists, ends, strict=True)]


def _living(rows: Sequence[npt.NDArray[np.int64]], catalog: CatalogSnapshot) -> list[npt.NDArray[np.bool_] | None]:
    """Return which rows of each array live; None: all of them."""
    flat = np.concatenate([NO_ROWS, *rows])
    living = flat != NO_ROW
    living[living] = catalog.live_mask_N[flat[living]]
    if living.all():
        return [None] * len(rows)
    return np.split(living, np.cumsum([len(each) for each in rows])[:-1])
