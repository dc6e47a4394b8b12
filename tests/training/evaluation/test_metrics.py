import numpy as np
import pytest

from rf_training.evaluation.metrics import AUC, NDCG, REPORT_METRICS, Metric, Recall, ReciprocalRank

RANKS = np.array([1, 2, 3, 7, 20, 21])


def test_recall_counts_ranks_up_to_k() -> None:
    assert Recall(3)(RANKS).tolist() == [1, 1, 1, 0, 0, 0]
    assert Recall(20)(RANKS).tolist() == [1, 1, 1, 1, 1, 0]


def test_ndcg_discounts_by_log2_of_the_place() -> None:
    np.testing.assert_allclose(NDCG(10)(RANKS), [1, 1 / np.log2(3), 1 / 2, 1 / 3, 0, 0])


def test_ndcg_at_1_is_recall_at_1() -> None:
    assert NDCG(1)(RANKS).tolist() == Recall(1)(RANKS).tolist()


def test_reciprocal_rank_has_no_cut_off() -> None:
    np.testing.assert_allclose(ReciprocalRank()(np.array([1, 2, 4, 10_000])), [1, 0.5, 0.25, 0.0001])


def test_reciprocal_rank_with_a_cut_off_ends_there() -> None:
    np.testing.assert_allclose(ReciprocalRank(3)(np.array([1, 3, 4])), [1, 1 / 3, 0])
    assert ReciprocalRank(3).label == "MRR@3"


def test_auc_is_the_share_of_the_other_candidates_behind() -> None:
    assert AUC()(np.array([1, 5, 3]), np.array([5, 5, 5])).tolist() == [1, 0, 0.5]
    assert AUC()(np.array([2, 2]), np.array([3, 101])).tolist() == [0.5, 0.99]


def test_auc_agrees_with_counting_pairs() -> None:
    scores = np.random.default_rng(0).permutation(40)
    targets = np.array([0, 7, 39])
    ranks = np.array([1 + (scores > scores[target]).sum() for target in targets])
    pairs = [np.mean([scores[target] > scores[other] for other in range(40) if other != target]) for target in targets]
    np.testing.assert_allclose(AUC()(ranks, np.full(3, 40)), pairs)


def test_a_target_without_other_candidates_is_left_to_chance() -> None:
    assert AUC()(np.array([1]), np.array([1])).tolist() == [0.5]


def test_every_case_is_a_hit_when_k_covers_the_catalog() -> None:
    assert Recall(21)(RANKS).all()


def test_report_columns() -> None:
    labels = [metric.label for metric in REPORT_METRICS]
    cut = [f"{name}@{k}" for name in ("Recall", "NDCG", "MRR") for k in (5, 10, 20, 50)]
    assert labels == [*cut, "MRR"]


@pytest.mark.parametrize("metric", [Recall, NDCG, ReciprocalRank])
def test_a_list_has_at_least_one_place(metric: type[Recall | NDCG | ReciprocalRank]) -> None:
    with pytest.raises(ValueError, match="k is 0"):
        metric(0)


@pytest.mark.parametrize("metric", REPORT_METRICS, ids=lambda metric: metric.label)
def test_a_better_rank_never_scores_lower(metric: Metric) -> None:
    values = metric(np.arange(1, 100))
    assert values[0] == 1
    assert (np.diff(values) <= 0).all()


@pytest.mark.parametrize("metric", [*REPORT_METRICS, ReciprocalRank()], ids=lambda metric: metric.label)
def test_no_cases_have_no_values(metric: Metric) -> None:
    none = np.zeros(0, np.int64)
    assert metric(none).shape == AUC()(none, none).shape == (0,)
