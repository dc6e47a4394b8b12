"""What TorchRec is compared with computes the same thing."""

from dataclasses import replace

import pytest
import torch

from rf_bench.train.plain_embeddings import PlainEmbeddings
from rf_platform.dataset import Dataset
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.model.config import BagPooling, ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.step import batch_loss

CONFIG = ModelConfig(dim=16, max_history=6, dropout=0.0, feature_noise=0.0, item_id_noise=0.0, fusion="mean")
TRAIN = TrainConfig(batch_size=8, uniform_negatives=10)


@pytest.mark.parametrize("pooling", ["mean", "sum"])
def test_it_has_the_same_loss_and_gradients(dataset: Dataset, pooling: BagPooling) -> None:
    config = replace(CONFIG, bag_pooling=pooling)
    batch = next(iter(BatchLoader(dataset, Recipe(name="t", model=config, train=TRAIN)).epoch(0)))
    losses, gradients = [], []
    for plain in (False, True):
        torch.manual_seed(0)
        model = RetrievalFormer(config, dataset.encoder).train()
        if plain:
            model.embeddings = PlainEmbeddings(model.embeddings)  # type: ignore[assignment]
        loss = batch_loss(model, batch, TRAIN).loss
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(loss)
        gradients.append({name.rpartition("domain_")[2]: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(losses[0], losses[1])
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_it_noises_as_often(dataset: Dataset) -> None:
    model = RetrievalFormer(replace(CONFIG, feature_noise=0.4), dataset.encoder)
    plain = PlainEmbeddings(model.embeddings).train()
    noised = plain._noised("items__genres", torch.full((20_000,), 3))
    assert set(noised.tolist()) == {1, 3}
    assert abs((noised == 1).float().mean() - 0.4) < 0.02
    assert (plain._noised("items__genres", torch.zeros(1000, dtype=torch.int64)) == 0).all()
    assert (plain.eval()._noised("items__genres", torch.full((1000,), 3)) == 3).all()
