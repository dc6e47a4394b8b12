"""Re-rankers on a device: examples, training and measures as on the CPU, and everything where the towers are."""

from typing import Any

import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training.evaluation.sequences import Split
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.rerank.cases import make_cases
from rf_training.rerank.config import RerankConfig
from rf_training.rerank.kinds import load_ranker, save_ranker
from rf_training.rerank.ranker import Ranker
from rf_training.rerank.recipe import RerankRecipe, RerankTraining
from rf_training.rerank.towers import Towers
from rf_training.rerank.training_run import fit_recipe, make_views, retriever_metrics

MODEL = ModelConfig(dim=16, max_history=6, item_bias=True, dropout=0.0)
TRAINING = RerankTraining(epochs=1, batch_size=16, hard=6, uniform=4, places=1, unknown=0.2)


@pytest.mark.parametrize("kind", ["lime-mha", "target-attention"])
def test_a_reranker_is_trained_where_the_towers_are(
    dataset: Dataset, accelerator: Any, kind: Any, tmp_path: Any
) -> None:
    recipe = RerankRecipe(
        rerank=RerankConfig(kind=kind, links=4, heads=2, width=4, hidden=8, dropout=0.0), train=TRAINING
    )
    metrics, rankers, losses = [], [], []
    for device in (torch.device("cpu"), accelerator.device):
        torch.manual_seed(0)
        towers = Towers(RetrievalFormer(MODEL, dataset.encoder).to(device), dataset)
        cases = make_cases(towers, Split.VALIDATION, seed=0)
        (view,) = make_views(towers, TRAINING, cases)
        assert {view.hard_PH.device, view.unit_PD.device, cases.candidates.dot_PK.device, towers.unit_ND.device} == {
            device
        }
        ranker, fitted = fit_recipe(recipe, towers, cases, [view])
        assert {p.device for p in ranker.parameters()} == {device}
        metrics.append(retriever_metrics(towers, cases))
        rankers.append(ranker)
        losses.append(fitted.history[-1]["loss"])
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert isinstance(rankers[1], Ranker)
    save_ranker(tmp_path, rankers[1])
    assert {p.device.type for p in load_ranker(tmp_path).parameters()} == {"cpu"}
