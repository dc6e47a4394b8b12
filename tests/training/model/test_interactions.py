"""An interaction is its item and its context (R6)."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_training.model.config import FusionKind, ModelConfig
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer

CONFIG = ModelConfig(dim=16, max_history=8, dropout=0.0)
NAN = float("nan")


def model_of(dataset: Dataset, fusion: FusionKind) -> RetrievalFormer:
    torch.manual_seed(0)
    return RetrievalFormer(replace(CONFIG, fusion=fusion), dataset.encoder).eval()


def context(event_type: int | None = 2, hour: int | None = 4, rating: float = 0.5, gap: float = 0.2) -> FeatureTensors:
    """One interaction; None and NaN are missing."""

    def bag(value: int | None) -> tuple[Tensor, Tensor]:
        known = [] if value is None else [value]
        return torch.tensor(known, dtype=torch.int64), torch.tensor([len(known)], dtype=torch.int32)

    ids = {"past__event_types": bag(event_type), "past__hours": bag(hour)}
    return FeatureTensors(1, ids, {"past__ratings": torch.tensor([rating]), "past__times": torch.tensor([gap])}, {})


@pytest.mark.parametrize("fusion", get_args(FusionKind))
def test_training_starts_from_the_plain_sequence_of_items(dataset: Dataset, fusion: FusionKind) -> None:
    h = torch.randn(1, 16)
    assert torch.equal(model_of(dataset, fusion).encode_interactions(h, context()), h)


@pytest.mark.parametrize("fusion", get_args(FusionKind))
def test_every_part_of_the_context_counts(dataset: Dataset, fusion: FusionKind) -> None:
    model = model_of(dataset, fusion)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    h = torch.randn(1, 16)
    base = model.encode_interactions(h, context())
    others = [
        context(event_type=1),
        context(hour=5),
        context(rating=1.5),
        context(gap=1.2),
        context(event_type=None),
        context(hour=None),
        context(rating=NAN),
        context(gap=NAN),
    ]
    for other in others:
        z = model.encode_interactions(h, other)
        assert z.isfinite().all()
        assert (z - base).abs().max() > 1e-3, other
    assert (model.encode_interactions(h + 1, context()) - base).abs().max() > 1e-1
    nothing = model.encode_interactions(h, context(None, None, NAN, NAN))
    assert nothing.isfinite().all()
