"""A catalog of few items or none: whatever is asked, the answer has those that there are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from rf_platform.errors import RfError
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_protos.v1.retrieval_pb2 import RERANK_EXACT, RERANK_LIME, RERANK_NONE, Interaction, Rerank, Session
from rf_serving.bundle.reranker import item_states
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.item_encoder import ItemEncoder
from rf_serving.catalog.mem_segment import LiveItems, MemSegment
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding import UserEncoder
from rf_serving.index import LOCAL_KINDS, ApproximateIndex, recall_against_exact, tune
from rf_serving.retrieval.degraded import popular_answer
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query, RankRequest
from rf_serving.search.costs import SearchCosts
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import UserFeatures

YEAR = "item_attributes__release_year"


@dataclass
class Few:
    """A catalog of the bundle's first items."""

    snapshot: CatalogSnapshot
    ids: list[str]
    """Of those that live."""


def few(bundle: ServedBundle, kind: str, rows: int, dead: Sequence[int] = (), live: Sequence[int] = ()) -> Few:
    """Return the first ``rows`` items of a bundle without the ``dead`` ones, and more of its items in a delta."""
    whole = BaseSegment.of(bundle)
    vectors_ND = np.array(bundle.vectors_ND[:rows])
    base = replace(
        whole,
        ids=whole.ids[:rows],
        row_of={item: row for row, item in enumerate(whole.ids[:rows])},
        index=LOCAL_KINDS[kind].build(vectors_ND),
        vectors_ND=vectors_ND,
        tokens_ND=bundle.item_tokens_ND[:rows],
        item_states_NW=None if bundle.item_states_NW is None else bundle.item_states_NW[:rows],
        read_items=lambda: whole.items.slice(0, rows),
    )
    delta, chosen = MemSegment(base), np.array(live, np.int64)
    if len(chosen):
        vectors, sides = bundle.vectors_ND[chosen], np.empty((len(chosen), 0), np.float16)
        if bundle.ranker is not None:
            sides = item_states(bundle.ranker, vectors, bundle.model.config.dim)
        ids = [whole.ids[row] for row in live]
        tokens = bundle.item_tokens_ND[chosen]
        delta.append(LiveItems(ids, [1] * len(ids), whole.items.take(chosen), vectors, tokens, sides))
    live_mask_N = np.ones(rows + len(live), np.bool_)
    live_mask_N[list(dead)] = False
    snapshot = CatalogSnapshot(
        bundle=bundle,
        base=base,
        delta=delta.view() if delta.rows else None,
        sequence=0,
        live_mask_N=live_mask_N,
        alive=int(live_mask_N.sum()),
        alive_base=int(live_mask_N[:rows].sum()),
    )
    return Few(snapshot, snapshot.texts(np.flatnonzero(live_mask_N).tolist()))


CATALOGS: dict[str, dict[str, Any]] = {
    "none": {"rows": 0},
    "one": {"rows": 1},
    "three": {"rows": 3},
    "all deleted": {"rows": 3, "dead": [0, 1, 2]},
    "one left": {"rows": 3, "dead": [0, 2]},
    "one added to none": {"rows": 0, "live": [7]},
    "added to none and deleted": {"rows": 0, "live": [7], "dead": [0]},
}


@pytest.fixture(params=CATALOGS)
def shape(request: pytest.FixtureRequest) -> dict[str, Any]:
    return CATALOGS[request.param]


@pytest.fixture(params=LOCAL_KINDS)
def catalog(request: pytest.FixtureRequest, ranked: ServedBundle, shape: dict[str, Any]) -> Few:
    return few(ranked, request.param, **shape)


def ask(subject: Any = 1, k: int = 5, items: Sequence[int] = (), **query: Any) -> RankRequest:
    features = None if isinstance(subject, Session) else UserFeatures(items=list(items))
    given = {"exclude_seen": False, **query}
    return RankRequest(query=Query(subject=subject, k=k, **given), watch=StageTimer(lambda *_: None), features=features)


def answers(engine: Engine, *asks: RankRequest) -> list[Answer]:
    found = engine.rank_many(asks)
    assert not [each for each in found if isinstance(each, RfError)]
    return found  # type: ignore[return-value]


def older() -> Filter:
    year = FeatureValue(int_value=1900)
    return Filter(where=[Predicate(feature=YEAR, operator=Predicate.AT_LEAST, value=year)])


def test_an_answer_has_all_there_are(ranked: ServedBundle, catalog: Few) -> None:
    engine = Engine(ranked, catalog)
    for order in (RERANK_NONE, RERANK_EXACT, RERANK_LIME):
        check(engine, catalog, order)


