"""Embeddings of another width than the tokens (d_f of Eq. 13, Table 3)."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.model.config import BagPooling, Layout, ModelConfig
from rf_training.model.fusion import FUSIONS
from rf_training.model.inputs import Embedded, FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model, save_model
from rf_training.model.tokens import FeatureTokens
from rf_training.step import batch_loss

CONFIG = ModelConfig(dim=16, max_history=8, dropout=0.0, feature_dim=6)


def items(dataset: Dataset) -> FeatureTensors:
    return FeatureTensors.from_encoded(dataset.encoder.encode_items(dataset.items).take(np.arange(3)))


def test_attributes_have_their_width_and_the_id_that_of_the_tokens(dataset: Dataset) -> None:
    model = RetrievalFormer(CONFIG, dataset.encoder)
    widths = {name: table.weight.shape[1] for name, table in model.embeddings.collection.embedding_bags.items()}
    assert widths.pop("domain_item_id") == 16
    assert set(widths.values()) == {6}
    assert len(widths) == 6
    assert model.encode_items(items(dataset)).shape == (3, 16)


def test_tables_of_the_common_width_are_the_default(dataset: Dataset) -> None:
    """And give the same model, weight by weight, as it would be without the setting."""

    def weights(feature_dim: int | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return RetrievalFormer(replace(CONFIG, feature_dim=feature_dim), dataset.encoder).state_dict()

    plain, same = weights(None), weights(16)
    assert plain.keys() == same.keys()
    assert all(torch.equal(plain[name], same[name]) for name in plain)
    assert not [name for name in plain if "resize" in name]


@pytest.mark.parametrize("width", [3, 12])
def test_an_embedding_of_another_width_starts_as_the_identity_as_far_as_it_goes(width: int) -> None:
    tokens = FeatureTokens({"narrow": width, "full": 8}, [], {}, 8)
    assert tokens.ids == ["full", "narrow"]
    narrow, full = torch.randn(2, width), torch.randn(2, 8)
    known = torch.tensor([True, False])
    made, present = tokens(
        FeatureTensors(2, {}, {}, {}), {"narrow": Embedded(narrow, known), "full": Embedded(full, ~known)}
    )
    torch.testing.assert_close(made[:, 0], full)
    torch.testing.assert_close(made[:, 1, : min(width, 8)], narrow[:, :8])
    assert (made[:, 1, width:] == 0).all()
    assert present.tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("pooling", get_args(BagPooling))
@pytest.mark.parametrize("feature_dim", [3, 24])
@pytest.mark.parametrize("item_id", [True, False])
def test_every_pooling_works_with_every_width(
    dataset: Dataset, pooling: BagPooling, feature_dim: int, item_id: bool
) -> None:
    """A step of training moves every table and every projection."""
    torch.manual_seed(0)
    config = replace(CONFIG, bag_pooling=pooling, feature_dim=feature_dim, item_id=item_id, fusion="mean")
    train = TrainConfig(batch_size=8, uniform_negatives=5)
    model = RetrievalFormer(config, dataset.encoder).train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "query_FD" in name or "gate" in name:
                parameter.add_(0.5)
    batch = next(iter(BatchLoader(dataset, Recipe(name="t", model=config, train=train)).epoch(0)))
    batch_loss(model, batch, train).loss.backward()  # type: ignore[no-untyped-call]
    moved = [(n, p) for n, p in model.named_parameters() if "embedding_bags" in n or "resize" in n or "query_FD" in n]
    assert len(moved) >= 12
    for name, parameter in moved:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_attention_over_a_narrow_bag_by_hand(dataset: Dataset) -> None:
    model = RetrievalFormer(replace(CONFIG, bag_pooling="attention"), dataset.encoder).eval()
    query = model.embeddings.query_FD
    assert query is not None
    torch.nn.init.normal_(query, std=20)
    table = model.embeddings.collection.embedding_bags["domain_genre"].weight
    ids = {key: (torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int32)) for key in model.item_tokens.ids}
    ids["items__genres"] = (torch.tensor([2, 4, 5]), torch.tensor([3], dtype=torch.int32))
    pooled = model.embed({"item": FeatureTensors(1, ids, {}, {})})["items__genres"].pooled_RD[0]
    own = query[model.embeddings.keys.index("items__genres"), :6]
    weights = torch.softmax(table[[2, 4, 5]] @ own, 0)
    assert weights.std() > 0.05
    torch.testing.assert_close(pooled, weights @ table[[2, 4, 5]])


@pytest.mark.parametrize("fusion", tuple(FUSIONS))
@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("feature_dim", [None, 6])
def test_every_kind_of_model_learns_and_is_saved(
    dataset: Dataset, tmp_path: Path, fusion: str, layout: Layout, feature_dim: int | None
) -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, fusion=fusion, layout=layout, feature_dim=feature_dim)
    train = TrainConfig(batch_size=8, uniform_negatives=5)
    batch = next(iter(BatchLoader(dataset, Recipe(name="t", model=config, train=train)).epoch(0)))
    model = RetrievalFormer(config, dataset.encoder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = batch_loss(model, batch, train).loss
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    save_model(tmp_path, model)
    again = load_model(tmp_path, dataset.encoder)
    assert torch.equal(model.eval().encode_items(items(dataset)), again.encode_items(items(dataset)))
