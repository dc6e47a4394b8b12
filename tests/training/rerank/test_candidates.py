"""The candidates are those of the exact ranking, without what the user has had."""

import numpy as np
import pytest
import torch

from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import Jagged, Split
from rf_training.rerank.cases import find_candidates
from rf_training.rerank.towers import Noise, Positions, Towers


def test_candidates_are_the_order_of_the_scorer_without_the_history(towers: Towers) -> None:
    cases = EvaluationCases.from_sequences(towers.dataset.sequences, n_items=towers.n_items, split=Split.TEST)
    histories = cases.histories(0, len(cases))
    encoded = towers.encode(Positions(cases.users, histories.lengths))
    found = find_candidates(encoded.query_PQ, towers.vectors_NQ, histories, 20)
    scores = towers.scorer.scores(cases.users, histories).copy()
    scores[histories.row_of_value, histories.values] = -np.inf
    order = np.argsort(-scores, axis=1)[:, :20]
    assert found.item_PK.tolist() == order.tolist()
    assert np.allclose(found.dot_PK, np.take_along_axis(scores, order, 1), atol=1e-5)
    for case in range(len(cases)):
        assert not set(found.item_PK[case].tolist()) & set(histories.values[histories.row_of_value == case].tolist())


def test_a_catalog_with_fewer_unseen_items_than_asked_for_marks_the_rest() -> None:
    vectors = torch.eye(3)
    seen = Jagged(np.array([1], np.int32), np.array([0, 1]))
    found = find_candidates(torch.tensor([[0.5, 0.9, 0.7]]), vectors, seen, 10)
    assert found.item_PK.tolist() == [[2, 0, 1]]
    assert found.dot_PK.tolist()[0][2] == -torch.inf


def test_places_are_scanned_some_at_a_time(towers: Towers, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    query_PQ = torch.from_numpy(rng.normal(size=(7, towers.vectors_NQ.shape[1])).astype(np.float32))
    seen = Jagged(np.array([3, 5, 1], np.int32), np.array([0, 0, 1, 1, 3, 3, 3, 3]))
    whole = find_candidates(query_PQ, towers.vectors_NQ, seen, 8)
    monkeypatch.setattr("rf_training.rerank.cases.MAX_SCORES", 2 * towers.n_items)
    parts = find_candidates(query_PQ, towers.vectors_NQ, seen, 8)
    assert torch.equal(whole.item_PK, parts.item_PK)
    assert not {1, 5} & set(parts.item_PK[3].tolist())
    assert 3 not in parts.item_PK[1]


def test_histories_of_places_are_what_the_tower_reads(towers: Towers) -> None:
    places = Positions(np.array([0, 0, 2]), np.array([0, 4, 9]))
    encoded = towers.encode(places)
    assert encoded.length_P.tolist() == [0, 4, 6]
    histories = encoded.histories(torch.tensor([2, 0]))
    assert histories.tokens_BTD.shape == (2, 6, 16)
    assert not histories.tokens_BTD[1].any()
    alone = towers.encode(places.take(np.array([2])))
    assert torch.allclose(alone.histories(torch.tensor([0])).tokens_BTD[0], histories.tokens_BTD[0], atol=1e-6)
    want = towers.scorer.queries(places.user, places.length)
    assert torch.allclose(encoded.query_PQ, want, atol=1e-5)


def test_noise_changes_tokens_and_queries_and_leaves_the_towers_as_they_were(towers: Towers) -> None:
    places = Positions(np.array([0, 1]), np.array([5, 6]))
    plain = towers.encode(places)
    noisy = towers.encode(places, Noise(dropout=True, unknown=0.9, seed=3))
    again = towers.encode(places, Noise(dropout=True, unknown=0.9, seed=3))
    assert torch.equal(noisy.tokens_VD, again.tokens_VD)
    assert torch.equal(noisy.user_PD, again.user_PD)
    assert not torch.allclose(noisy.tokens_VD, plain.tokens_VD)
    assert not torch.allclose(noisy.user_PD, plain.user_PD)
    assert torch.equal(towers.encode(places).user_PD, plain.user_PD)
