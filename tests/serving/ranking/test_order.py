"""What orders the items of an answer, and that everything else about it holds whatever does."""

import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from rf_platform.errors import ConfigError, RfError
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import (
    RERANK_EXACT,
    RERANK_LIME,
    RERANK_NONE,
    Interaction,
    Rerank,
    Session,
)
from rf_serving.bundle.served import ServedBundle
from rf_serving.index import HnswIndex
from rf_serving.ranking.policy import RerankPolicy
from rf_serving.retrieval.degraded import popular_answer
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query, RankRequest
from rf_serving.stage_timer import StageTimer
from rf_serving.threads import NICE, start_background

HISTORY = ("5", "17", "3", "44", "21", "9")
EVERYTHING = 60


@pytest.fixture(scope="module")
def engine(ranked: ServedBundle) -> Engine:
    return Engine(ranked)


def ask_of(*items: str, k: int = EVERYTHING, exclude_seen: bool = False, **fields: Any) -> RankRequest:
    session = Session(history=[Interaction(item_id=item) for item in items])
    query = Query(subject=session, k=k, exclude_seen=exclude_seen, **fields)
    return RankRequest(query=query, watch=StageTimer(lambda stage, seconds: None), features=None)


def answers(engine: Engine, *asks: RankRequest) -> list[Answer]:
    found = engine.rank_many(asks)
    assert all(isinstance(each, Answer) for each in found), found
    return [each for each in found if isinstance(each, Answer)]


def answer(engine: Engine, *items: str, **fields: Any) -> Answer:
    return answers(engine, ask_of(*items, **fields))[0]


def falling(scores: Sequence[float]) -> bool:
    return bool((np.diff(scores) <= 0).all())


def test_the_re_ranker_orders_the_same_items_otherwise(engine: Engine) -> None:
    searched, reranked = (answer(engine, *HISTORY, rerank=order) for order in (RERANK_NONE, RERANK_LIME))
    assert (searched.rerank, reranked.rerank) == (RERANK_NONE, RERANK_LIME)
    assert set(searched.items) == set(reranked.items)
    assert searched.items[:20] != reranked.items[:20]
    assert falling(searched.scores)
    assert falling(reranked.scores)
    assert "rerank" in reranked.seconds
    assert "rerank" not in searched.seconds


def test_the_scores_are_the_models(engine: Engine, ranked: ServedBundle) -> None:
    """Computed all in one place, from the vectors and from what is kept of items."""
    found = answer(engine, *HISTORY, rerank=RERANK_LIME, explain=True)
    assert found.ranked is not None
    (user,) = engine._encoder.encode_users([found.ranked.known], found.ranked.catalog)
    assert not isinstance(user, RfError)
    from rf_training.rerank.ranker import Histories

    vectors = torch.from_numpy(np.array(ranked.vectors_ND))
    assert ranked.ranker is not None
    with torch.inference_mode():
        histories = Histories(
            tokens_BTD=torch.from_numpy(user.tokens_TD)[None],
            length_B=torch.tensor([len(HISTORY)]),
            user_BD=torch.from_numpy(user.user_D)[None],
        )
        dot = vectors @ torch.from_numpy(user.query_D)
        items = ranked.ranker.item_state(vectors[:, :16]).half().float()  # as a bundle keeps it
        expected = ranked.ranker(ranked.ranker.user_state(histories), items[None], dot[None])[0].numpy()
    np.testing.assert_allclose(found.scores, expected[found.ranked.rows_K], rtol=1e-4, atol=1e-5)
    assert np.ptp(expected) > 0.1


def test_the_best_candidates_of_the_search_are_ordered(ranked: ServedBundle) -> None:
    some = Engine(ranked, reranking=RerankPolicy(candidates=25))
    searched = answer(some, *HISTORY, rerank=RERANK_NONE)
    everything = answer(some, *HISTORY, rerank=RERANK_LIME)
    found = answer(some, *HISTORY, rerank=RERANK_LIME, k=10)
    candidates = set(searched.items[:25])
    assert found.items == [item for item in everything.items if item in candidates][:10]
    assert found.items != everything.items[:10]
    # more than the candidates are asked for: all of them are found and ordered
    assert answer(some, *HISTORY, rerank=RERANK_LIME, k=40).items == [
        item for item in everything.items if item in set(searched.items[:40])
    ]


@pytest.mark.parametrize("order", [RERANK_NONE, RERANK_EXACT, RERANK_LIME])
@pytest.mark.parametrize("exclude_seen", [False, True])
def test_filters_hold_and_nothing_is_missing(engine: Engine, order: "Rerank", exclude_seen: bool) -> None:
    allowed = [str(item) for item in range(2, 32)]
    asked = Filter(allow_items=allowed, deny_items=["8", "11"])
    expected = set(allowed) - {"8", "11"} - (set(HISTORY) if exclude_seen else set())
    for k in (10, len(expected), 60):
        found = answer(engine, *HISTORY, rerank=order, k=k, exclude_seen=exclude_seen, filter=asked)
        assert len(found.items) == len(set(found.items)) == min(k, len(expected))
        assert set(found.items) <= expected
        assert found.rerank == order
    nothing = answer(engine, *HISTORY, rerank=order, filter=Filter(allow_items=["999"]))
    assert (nothing.items, nothing.scores) == ([], [])


