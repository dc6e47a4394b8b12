"""An interaction is its item and its context (R6)."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_training.model.config import ModelConfig
from rf_training.model.fusion import FUSIONS
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer

CONFIG = ModelConfig(dim=16, max_history=8, dropout=0.0)
NAN = float("nan")


def model_of(dataset: Dataset, fusion: str) -> RetrievalFormer:
    torch.manual_seed(0)
    return RetrievalFormer(replace(CONFIG, fusion=fusion), dataset.encoder).eval()


def context(event_type: int | None = 2, hour: int | None = 4, rating: float = 0.5, gap: float = 0.2) -> FeatureTensors:
    """One interaction; None and NaN are missing."""

    def bag(value: int | None) -> tuple[Tensor, Tensor]:
        known = [] if value is None else [value]
        return torch.tensor(known, dtype=torch.int64), torch.tensor([len(known)], dtype=torch.int32)

    ids = {"past__event_types": bag(event_type), "past__hours": bag(hour)}
    return FeatureTensors(1, ids, {"past__ratings": torch.tensor([rating]), "past__times": torch.tensor([gap])}, {})


@pytest.mark.parametrize("fusion", tuple(FUSIONS))
def test_the_fused_token_is_added_through_the_gate(dataset: Dataset, fusion: str) -> None:
    model, h = model_of(dataset, fusion), torch.randn(1, 16)
    open_by_one = model.encode_interactions(h, context())
    assert (open_by_one - h).abs().max() > 1e-2
    model.interaction_gate.data.fill_(0.25)
    torch.testing.assert_close(model.encode_interactions(h, context()), h + 0.25 * (open_by_one - h))
    model.encode_interactions(h, context()).sum().backward()  # type: ignore[no-untyped-call]
    assert model.interaction_gate.grad is not None
    torch.testing.assert_close(model.interaction_gate.grad, (open_by_one - h).sum())


@pytest.mark.parametrize("fusion", tuple(FUSIONS))
def test_every_part_of_the_context_counts(dataset: Dataset, fusion: str) -> None:
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


@pytest.mark.parametrize("fusion", tuple(FUSIONS))
def test_what_only_the_context_tells_is_learned(dataset: Dataset, fusion: str) -> None:
    """One item, four hours, and a next item for each of them."""
    model = model_of(dataset, fusion)
    hours, one = torch.arange(2, 6), torch.ones(4, dtype=torch.int32)
    nothing = (torch.zeros(0, dtype=torch.int64), torch.zeros(4, dtype=torch.int32))
    ids = {"past__event_types": nothing, "past__hours": (hours, one)}
    missing = torch.full((4,), NAN)
    told = FeatureTensors(4, ids, {"past__ratings": missing, "past__times": missing}, {})
    h, targets = torch.randn(1, 16).expand(4, -1), torch.nn.functional.normalize(torch.randn(4, 16), dim=1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(80):
        z = model.encode_interactions(h, told)
        u = model.encode_users(z, torch.ones(4, dtype=torch.int64), torch.zeros(4, 1, 16))[:, 0]
        scores = torch.nn.functional.normalize(u, dim=1) @ targets.T / 0.1
        loss = torch.nn.functional.cross_entropy(scores, torch.arange(4))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.3  # log 4
    assert losses[-1] < 0.3


def test_without_context_an_interaction_is_its_item(dataset: Dataset) -> None:
    model = RetrievalFormer(replace(CONFIG, context=False), dataset.encoder)
    assert not any("event" in name or "hour" in name for name in model.embeddings.keys)
    h = torch.randn(1, 16)
    assert torch.equal(model.encode_interactions(h, context()), h)
