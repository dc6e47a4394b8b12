"""Items that are like others: by the item tower's vectors, by what the same users took, or by both.

Shapes: A items asked about, C candidates, D width, K items of the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import blake2b
from itertools import compress, count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.errors import UsageError
from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.features.vocabulary import FIRST_ID
from rf_platform.policies.sources import SIMILAR
from rf_platform.text import shown
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import SearchPlan
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.event_counts import Counted
from rf_serving.index.vector_index import NO_ROW
from rf_serving.policies import MOST_CANDIDATES, Asked, Candidates, CompiledPlacement, Ruled, Rules
from rf_serving.search.columns import are_among
from rf_serving.search.condition import ItemFilter
from rf_serving.search.eligibility import Eligibility
from rf_serving.search.filter_reader import FilterReader
from rf_serving.search.searcher import Search, Searcher
from rf_serving.stage_timer import StageTimer

Together = tuple[Sequence[int | str], npt.NDArray[np.float64]]
"""Items with users in common, and their likeness."""


@dataclass(frozen=True, kw_only=True)
class SimilarQuery:
    """A request for similar items, checked as far as that needs no catalog."""

    k: int
    items: tuple[int | str, ...] = ()
    """Distinct ids of the items asked about, in the catalog's type; empty: ``features`` says what is asked about."""
    features: Mapping[str, FeatureValue] | None = None
    """Features of an item that no catalog has, by full name."""
    filter: Filter | None = None
    """Filter of the items to return; None means all."""
    share: float | None = None
    """Share of co-occurrence in the score, 0 to 1; None: as the deployment says."""
    placement: str = ""
    """Placement of the policy with the rules that the answer follows; empty: none."""


@dataclass(frozen=True, kw_only=True)
class SimilarAnswer:
    """Similar items of one bundle."""

    bundle: str
    """Name of the bundle that answered."""
    spec_hash: str
    items: list[str]
    """[K]: ids, best first."""
    scores: list[float]
    """[K]."""
    cosines: list[float]
    """[K]: mean cosine with the items asked about."""
    co_occurrences: list[float]
    """[K]: mean likeness of the users of both, 0 where it has no share."""
    share: float
    """Share of co-occurrence in the scores."""
    ruled: Ruled | None
    """Items as the rules of a placement chose them; None: there are no rules."""
    rules: CompiledPlacement | None
    """The rules."""
    absent: list[str]
    """Ids of the request that the catalog does not have."""
    plan: SearchPlan
    sequence: int
    """Last change of the catalog that was taken into account."""
    seconds: dict[str, float]
    """By stage, in order."""
    begins: dict[str, float]
    """Start of each stage, by :func:`time.perf_counter`."""


