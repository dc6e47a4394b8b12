"""Ranks and AUC of a re-ranker on cases whose answer is known."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.metrics import NDCG
from rf_training.evaluation.ranking import rank_targets
from rf_training.evaluation.sequences import Split
from rf_training.model_scorer import ModelScorer
from rf_training.rerank import RERANKERS, Histories, Ranker, RerankConfig, make_ranker
from rf_training.rerank.cases import Candidates, RerankCases, make_cases
from rf_training.rerank.quality import METRICS, Quality, measure, measure_weighted
from rf_training.rerank.ranker import CorrectingRanker
from rf_training.rerank.scoring import item_states, score_candidates
from rf_training.rerank.towers import Towers


class ByItem(Ranker):
    """Scores an item by a number that is kept of it."""

    kind = "dot"

    def __init__(self, score_N: Tensor) -> None:
        super().__init__(RerankConfig(kind="dot"), 1)
        self.score_N, self.item_width = score_N, 1

    def item_state(self, items_ND: Tensor) -> Tensor:
        return self.score_N[:, None]

    def user_state(self, histories: Histories) -> None:
        return None

    def forward(self, user: None, item_BKW: Tensor, dot_BK: Tensor) -> Tensor:
        return item_BKW[..., 0]


@pytest.fixture(scope="module")
def cases(towers: Towers) -> RerankCases:
    return make_cases(towers, Split.VALIDATION, seed=3)


def by_hand(cases: RerankCases, item: list[list[int]], targets: list[int], uniform: list[list[int]]) -> RerankCases:
    rows = len(targets)
    few = cases.sampled(rows)
    item_PK = torch.tensor(item, dtype=torch.int32)
    return replace(
        few,
        candidates=Candidates(item_PK, torch.zeros(item_PK.shape)),
        rank_P=np.full(rows, 30),
        tie_P=np.zeros(rows),
        target_P=torch.tensor(targets),
        target_dot_P=torch.zeros(rows),
        uniform_PU=torch.tensor(uniform),
        uniform_dot_PU=torch.zeros(rows, len(uniform[0])),
        uniform_real_PU=torch.ones(rows, len(uniform[0]), dtype=torch.bool),
    )


def ranked(cases: RerankCases, scores: list[float], n_items: int) -> Quality:
    ranker = ByItem(torch.tensor(scores + [0.0] * (n_items - len(scores))))
    return measure(ranker, ranker.item_state(torch.zeros(0)), cases)


def test_ranks_and_areas_by_hand(cases: RerankCases, towers: Towers) -> None:
    """Item scores 5 4 3 2 1; the target 2 is the third of four candidates, the target 4 was not found."""
    made = by_hand(cases, [[3, 2, 1, 0], [0, 1, 2, 3]], [2, 4], [[0, 3, 4, 4], [3, 5, 2, 4]])
    quality = ranked(made, [5.0, 4.0, 3.0, 2.0, 1.0], towers.n_items)
    assert quality.rank_P.tolist() == [3, 30]
    column = {name: quality.values_PM[:, METRICS.index(name)].tolist() for name in METRICS}
    assert column["recall@5"] == [1.0, 0.0]
    assert column["ndcg@10"] == [pytest.approx(0.5), 0.0]
    assert column["candidate auc"] == [pytest.approx(1 / 3), 0.0]
    assert column["auc"] == [0.75, pytest.approx((1 + 0.5) / 4)]


def test_what_was_not_found_stays_behind_the_candidates(cases: RerankCases, towers: Towers) -> None:
    made = replace(by_hand(cases, [[0, 1]], [4], [[0]]), rank_P=np.array([1]))
    assert ranked(made, [0.0, 0.0, 0.0, 0.0, 9.0], towers.n_items).rank_P.tolist() == [3]


def test_equal_scores_are_ordered_by_the_draw(cases: RerankCases, towers: Towers) -> None:
    made = by_hand(cases, [[0, 1, 2, 3]], [2], [[0]])
    for draw, place in ((0.0, 1), (0.49, 2), (0.99, 4)):
        assert ranked(replace(made, tie_P=np.array([draw])), [1.0] * 5, towers.n_items).rank_P.tolist() == [place]
    assert ranked(made, [1.0] * 5, towers.n_items).mean("auc") == 0.5


def test_the_dot_product_ranks_as_the_evaluation_of_the_run_does(cases: RerankCases, towers: Towers) -> None:
    dot = make_ranker(RerankConfig(kind="dot"), 16).eval()
    quality = measure(dot, item_states(dot, towers.unit_ND), cases)
    scorer = ModelScorer(towers.model, towers.dataset)
    plain = EvaluationCases.from_sequences(towers.dataset.sequences, n_items=towers.n_items, split=Split.VALIDATION)
    want = rank_targets(scorer, plain, seed=3).excluded
    assert quality.rank_P.tolist() == want.tolist() == cases.rank_P.tolist()
    assert quality.mean("ndcg@10") == pytest.approx(NDCG(10)(want).mean())


def test_uniform_items_are_neither_seen_nor_the_target(cases: RerankCases) -> None:
    histories = cases.cases.histories(0, len(cases))
    for case in range(len(cases)):
        had = set(histories.values[histories.row_of_value == case].tolist()) | {int(cases.target_P[case])}
        real = cases.uniform_PU[case][cases.uniform_real_PU[case]].tolist()
        assert real
        assert not set(real) & had
        assert set(cases.uniform_PU[case].tolist()) - set(real) <= had


def test_a_sample_of_cases_is_ranked_like_the_same_cases_among_all(cases: RerankCases, towers: Towers) -> None:
    torch.manual_seed(1)
    ranker = make_ranker(RerankConfig(kind="lime-mha"), 16).eval()
    torch.nn.init.normal_(ranker.get_parameter("score.weight"))
    side = item_states(ranker, towers.unit_ND)
    whole, some = measure(ranker, side, cases), measure(ranker, side, cases.sampled(5))
    rows = [cases.cases.users.tolist().index(user) for user in cases.sampled(5).cases.users]
    assert whole.rank_P[rows].tolist() == some.rank_P.tolist()
    assert np.allclose(whole.values_PM[rows], some.values_PM)


def test_a_weight_of_what_is_added_is_that_of_the_reranker(cases: RerankCases, towers: Towers) -> None:
    torch.manual_seed(1)
    ranker = make_ranker(RerankConfig(kind="lime-mha"), 16).eval()
    assert isinstance(ranker, CorrectingRanker)
    torch.nn.init.normal_(ranker.get_parameter("score.weight"))
    side = item_states(ranker, towers.unit_ND)
    found = measure_weighted(ranker, side, cases, (0.0, 0.3, 1.0))
    assert found[0.0].rank_P.tolist() == cases.rank_P.tolist()
    for weight in (0.3, 1.0):
        ranker.residual_weight.fill_(weight)
        assert found[weight].rank_P.tolist() == measure(ranker, side, cases).rank_P.tolist()
    assert found[0.3].rank_P.tolist() != found[1.0].rank_P.tolist() != cases.rank_P.tolist()


@pytest.mark.parametrize("kind", RERANKERS)
def test_cases_of_new_users_alone_keep_the_order_of_the_retriever(
    cases: RerankCases, towers: Towers, kind: str
) -> None:
    none = replace(cases.encoded, length_P=torch.zeros_like(cases.encoded.length_P))
    ranker = make_ranker(RerankConfig(kind=kind), towers.unit_ND.shape[1]).eval()
    found = cases.candidates
    scores = score_candidates(ranker, item_states(ranker, towers.unit_ND), none, found.item_PK, found.dot_PK)
    assert torch.equal(scores, found.dot_PK)
    nobody = none.take(torch.zeros(0, dtype=torch.int64))
    assert nobody.histories(torch.zeros(0, dtype=torch.int64)).tokens_BTD.shape[0] == len(nobody) == 0