def check(engine: Engine, catalog: Few, order: "Rerank") -> None:
    history = [2, 1, 40]  # two that may be there, and one that is not
    found = answers(
        engine,
        ask(items=history, rerank=order, explain=True),
        ask(items=history, rerank=order, exclude_seen=True),
        ask(items=history, rerank=order, filter=older()),
        ask(items=history, rerank=order, filter=Filter(allow_items=["1", "8", "59"])),
        ask(items=history, rerank=order, filter=Filter(deny_items=["1", "8", "59"])),
        ask(Session(history=[Interaction(item_id="8")]), rerank=order) if "8" in catalog.ids else ask(rerank=order),
        ask(k=1000, rerank=order),
    )
    for answer in found:
        assert len(answer.items) == len(set(answer.items)) == len(answer.scores)
        assert np.isfinite(answer.scores).all()
    everything = set(catalog.ids)
    expected = [
        everything,
        everything - {"1", "2"},
        everything,
        everything & {"1", "8", "59"},
        everything - {"1", "8", "59"},
        everything,
        everything,
    ]
    assert [set(answer.items) for answer in found] == expected
    assert [answer.plan.eligible for answer in found] == [
        len(e) if n != 1 else len(everything) for n, e in enumerate(expected)
    ]
    (explained,) = (answer.ranked for answer in found if answer.ranked is not None)
    reasons = engine.explainer.explain(explained.known, explained.catalog, explained.rows_K, engine.bundle.ranker)
    assert len(reasons) == len(everything)


def test_nobody_asks(ranked: ServedBundle, catalog: Few) -> None:
    assert Engine(ranked, catalog).rank_many([]) == []
    assert UserEncoder(ranked).encode_users([], catalog.snapshot) == []


def test_no_item_comes(ranked: ServedBundle) -> None:
    none = ItemEncoder(ranked).encode(BaseSegment.of(ranked).items.slice(0, 0))
    assert {len(column) for column in none} == {0}
    nobody_knows = replace(ranked, item_ids=[], row_of_item={}, popularity_N=np.zeros(0, np.int64))
    assert ItemEncoder(nobody_knows).cold([1, 999]).tolist() == [False, True]  # the model has the id of the first


def test_the_popular_items_of_whoever_cannot_be_read(ranked: ServedBundle, catalog: Few) -> None:
    query = ask().query
    answer = popular_answer(Engine(ranked, catalog), query, StageTimer(lambda *_: None))
    assert sorted(answer.items) == sorted(catalog.ids)


def test_what_searching_costs_is_a_number(catalog: Few) -> None:
    costs = SearchCosts.measure(catalog.snapshot)
    assert 0 < costs.gathered < 1
    assert 0 < costs.scanned < 1
    assert 0 < costs.whole_share <= 1
    assert 0 <= costs.exact(0, 0) <= costs.exact(1, 1) < 1
    assert all(0 < seconds < 1 for _, seconds in costs.index)


def test_a_snapshot_has_what_lives(catalog: Few, ranked: ServedBundle) -> None:
    snapshot, query_D = catalog.snapshot, np.array(ranked.vectors_ND[5])
    assert sorted(snapshot.texts(snapshot.scan(query_D).rows.tolist())) == sorted(catalog.ids)
    nothing = np.zeros(0, np.int64)
    assert (
        len(snapshot.scan(query_D, nothing).rows)
        == len(snapshot.vectors(nothing))
        == len(snapshot.item_states(nothing))
        == 0
    )
    assert not snapshot.values(nothing)
    assert not snapshot.sequences(nothing)
    for queries_BD in (query_D[None], query_D[None][:0]):
        assert snapshot.search(queries_BD, 5).rows.shape == (len(queries_BD), len(catalog.ids))
    rows = snapshot.rows_of([*range(1, 61), 999])
    living = snapshot.texts(rows[snapshot.live(rows)].tolist())
    assert sorted(living) == sorted(catalog.ids)


@pytest.mark.parametrize("kind", [name for name, index in LOCAL_KINDS.items() if not index.exact])
@pytest.mark.parametrize("items", [0, 1, 2])
@pytest.mark.parametrize("queries", [0, 1])
def test_an_index_of_few_items_is_tuned_and_measured(ranked: ServedBundle, kind: str, items: int, queries: int) -> None:
    vectors_ND, queries_BD = np.array(ranked.vectors_ND[:items]), np.array(ranked.vectors_ND[10 : 10 + queries])
    index = LOCAL_KINDS[kind].build(vectors_ND)
    assert isinstance(index, ApproximateIndex)
    tune(index, vectors_ND, queries_BD, recall=0.99)
    assert index.search(queries_BD, 5).rows.shape == (queries, items)
    assert recall_against_exact(index, vectors_ND, queries_BD, (20, 100)) == {20: 1.0, 100: 1.0}