class SimilarRanker:
    """Finds what is like some items in the catalog of one bundle, by the search that requests of users take.

    The query is the mean of the unit vectors of the items asked about, so an item's cosine is the mean of those with them. What
    is added to an item's score for any user (a bias, the shift of cold items) is no part of its likeness. With co-occurrence, the
    candidates are the best by cosine and all items that have users in common with those asked about: no other can be among the
    best. Safe from any thread.
    """

    def __init__(
        self,
        bundle: ServedBundle,
        filters: FilterReader,
        eligibility: Eligibility,
        searcher: Searcher,
        rules: Rules,
        counted: Callable[[], Counted | None] = lambda: None,
        share: float = 0.0,
    ) -> None:
        """Take what is searched.

        Args:
            bundle: what answers.
            filters: reads filters.
            eligibility: evaluates them.
            searcher: finds items by vector.
            rules: applies the rules of placements.
            counted: returns the counts of events; None: there are none.
            share: of co-occurrence in the score, where a query does not say.
        """
        self._bundle, self._filters, self._eligibility, self._searcher = bundle, filters, eligibility, searcher
        self._rules, self._counted, self._share = rules, counted, share
        self._schema, self._encoder = ItemSchema.of(bundle.encoder), ItemEncoder(bundle)

    def share_of(self, query: SimilarQuery) -> float:
        """Return the share of co-occurrence that a query asks for."""
        return self._share if query.share is None else query.share

    def rank(
        self, query: SimilarQuery, catalog: CatalogSnapshot, watch: StageTimer, rules: CompiledPlacement | None = None
    ) -> SimilarAnswer:
        """Answer a query from one snapshot of the catalog.

        Args:
            query: what is asked.
            catalog: the snapshot.
            watch: times the stages.
            rules: of a placement, which are applied to what is similar; its sources are not asked.

        Raises:
            UsageError: the catalog has none of the items, or a feature or a field of the filter is wrong.
        """
        with watch.stage("encode"):
            rows_A, items = self._rows(query, catalog)
            vectors_AD = catalog.vectors(rows_A).copy() if query.items else self._encoded(query.features or {})
            if self._bundle.model.biased:
                vectors_AD[:, -1] = 0
            query_D = vectors_AD.mean(axis=0)
        with watch.stage("filter"):
            asked = ItemFilter() if query.filter is None else self._filters.read(query.filter)
            if rules is not None:
                asked = replace(asked, where=asked.where | rules.eligibility)
            eligible = self._eligibility.of(catalog, asked)
        with watch.stage("search"):
            share = self.share_of(query)
            counted = self._counted() if share and query.items else None
            together = None if counted is None else counted.together.like(items)
            wanted = query.k if rules is None else rules.wanted(query.k)
            search = Search(query_D=query_D, k=wanted, eligible=eligible, seen=rows_A, filtered=asked != ItemFilter())
            mixed, strategy = self._mixed(search, together, share, catalog)
        ruled = None
        if rules is not None:
            with watch.stage("rules"):
                most = min(max(MOST_CANDIDATES, wanted), eligible.passing.count - len(search.excluded))

                def deeper() -> Candidates | None:
                    if len(mixed.rows_K) >= most:
                        return None
                    more, _ = self._mixed(replace(search, k=most), together, share, catalog)
                    return more.candidates

                of = Asked(
                    k=query.k,
                    query_D=query_D,
                    filter=asked,
                    eligible=eligible,
                    excluded=search.excluded,
                    seed=lambda: blake2b(
                        repr((rules.name, rules.version, query.k, items)).encode() + query_D.tobytes()
                    ).digest(),
                )
                ruled = self._rules.apply(rules, mixed.candidates, of, catalog, deeper)
                mixed = self._ruled(ruled, query_D, together, catalog)
        return SimilarAnswer(
            bundle=self._bundle.name,
            spec_hash=self._bundle.manifest.spec_hash,
            items=catalog.texts(mixed.rows_K.tolist()),
            scores=mixed.scores_K.tolist(),
            cosines=mixed.cosines_K.tolist(),
            co_occurrences=mixed.together_K.tolist(),
            share=0.0 if counted is None else share,
            absent=[str(item) for item in query.items if item not in items],
            ruled=ruled,
            rules=rules,
            plan=SearchPlan(strategy=strategy, eligible=eligible.count),
            sequence=catalog.sequence,
            seconds=watch.seconds,
            begins=watch.begins,
        )

    def like(self, row: int, search: Search, share: float | None, catalog: CatalogSnapshot) -> "Likeness":
        """Return the items that are most like one of the catalog, for a request of a user.

        Args:
            row: of the item.
            search: the request's: which items may be returned, and how many.
            share: of co-occurrence; None: as the deployment says.
            catalog: the snapshot that rows belong to.
        """
        share = self._share if share is None else share
        counted = self._counted() if share else None
        (text,) = catalog.texts([row])
        item = int(text) if self._bundle.spec.item.id_type == "int64" else text
        together = None if counted is None else counted.together.like([item])
        query_D = catalog.vectors(np.array([row]))[0].copy()
        if self._bundle.model.biased:
            query_D[-1] = 0
        asked = replace(search, query_D=query_D, seen=np.append(search.seen, row))
        mixed, _ = self._mixed(asked, together, share, catalog)
        share = 0.0 if together is None else share
        return Likeness(text, mixed.rows_K, (1 - share) * mixed.cosines_K, share * mixed.together_K)

    def _mixed(
        self,
        search: Search,
        together: Together | None,
        share: float,
        catalog: CatalogSnapshot,
    ) -> "tuple[_Mixed, SearchPlan.Strategy]":
        """Return the best of what is found by cosine and of the items with common users, and how the former were found."""
        (result,) = self._searcher.find(catalog, [search])
        found = result.found
        if together is None:
            return _Mixed(found.rows, found.scores, found.scores, np.zeros(len(found.rows))), result.strategy
        rows_T = catalog.rows_of(together[0])
        likeness_T = together[1][rows_T != NO_ROW]
        rows_T = rows_T[rows_T != NO_ROW]
        may_T = search.eligible.passing.contain(rows_T) & ~are_among(rows_T, search.excluded)
        rows_T, likeness_T = rows_T[may_T], likeness_T[may_T]
        behind = ~np.isin(rows_T, found.rows)
        rows_C = np.concatenate([found.rows, rows_T[behind]])
        cosine_C = np.concatenate([found.scores, catalog.vectors(rows_T[behind]) @ search.query_D])
        together_C = np.zeros(len(rows_C))
        of_row = dict(zip(rows_T.tolist(), likeness_T.tolist(), strict=True))
        together_C[:] = [of_row.get(row, 0.0) for row in rows_C.tolist()]
        score_C = (1 - share) * cosine_C + share * together_C
        best_K = np.lexsort((rows_C, -cosine_C, -score_C))[: search.k]
        return _Mixed(rows_C[best_K], score_C[best_K], cosine_C[best_K], together_C[best_K]), result.strategy

    def _ruled(
        self, ruled: Ruled, query_D: npt.NDArray[np.float32], together: Together | None, catalog: CatalogSnapshot
    ) -> "_Mixed":
        """Return the items that rules chose, with their likeness in the parts that it is made of."""
        rows_K = np.array(ruled.rows, np.int64)
        likeness = {} if together is None else dict(zip(map(str, together[0]), together[1].tolist(), strict=True))
        together_K = np.array([likeness.get(text, 0.0) for text in catalog.texts(ruled.rows)])
        return _Mixed(rows_K, np.array(ruled.scores), catalog.vectors(rows_K) @ query_D, together_K)

    def _rows(self, query: SimilarQuery, catalog: CatalogSnapshot) -> tuple[npt.NDArray[np.int64], list[int | str]]:
        """Return the rows of the items asked about that the catalog has [A], and their ids."""
        rows = catalog.rows_of(query.items)
        there = catalog.live(rows)
        rows, items = rows[there], list(compress(query.items, there.tolist()))
        if query.items and not items:
            named = ", ".join(shown(str(item)) for item in query.items[:3])
            more = f" and {len(query.items) - 3} more" if len(query.items) > 3 else ""
            raise UsageError(
                f"item_ids: the catalog has no {named}{more}; to ask about an item that is in no catalog, give its features"
            )
        return rows, items

    def _encoded(self, given: Mapping[str, FeatureValue]) -> npt.NDArray[np.float32]:
        """Return the vector of an item by its features alone, as one that training never met [1, D]."""
        values = self._schema.read(given, "features")
        encoded = self._encoder.encode(self._schema.table([self._unmet], [values]))
        if not encoded.usable_N[0]:
            raise UsageError("features: they give no usable vector; give at least one feature that the model knows")
        return encoded.vectors_ND

    @cached_property
    def _unmet(self) -> int | str:
        """An id that no item has."""
        whole = self._bundle.spec.item.id_type == "int64"
        vocabulary = self._bundle.encoder.vocabularies[ITEM_ID_DOMAIN]
        ids = count(-1, -1) if whole else map(str, count(-1, -1))
        free = (each for each in ids if each not in self._bundle.row_of_item)
        if vocabulary.domain.buckets is not None:
            return next(free)
        kind = vocabulary.values.type
        return next(each for each in free if vocabulary.encode(pa.array([each], kind))[0] < FIRST_ID)


class Likeness(NamedTuple):
    """Items that are like one [K], most alike first."""

    item: str
    """Id of that one."""
    rows_K: npt.NDArray[np.int64]
    by_vectors_K: npt.NDArray[np.floating]
    """Part of the likeness that the vectors give."""
    by_users_K: npt.NDArray[np.floating]
    """Part of it that co-occurrence gives."""


class _Mixed(NamedTuple):
    """Items of an answer [K], best first."""

    rows_K: npt.NDArray[np.int64]
    scores_K: npt.NDArray[np.floating]
    cosines_K: npt.NDArray[np.floating]
    together_K: npt.NDArray[np.floating]

    @property
    def candidates(self) -> Candidates:
        """The items for the rules of a placement."""
        return Candidates(self.rows_K, self.scores_K.astype(np.float32), [SIMILAR] * len(self.rows_K))