def test_requests_that_are_answered_together_get_the_answers_they_get_alone(engine: Engine) -> None:
    asks: list[Callable[[], RankRequest]] = [
        lambda: ask_of(*HISTORY, rerank=RERANK_LIME, k=7),
        lambda: ask_of("1", rerank=RERANK_LIME),
        lambda: ask_of(rerank=RERANK_LIME),
        lambda: ask_of("12", "30", rerank=RERANK_LIME, filter=Filter(allow_items=["999"])),
        lambda: ask_of("12", "30", rerank=RERANK_NONE),
        lambda: ask_of("12", "30", rerank=RERANK_EXACT, k=5),
        lambda: ask_of("12", "30", k=12, exclude_seen=True, filter=Filter(allow_items=[str(n) for n in range(1, 20)])),
        lambda: ask_of(*map(str, range(1, 41)), rerank=RERANK_LIME, exclude_seen=True),
        lambda: ask_of(*HISTORY, rerank=RERANK_LIME, k=7),
    ]
    together = answers(engine, *(make() for make in asks))
    for found, make in zip(together, asks, strict=True):
        (alone,) = answers(engine, make())
        assert (found.items, found.rerank) == (alone.items, alone.rerank)
        assert found.scores == pytest.approx(alone.scores, abs=1e-5)
    assert [found.rerank for found in together] == [
        RERANK_LIME,
        RERANK_LIME,
        RERANK_NONE,
        RERANK_LIME,
        RERANK_NONE,
        RERANK_EXACT,
        RERANK_LIME,
        RERANK_LIME,
        RERANK_LIME,
    ]


def test_nothing_is_re_ranked_without_a_history(engine: Engine) -> None:
    found = answer(engine, rerank=RERANK_LIME)
    assert found.rerank == RERANK_NONE
    assert found.items == answer(engine, rerank=RERANK_NONE).items
    popular = popular_answer(engine, ask_of(k=5, rerank=RERANK_LIME).query, StageTimer(lambda stage, seconds: None))
    assert popular.rerank == RERANK_NONE


def test_the_deployment_decides_for_requests_that_do_not_say(ranked: ServedBundle, plain: ServedBundle) -> None:
    expected = {"auto": RERANK_LIME, "lime": RERANK_LIME, "exact": RERANK_EXACT, "none": RERANK_NONE}
    for default, order in expected.items():
        reranking = RerankPolicy(default=default)  # type: ignore[arg-type]
        found = answer(Engine(ranked, reranking=reranking), *HISTORY)
        assert found.rerank == order
        asked = answer(Engine(ranked, reranking=reranking), *HISTORY, rerank=RERANK_EXACT)
        assert asked.rerank == RERANK_EXACT
        without = answer(Engine(plain, reranking=reranking), *HISTORY)
        assert without.rerank == (RERANK_NONE if order == RERANK_LIME else order)
    assert answer(Engine(plain), *HISTORY).items == answer(Engine(ranked), *HISTORY, rerank=RERANK_NONE).items


def test_a_re_ranker_that_is_not_there_is_an_error_of_the_request_that_asks_for_it(plain: ServedBundle) -> None:
    engine = Engine(plain)
    asked, other = engine.rank_many([ask_of(*HISTORY, rerank=RERANK_LIME), ask_of(*HISTORY)])
    assert isinstance(asked, ConfigError)
    assert "rerank: bundle 'tiny-run-1' has no re-ranker" in str(asked)
    assert isinstance(other, Answer)
    with pytest.raises(ConfigError, match="has no re-ranker"):
        popular_answer(engine, ask_of(rerank=RERANK_LIME).query, StageTimer(lambda stage, seconds: None))


def test_exact_scores_more_of_what_an_approximate_index_finds(
    ranked: ServedBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.array(ranked.vectors_ND)
    index = HnswIndex.build(vectors)
    approximate = Engine(replace(ranked, index=index), reranking=RerankPolicy(candidates=30))
    asked: list[int] = []
    search = index.search

    def noted(queries: Any, k: int) -> Any:
        asked.append(k)
        return search(queries, k)

    monkeypatch.setattr(index, "search", noted)
    exact, plain = (answer(approximate, *HISTORY, rerank=order, k=5) for order in (RERANK_EXACT, RERANK_NONE))
    assert asked == [len(vectors)] * 2  # of so few items all are asked for
    assert exact.items == answer(Engine(ranked), *HISTORY, rerank=RERANK_NONE, k=5).items
    assert (exact.rerank, plain.rerank) == (RERANK_EXACT, RERANK_NONE)
    assert exact.scores == pytest.approx(plain.scores, abs=1e-6)


def test_scores_that_are_no_numbers_leave_the_order_of_the_search(ranked: ServedBundle, random_ranker: Any) -> None:
    ranker = random_ranker()
    with torch.no_grad():
        ranker.get_parameter("score.bias").fill_(torch.nan)
    found = answer(Engine(replace(ranked, ranker=ranker)), *HISTORY, rerank=RERANK_LIME)
    assert found.rerank == RERANK_NONE
    assert found.items == answer(Engine(ranked), *HISTORY, rerank=RERANK_NONE).items


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="threads have a priority of their own on Linux only")
def test_the_users_part_is_computed_as_urgently_as_the_rest(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that takes over was tried by a thread of low priority, and is asked by another one."""
    niceness: list[int] = []
    ranker = engine.bundle.ranker
    assert ranker is not None
    user_state = ranker.user_state

    def noted(histories: Any) -> Any:
        niceness.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return user_state(histories)

    monkeypatch.setattr(ranker, "user_state", noted)
    here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def tries() -> None:
        answer(engine, *HISTORY, rerank=RERANK_LIME)

    start_background("tries", tries).join()
    tries()
    assert niceness == [min(here + NICE, 19), here]
