"""Batches without a row: no items, no users, no interactions, or users none of whom has any."""

from dataclasses import replace
from itertools import product
from typing import get_args

import numpy as np
import pytest
import torch

from rf_platform.dataset import Dataset
from rf_training.evaluation.sequences import Jagged
from rf_training.model.config import BagPooling, Layout, ModelConfig
from rf_training.model.fusion import FUSIONS
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model_scorer import USERS_AT_ONCE, ModelScorer, encode_context_rows, encode_vectors

CONFIG = ModelConfig(dim=16, max_history=8)
CONFIGS = [
    *(replace(CONFIG, fusion=fusion, layout=layout) for fusion, layout in product(tuple(FUSIONS), get_args(Layout))),
    *(replace(CONFIG, bag_pooling=pooling, feature_dim=8) for pooling in get_args(BagPooling)),
    replace(CONFIG, share_domains=False),
    replace(CONFIG, item_id=False, item_bias=True),
]
NONE = np.zeros(0, np.int64)


def name_of(config: ModelConfig) -> str:
    """The settings that are not the default."""
    changed = [value for name, value in vars(config).items() if value != getattr(CONFIG, name)]
    return "-".join(map(str, changed)) or "default"


NO_LENGTHS = torch.zeros(0, dtype=torch.int64)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_every_part_of_the_model_takes_no_rows(dataset: Dataset, config: ModelConfig, training: bool) -> None:
    torch.manual_seed(0)
    model, encoder = RetrievalFormer(config, dataset.encoder).train(training), dataset.encoder
    items = FeatureTensors.from_encoded(encoder.encode_items(dataset.items.slice(0, 0)))
    context = FeatureTensors.from_encoded(
        encoder.encode_context(dataset.contexts.slice(0, 0), NONE, np.zeros(0, np.bool_))
    )
    users = FeatureTensors.from_encoded(encoder.encode(dataset.items.slice(0, 0), dataset.spec.inputs("user")))
    assert {part.pooled_RD.shape[0] for part in model.embed({}).values()} == {0}
    h_ND = model.encode_items(items)
    z_VD = model.encode_interactions(h_ND, context)
    p_BD = model.encode_profiles(users)
    u_BRD = model.encode_users(z_VD, NO_LENGTHS, p_BD[:, None])
    assert [x.shape for x in (h_ND, model.encode_history_items(items, h_ND), z_VD, p_BD)] == [(0, 16)] * 4
    assert u_BRD.shape == (0, 1, 16)
    assert model.encode_users(
        z_VD, NO_LENGTHS, p_BD[:, None].expand(-1, 3, -1), NO_LENGTHS[:, None].expand(-1, 3)
    ).shape == (0, 3, 16)
    cold_N = torch.zeros(0, dtype=torch.bool)
    width = 17 if model.biased else 16
    assert model.candidate_vectors(h_ND, cold_N).shape == model.query_vectors(u_BRD[:, 0]).shape == (0, width)
    (u_BRD.sum() + z_VD.sum() + h_ND.sum()).backward()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("config", CONFIGS, ids=name_of)
def test_users_without_an_interaction_are_as_beside_one_who_has_some(dataset: Dataset, config: ModelConfig) -> None:
    torch.manual_seed(0)
    model = RetrievalFormer(config, dataset.encoder).eval()
    z_VD, p_B1D = torch.randn(3, 16), torch.randn(3, 1, 16)
    alone = model.encode_users(z_VD[:0], torch.tensor([0, 0]), p_B1D[1:])
    beside = model.encode_users(z_VD, torch.tensor([3, 0, 0]), p_B1D)
    torch.testing.assert_close(alone, beside[1:], atol=1e-5, rtol=1e-5)


def histories(lengths: list[int]) -> Jagged:
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    return Jagged(np.arange(offsets[-1], dtype=np.int32), offsets)


def test_a_scorer_is_asked_about_nobody_and_about_blocks_of_new_users(dataset: Dataset) -> None:
    torch.manual_seed(0)
    scorer = ModelScorer(RetrievalFormer(CONFIG, dataset.encoder), dataset)
    assert scorer.scores(NONE, histories([])).shape == (0, dataset.n_items)
    count = 2 * USERS_AT_ONCE  # with the user who has a history, the first blocks are of new users alone
    users = np.arange(count + 1) % 24
    together = scorer.scores(users, histories([0] * count + [3]))
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together[:24], scorer.scores(users[:24], histories([0] * 24)), atol=1e-5)
    assert not np.allclose(together[-1], together[users[-1]], atol=1e-4)
    assert scorer.history_tokens(NONE).shape == (0, 16)
    assert encode_context_rows(dataset, NONE, np.zeros(0, np.bool_)).rows == 0


def test_no_items_have_no_vectors(dataset: Dataset) -> None:
    model = RetrievalFormer(CONFIG, dataset.encoder).eval()
    items = dataset.encoder.encode_items(dataset.items)
    none = encode_vectors(model, items.take(NONE), torch.zeros(0, dtype=torch.bool))
    assert none.shape == encode_vectors(model, items, torch.zeros(0, dtype=torch.bool), NONE).shape == (0, 16)
