import numpy as np
import pytest

from rf_training.evaluation.metrics import NDCG, REPORT_METRICS, Metric, Recall, ReciprocalRank

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


def test_every_case_is_a_hit_when_k_covers_the_catalog() -> None:
    assert Recall(21)(RANKS).all()


def test_report_columns() -> None:
    labels = [metric.label for metric in REPORT_METRICS]
    assert labels == ["Recall@5", "Recall@10", "Recall@20", "NDCG@5", "NDCG@10", "NDCG@20", "MRR"]


@pytest.mark.parametrize("metric", [Recall, NDCG])
def test_a_list_has_at_least_one_place(metric: type[Recall | NDCG]) -> None:
    with pytest.raises(ValueError, match="k is 0"):
        metric(0)


@pytest.mark.parametrize("metric", REPORT_METRICS, ids=lambda metric: metric.label)
def test_a_better_rank_never_scores_lower(metric: Metric) -> None:
    values = metric(np.arange(1, 100))
    assert values[0] == 1
    assert (np.diff(values) <= 0).all()
