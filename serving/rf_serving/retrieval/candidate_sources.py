"""Candidates of a placement's sources: the model's search, items similar to the last one, lists, and the caller's own list."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rf_platform.errors import UsageError
from rf_platform.policies import Source, Sources
from rf_platform.policies.sources import CALLER, MODEL, SIMILAR
from rf_protos.v1.explanation_pb2 import Reason, RuleCause
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.filter_pb2 import Predicate
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW
from rf_serving.lists import ListQuery, Lists, Merged, merge
from rf_serving.policies import CompiledPlacement
from rf_serving.retrieval.query import Query
from rf_serving.retrieval.similar_ranker import Likeness, SimilarRanker
from rf_serving.search.columns import are_among
from rf_serving.search.filter_reader import FilterReader
from rf_serving.search.searcher import Search
from rf_serving.user_features.features import KnownFeatures

Rows = npt.NDArray[np.int64]
MODEL_ALONE = Sources()


@dataclass(frozen=True, kw_only=True)
class SourcePlan:
    """The sources that one request is answered from."""

    sources: Sources = MODEL_ALONE
    lists: Mapping[str, ListQuery] = field(default_factory=dict)
    """Lists among the sources, by name."""
    caller: Sequence[int | str] = ()
    """Ids of the caller's own list, best first."""
    without_user: str = ""
    """List that answers since nothing is known of the user; empty: something is, or there is no such list."""

    @classmethod
    def of(
        cls, rules: CompiledPlacement | None, query: Query, known: KnownFeatures, filters: FilterReader
    ) -> "SourcePlan":
        """Return the sources of a request.

        Raises:
            UsageError: its category is no value of the feature that a list is made by.
        """
        if rules is None:
            return cls()
        listed = (rules.placement.without_user or "") if _unknown(known) else ""
        if listed:
            sources = Sources(use=(Source(source=listed), Source(source=MODEL, quota=0)))
        else:
            sources = _with_model(rules.placement.sources)
        named = {each.source for each in sources.use}
        lists = {n: _in_category(each, query.category, filters) for n, each in rules.lists.items() if n in named}
        return cls(sources=sources, lists=lists, caller=query.candidates, without_user=listed)


class Origins:
    """Sources of an answer's candidates, for reasons: the place that each item has in its own."""

    def __init__(self, found: Mapping[str, Rows], like: Likeness | None) -> None:
        """Keep what was found.

        Args:
            found: rows of each source, best first.
            like: items of the source ``similar``; None where it is not asked.
        """
        self._found, self._like = found, like

    def reasons(self, row: int, source: str) -> list[Reason]:
        """Return why an item of a source is a candidate; nothing of one of the model's."""
        if source == MODEL or source not in self._found:
            return []
        place = int(np.flatnonzero(self._found[source] == row)[0]) + 1
        if source == SIMILAR:
            return self._likeness(row, place)
        cause = RuleCause(kind=RuleCause.CALLER) if source == CALLER else RuleCause(kind=RuleCause.LIST, name=source)
        cause.place = place
        return [Reason(rule=cause)]

    def _likeness(self, row: int, place: int) -> list[Reason]:
        like = self._like
        assert like is not None
        at = int(np.flatnonzero(like.rows_K == row)[0])
        parts = (RuleCause.SIMILAR, like.by_vectors_K[at]), (RuleCause.CO_OCCURRENCE, like.by_users_K[at])
        return [
            Reason(rule=RuleCause(kind=kind, name=like.item, place=place), contribution=float(part))
            for kind, part in parts
            if part
        ]


class CandidateSources:
    """Asks the sources of a placement, and merges what they have: each item once, with the source that it comes from."""

    def __init__(self, similar: SimilarRanker, lists: Lists) -> None:
        self._similar, self._lists = similar, lists

    def merged(
        self, plan: SourcePlan, search: Search, found: Rows, history: Rows, catalog: CatalogSnapshot
    ) -> tuple[Merged, Origins] | None:
        """Return the candidates of all sources that may be returned; None: they are the model's alone.

        Args:
            plan: the sources.
            search: the model's: what may be returned, and how many items are wanted.
            found: rows that the model's search has found, best first.
            history: rows of the history, oldest first.
            catalog: the snapshot that rows belong to.
        """
        if plan.sources == MODEL_ALONE:
            return None
        like: Likeness | None = None
        candidates: dict[str, Rows] = {}
        for source in plan.sources.use:
            name = source.source
            if name == MODEL:
                candidates[name] = found
                continue
            if name == SIMILAR:
                if not len(history):
                    continue
                like = self._similar.like(int(history[-1]), search, source.co_occurrence, catalog)
                rows = like.rows_K
            elif name == CALLER:
                rows = catalog.rows_of(plan.caller)
                rows = rows[rows != NO_ROW]
                rows = rows[catalog.live_mask_N[rows]]
            else:
                rows = self._lists.rows(plan.lists[name], catalog)
            rows = rows[search.eligible.passing.contain(rows)]
            candidates[name] = rows[~are_among(rows, search.excluded)]
        return merge(plan.sources, candidates), Origins(candidates, like)


def check_sources(rules: CompiledPlacement | None, query: Query) -> None:
    """Check that a placement has a source for what a query brings.

    Raises:
        UsageError: it has none.
    """
    if not query.candidates and not query.category:
        return
    named = set() if rules is None else {each.source for each in rules.placement.sources.use}
    where = f"placement '{rules.name}'" if rules is not None else "an answer without a placement"
    if query.candidates and CALLER not in named:
        raise UsageError(
            f"candidate_items: {where} has no source '{CALLER}'; leave them out, or name another placement"
        )
    if query.category and rules is not None:
        named.add(rules.placement.without_user or "")
    by = [] if rules is None else [n for n, each in rules.lists.items() if n in named and each.definition.by]
    if query.category and not by:
        raise UsageError(f"category: {where} has no list by a feature; leave it out, or name another placement")


def _unknown(known: KnownFeatures) -> bool:
    """Whether nothing is known of a user: neither a history nor a profile."""
    return known.cold and all(value is None or value == [] for value in known.profile.values())


def _with_model(sources: Sources) -> Sources:
    """Return sources with the model behind the others, if it is not among them: it fills what they leave."""
    if any(each.source == MODEL for each in sources.use):
        return sources
    return sources.model_copy(update={"use": (*sources.use, Source(source=MODEL, quota=0))})


def _in_category(query: ListQuery, category: str, filters: FilterReader) -> ListQuery:
    if not category or query.definition.by is None:
        return query
    value = FeatureValue(string_value=category)
    wanted = Predicate(feature=query.definition.by, operator=Predicate.ANY_OF, value=value)
    return replace(query, where=query.where | filters.clauses("category", [wanted]))
