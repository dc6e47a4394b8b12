"""Degraded answers: without the features of a user, which cannot be read, or without the engine that holds the index."""

from itertools import islice

import numpy as np

from rf_platform.errors import DataError, IndexAwayError
from rf_protos.v1.retrieval_pb2 import DEGRADED_INDEX_SILENT, DEGRADED_STORE_SILENT, DegradedReason, SearchPlan
from rf_serving.policies import CompiledPlacement
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import UserFeatures


def degraded_answer(engine: Engine, query: Query, watch: StageTimer, rules: CompiledPlacement | None = None) -> Answer:
    """Answer as for a user without history and with an empty profile, or, if the model has no profile, by popularity.

    A placement with a list for such a user answers from that list. The query's filter and the rules hold, of which only
    eligibility does where popularity orders the items; items that the user has seen are unknown and cannot be left out.
    """
    listed = rules is not None and rules.placement.without_user is not None
    if listed or engine.bundle.spec.inputs("user") or engine.bundle.popularity_N is None:
        try:
            return engine.rank(UserFeatures(), query, watch, degraded=DEGRADED_STORE_SILENT, rules=rules)
        except (DataError, IndexAwayError):
            if engine.bundle.popularity_N is None:
                raise
    return popular_answer(engine, query, watch, rules)


def popular_answer(
    engine: Engine,
    query: Query,
    watch: StageTimer,
    rules: CompiledPlacement | None = None,
    reason: "DegradedReason" = DEGRADED_STORE_SILENT,
) -> Answer:
    """Answer with the eligible items that most events of the training split have; the score is their share of these.

    Raises:
        RfError: the query asks for something that the bundle cannot do.
    """
    bundle, catalog = engine.bundle, engine.catalog.snapshot
    assert bundle.popularity_N is not None
    engine.order_of(query)
    with watch.stage("search"):
        allowed_N = engine.allowed(query, catalog, rules)
        total = max(1, int(bundle.popularity_N.sum()))
        items: list[int] = []
        scores: list[float] = []
        order = bundle.popular_rows
        # Rows of the bundle mean nothing in a catalog that changed since.
        for start in range(0, len(order), 1000):
            of_bundle = order[start : start + 1000]
            rows = catalog.rows_of([bundle.item_ids[row] for row in of_bundle])
            kept = [
                (row, count)
                for row, count in zip(rows.tolist(), bundle.popularity_N[of_bundle].tolist(), strict=True)
                if row >= 0 and allowed_N[row]
            ]
            for row, count in islice(kept, query.k - len(items)):
                items.append(row)
                scores.append(count / total)
            if len(items) == query.k:
                break
    return Answer(
        bundle=bundle.name,
        spec_hash=bundle.manifest.spec_hash,
        items=catalog.texts(items),
        scores=scores,
        history=[],
        cold=True,
        plan=SearchPlan(strategy=SearchPlan.POPULAR, eligible=int(np.count_nonzero(allowed_N))),
        sequence=catalog.sequence,
        seconds=watch.seconds,
        begins=watch.begins,
        degraded=reason,
    )


def indexless_answer(
    engine: Engine, query: Query, watch: StageTimer, rules: CompiledPlacement | None, error: IndexAwayError
) -> Answer:
    """Answer by popularity while the engine that holds the index is away.

    Raises:
        IndexAwayError: the bundle does not know the popularity of its items.
    """
    if engine.bundle.popularity_N is None:
        raise error
    return popular_answer(engine, query, watch, rules, DEGRADED_INDEX_SILENT)
