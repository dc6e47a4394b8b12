"""What a scorer holds of a catalog: a vector for every item, and what stands for an item only where a history has it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training import model_scorer
from rf_training.loading.tables import EncodedSides
from rf_training.model.config import ModelConfig
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import HistoryTokens, ModelScorer


@pytest.fixture(scope="module", params=[True, False], ids=["shared tables", "tables apart"])
def model(request: pytest.FixtureRequest, dataset: Dataset) -> RetrievalFormer:
    torch.manual_seed(0)
    return RetrievalFormer(ModelConfig(dim=16, max_history=6, share_domains=request.param), dataset.encoder).eval()


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, model: RetrievalFormer) -> Iterator[list[int]]:
    """Note how many items the item tower is asked for, call by call."""
    asked: list[int] = []
    plain = model.encode_items

    def encode_items(features: FeatureTensors) -> torch.Tensor:
        found = plain(features)
        asked.append(len(found))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(model, "encode_items", encode_items)
        yield asked


def test_tokens_are_those_of_the_towers(model: RetrievalFormer, dataset: Dataset) -> None:
    items, newest = EncodedSides.of(dataset).items, dataset.evaluation_items
    with torch.no_grad():
        features = FeatureTensors.from_encoded(items.take(newest))
        expected_ND = model.encode_history_items(features, model.encode_items(features))
    tokens = HistoryTokens(model, items, newest)
    for asked in ([3, 1, 3], [], [0, 1], list(range(len(newest)))[::-1]):
        rows = np.array(asked, np.int64)
        torch.testing.assert_close(tokens(rows), expected_ND[torch.from_numpy(rows)], atol=1e-6, rtol=1e-5)


def test_only_items_of_histories_are_encoded_and_each_once(
    model: RetrievalFormer, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_scorer, "ITEMS_AT_ONCE", 4)
    scorer = ModelScorer(model, dataset)
    users, lengths = np.array([0, 1]), np.array([3, 2])
    begin = np.asarray(dataset.sequences.offsets)[users]
    read = np.concatenate([dataset.sequences.item[b : b + n] for b, n in zip(begin, lengths, strict=True)])
    with counted(monkeypatch, model) as asked:
        first = scorer.queries(users, lengths)
        assert sum(asked) == len(np.unique(read))
        again = scorer.queries(users, lengths)
        assert sum(asked) == len(np.unique(read))
        scorer.history_tokens(np.arange(dataset.n_items))
        assert sum(asked) == dataset.n_items
        assert max(asked) <= 4
    assert torch.equal(first, again)
    torch.testing.assert_close(scorer.queries(users, lengths), first)


def test_vectors_do_not_depend_on_how_many_are_encoded_at_once(
    model: RetrievalFormer, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelScorer(model, dataset).vectors_ND
    monkeypatch.setattr(model_scorer, "ITEMS_AT_ONCE", 7)
    torch.testing.assert_close(ModelScorer(model, dataset).vectors_ND, whole)
    assert len(whole) == dataset.n_items
