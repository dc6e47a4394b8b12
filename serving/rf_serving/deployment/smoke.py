"""Questions that a bundle has to answer before it may answer users.

Checksums say that the files are those that were built; these say that they work together, here, with this feature store.

Shapes: B queries, K results, D width.
"""

from itertools import pairwise

import numpy as np

from rf_platform.errors import RunError, UnavailableError
from rf_platform.failures import summary
from rf_protos.v1.retrieval_pb2 import RERANK_LIME, RERANK_NONE, Rerank
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW
from rf_serving.retrieval.query import Answer, Query
from rf_serving.retrieval.routing import Route
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import UserFeatures

_K = 10
_HISTORY = 5
_PROBES = 16
_TOLERANCE = 1e-3


def check_answers(route: Route) -> None:
    """Ask a bundle for an unknown user, for a history, for its re-ranker and its own items; blocks until all is answered.

    Raises:
        RunError: an answer is wrong.
        RfError: the features cannot be read from the online store, or not encoded.
    """
    engine = route.engine
    spec, snapshot = engine.bundle.spec, engine.catalog.snapshot
    nobody = "-" if spec.user.id_type == "string" else -1
    reader = route.fetcher.connected()
    try:
        unknown = reader.fetch(nobody)
    except UnavailableError as error:
        why = summary(error.__cause__) if isinstance(error.__cause__, Exception) else "no reason given"
        raise UnavailableError(
            f"{error} ({why}); check RF_ONLINE_STORE_URL, and load it with `rf features materialize`"
        ) from error
    finally:
        reader.close()
    _ask(route, snapshot, nobody, unknown, "a user without features")
    history = [engine.bundle.item_ids[row] for row in _spread(len(engine.bundle.item_ids), _HISTORY)]
    _ask(route, snapshot, nobody, UserFeatures(items=history), "a history of items")
    if engine.bundle.ranker is not None and snapshot.alive > len(history):
        answer = _ask(
            route, snapshot, nobody, UserFeatures(items=history), "a history of items, re-ranked,", RERANK_LIME
        )
        if answer.rerank != RERANK_LIME:
            raise RunError(
                f"bundle '{answer.bundle}' does not answer as it should: its re-ranker gives scores that are not numbers; train "
                f"it again with `rf rerank train`, or build the bundle with --no-reranker"
            )
    _check_index(engine.bundle.name, snapshot)


def _ask(
    route: Route,
    snapshot: CatalogSnapshot,
    user: int | str,
    features: UserFeatures,
    who: str,
    rerank: "Rerank" = RERANK_NONE,
) -> Answer:
    query = Query(subject=user, k=_K, exclude_seen=True, rerank=rerank)
    answer = route.engine.rank(features, query, StageTimer(lambda stage, seconds: None))
    least = min(_K, snapshot.alive - len(features.items))
    name = f"bundle '{answer.bundle}' does not answer as it should: for {who} it returns"
    if len(answer.items) < least or len(set(answer.items)) < len(answer.items):
        raise RunError(f"{name} {len(set(answer.items))} different items instead of {_K}")
    if not np.isfinite(answer.scores).all() or any(a < b for a, b in pairwise(answer.scores)):
        raise RunError(f"{name} scores that are not numbers in falling order: {answer.scores}")
    return answer


def _check_index(name: str, snapshot: CatalogSnapshot) -> None:
    """Search with vectors of the catalog: what the index returns has the scores that the vectors give."""
    rows = np.flatnonzero(snapshot.live_mask_N)
    if not len(rows):
        return
    queries_BD = np.ascontiguousarray(snapshot.vectors(rows[_spread(len(rows), _PROBES)]), np.float32)
    found = snapshot.search(queries_BD, _K)
    for query_D, rows_K, scores_K in zip(queries_BD, found.rows, found.scores, strict=True):
        hits = rows_K != NO_ROW
        expected_K = snapshot.vectors(rows_K[hits]) @ query_D
        if not hits.any() or np.abs(expected_K - scores_K[hits]).max() > _TOLERANCE:
            raise RunError(
                f"bundle '{name}' does not answer as it should: its index and its item vectors do not belong together; build "
                f"it again with `rf index build`"
            )


def _spread(total: int, count: int) -> list[int]:
    """Return up to ``count`` numbers below ``total``, evenly spread."""
    return np.unique(np.linspace(0, total - 1, count).astype(int)).tolist() if total else []
