"""The towers: what they see, what they share, what they never see."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.errors import ConfigError, CorruptError
from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_training.config import Recipe, TrainConfig
from rf_training.loading.batches import BatchLoader
from rf_training.model.config import BagPooling, Layout, ModelConfig
from rf_training.model.embeddings import FeatureEmbeddings
from rf_training.model.fusion import FUSIONS
from rf_training.model.inputs import Embedded, FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import load_model, save_model
from rf_training.step import batch_loss

CONFIG = ModelConfig(dim=16, max_history=8, dropout=0.0, feature_noise=0.0, item_id_noise=0.0)


def trained(dataset: Dataset, config: ModelConfig) -> RetrievalFormer:
    """A model whose parameters have all moved from where they start."""
    torch.manual_seed(0)
    model = RetrievalFormer(config, dataset.encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


@pytest.fixture(params=get_args(Layout))
def model(request: pytest.FixtureRequest, dataset: Dataset) -> RetrievalFormer:
    return trained(dataset, replace(CONFIG, layout=request.param))


def users(model: RetrievalFormer, z_VD: Tensor, lengths: list[int], read: list[list[int]] | None = None) -> Tensor:
    torch.manual_seed(1)
    profile = torch.randn(len(lengths), 1, 16)
    rows = 1 if read is None else len(read[0])
    reads = None if read is None else torch.tensor(read)
    return model.encode_users(z_VD, torch.tensor(lengths), profile.expand(-1, rows, -1), reads)


def test_a_position_never_sees_its_future(model: RetrievalFormer) -> None:
    """Only position codes move with the length; so the history is changed, not cut."""
    z = torch.randn(6, 16)
    changed = z.clone()
    changed[4:] = torch.randn(2, 16)
    positions = [[-1, 0, 1, 2, 3, 4, 5]]
    a, b = users(model, z, [6], positions), users(model, changed, [6], positions)
    torch.testing.assert_close(a[:, :5], b[:, :5])
    assert not torch.allclose(a[:, 5], b[:, 5])


def test_reading_all_positions_at_once_equals_reading_one(model: RetrievalFormer) -> None:
    """Training reads every position in one pass, serving the last one: the same numbers."""
    z = torch.randn(9, 16)
    every = users(model, z, [5, 4], [[-1, 0, 1, 2, 3, 4], [-1, 0, 1, 2, 3, 3]])
    last = users(model, z, [5, 4])
    torch.testing.assert_close(every[0, 5], last[0, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(every[1, 4], last[1, 0], atol=1e-5, rtol=1e-5)


def test_neighbours_in_a_batch_do_not_matter(model: RetrievalFormer) -> None:
    z = torch.randn(9, 16)
    torch.manual_seed(1)
    profile = torch.randn(2, 1, 16)
    together = model.encode_users(z, torch.tensor([2, 7]), profile)
    alone = model.encode_users(z[:2], torch.tensor([2]), profile[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)


def test_history_and_profile_both_matter(model: RetrievalFormer) -> None:
    z, profile = torch.randn(3, 16), torch.randn(1, 1, 16)
    base = model.encode_users(z, torch.tensor([3]), profile)
    assert not torch.allclose(base, model.encode_users(z.flip(0), torch.tensor([3]), profile), atol=1e-4)
    assert not torch.allclose(base, model.encode_users(z, torch.tensor([3]), profile.flip(-1)), atol=1e-4)
    assert torch.isfinite(model.encode_users(z[:0], torch.tensor([0]), profile)).all()


def test_weights_of_an_earlier_version_answer_as_they_did(
    dataset: Dataset, model: RetrievalFormer, tmp_path: Path
) -> None:
    """In files of torch, and where only the layout `cls` gave every position its own profile."""
    z, profiles, reads = torch.randn(4, 16), torch.randn(1, 3, 16), torch.tensor([[0, 2, 3]])
    if model.user_tower.read_profile is not None:
        torch.nn.init.zeros_(model.user_tower.read_profile.weight)
    save_model(tmp_path, model)
    file, written = tmp_path / "weights.pt", tmp_path / "weights.safetensors"
    earlier = load_file(written)
    earlier.pop("user_tower.read_profile.weight", None)
    written.rename(tmp_path / "kept")
    torch.save(earlier, file)
    loaded = load_model(tmp_path, dataset.encoder)
    found, expected = (each.encode_users(z, torch.tensor([4]), profiles, reads) for each in (loaded, model))
    assert torch.equal(found, expected)
    del earlier["user_tower.norm.bias"]
    torch.save(earlier, file)
    with pytest.raises(CorruptError, match=r"(?s)do not belong to its configuration.*norm\.bias"):
        load_model(tmp_path, dataset.encoder)


def items(dataset: Dataset, rows: list[int]) -> FeatureTensors:
    return FeatureTensors.from_encoded(dataset.encoder.encode_items(dataset.items).take(np.array(rows)))


def test_a_cold_items_vector_does_not_depend_on_its_id(dataset: Dataset) -> None:
    model = trained(dataset, CONFIG)
    table = dataset.items.slice(0, 1)
    column = table.column_names.index("item_id")

    def vector(item_id: int) -> Tensor:
        renamed = table.set_column(column, "item_id", [[item_id]])
        return model.encode_items(FeatureTensors.from_encoded(dataset.encoder.encode_items(renamed)))

    assert torch.equal(vector(5_000), vector(6_000))
    assert not torch.allclose(vector(5_000), vector(100))


@pytest.mark.parametrize("fusion", tuple(FUSIONS))
def test_a_new_item_gets_a_vector_from_its_features(dataset: Dataset, fusion: str) -> None:
    """Of items that training never saw, every attribute counts."""
    model = trained(dataset, replace(CONFIG, fusion=fusion))
    table = dataset.items.slice(0, 3)
    unseen = table.set_column(table.column_names.index("item_id"), "item_id", [[5_000, 5_001, 5_002]])
    encoded = dataset.encoder.encode_items(unseen)
    assert (encoded.ids["item_id"].values == UNKNOWN_ID).all()
    whole = model.encode_items(FeatureTensors.from_encoded(encoded))
    assert whole.isfinite().all()
    for name in ("items__genres", "items__release_year"):
        without = unseen.drop_columns([name])
        less = model.encode_items(FeatureTensors.from_encoded(dataset.encoder.encode_items(without)))
        assert ((less - whole).abs().amax(1) > 1e-3).all(), name


def test_the_id_and_the_attributes_have_noise_of_their_own(dataset: Dataset) -> None:
    noising = RetrievalFormer(
        replace(CONFIG, item_id_noise=0.5, feature_noise=0.25), dataset.encoder
    ).embeddings.noising
    rates = dict(zip(noising.keys, noising.get_buffer("rate_F").tolist(), strict=True))
    assert rates.pop("item_id") == 0.5
    assert set(rates.values()) == {0.25}
    assert len(rates) == 6


def test_without_the_id_equal_features_give_equal_vectors(dataset: Dataset) -> None:
    model = trained(dataset, replace(CONFIG, item_id=False))
    table = dataset.items.slice(0, 1)
    renamed = table.set_column(table.column_names.index("item_id"), "item_id", [[101]])
    a, b = (FeatureTensors.from_encoded(dataset.encoder.encode_items(t)) for t in (table, renamed))
    assert torch.equal(model.encode_items(a), model.encode_items(b))


def test_candidates_are_unit_vectors(dataset: Dataset) -> None:
    model = trained(dataset, CONFIG)
    vectors = model.candidate_vectors(model.encode_items(items(dataset, [0, 1, 2])))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_a_domain_is_one_table_and_can_be_unshared(dataset: Dataset) -> None:
    """The item's id in the catalog and in the history is one table; genre is one, whoever uses it."""
    rates = {"items__genres": 0.0, "users__taste": 0.0}
    domains = {"items__genres": "genre", "users__taste": "genre"}
    shared = FeatureEmbeddings(domains, {"genre": 9}, {"genre": 4}, rates, share=True)
    apart = FeatureEmbeddings(domains, {"genre": 9}, {"genre": 4}, rates, share=False)
    assert sum(p.numel() for p in shared.parameters()) == 9 * 4
    assert sum(p.numel() for p in apart.parameters()) == 2 * 9 * 4
    one = FeatureTensors(1, {"items__genres": (torch.tensor([5]), torch.tensor([1]))}, {}, {})
    two = FeatureTensors(1, {"users__taste": (torch.tensor([5]), torch.tensor([1]))}, {}, {})
    looked_up = shared({"item": one, "user": two})
    assert torch.equal(looked_up["items__genres"].pooled_RD, looked_up["users__taste"].pooled_RD)
    looked_up = apart({"item": one, "user": two})
    assert not torch.equal(looked_up["items__genres"].pooled_RD, looked_up["users__taste"].pooled_RD)


def genres(model: RetrievalFormer, values: list[int], lengths: list[int]) -> Embedded:
    rows = len(lengths)
    ids = {
        key: (torch.zeros(0, dtype=torch.int64), torch.zeros(rows, dtype=torch.int32)) for key in model.item_tokens.ids
    }
    ids["items__genres"] = (torch.tensor(values), torch.tensor(lengths, dtype=torch.int32))
    embedded = model.embed({"item": FeatureTensors(rows, ids, {}, {})})
    assert not embedded["items__release_year"].present_R.any()
    return embedded["items__genres"]


@pytest.mark.parametrize("pooling", ["mean", "sum", "attention"])
def test_bags_are_pooled(dataset: Dataset, pooling: BagPooling) -> None:
    model = trained(dataset, replace(CONFIG, bag_pooling=pooling))
    if model.embeddings.query_FD is not None:
        model.embeddings.query_FD.data.fill_(1.0)
    pooled = genres(model, [2, 3, 2, 3, 3, 2], [1, 1, 2, 2, 0]).pooled_RD
    one, other, both, swapped, none = pooled
    torch.testing.assert_close(both, swapped)
    assert none.abs().sum() == 0
    if pooling == "mean":
        torch.testing.assert_close(both, (one + other) / 2)
    elif pooling == "sum":
        torch.testing.assert_close(both, one + other)
    else:
        query = model.embeddings.query_FD
        assert query is not None
        weights = torch.softmax(torch.stack([one, other]) @ query[model.embeddings.keys.index("items__genres")], 0)
        assert abs(weights[0].item() - 0.5) > 0.01
        torch.testing.assert_close(both, weights[0] * one + weights[1] * other)


def test_attention_over_bags_is_learned_and_starts_at_the_mean(dataset: Dataset) -> None:
    model = RetrievalFormer(replace(CONFIG, bag_pooling="attention"), dataset.encoder)
    one, other, both = genres(model, [2, 3, 2, 3], [1, 1, 2]).pooled_RD
    torch.testing.assert_close(both, (one + other) / 2)
    genres(model, [2, 3], [2]).pooled_RD.square().sum().backward()  # type: ignore[no-untyped-call]
    query = model.embeddings.query_FD
    assert query is not None
    assert query.grad is not None
    assert query.grad.abs().sum() > 0


@pytest.mark.parametrize("domain", ["type", "items", "values", "keys", "training", "half"])
def test_any_domain_may_be_called_anything(domain: str) -> None:
    embeddings = FeatureEmbeddings({"v__f": domain}, {domain: 5}, {domain: 4}, {"v__f": 0.0}, share=True)
    looked_up = embeddings({"item": FeatureTensors(1, {"v__f": (torch.tensor([3]), torch.tensor([1]))}, {}, {})})
    assert looked_up["v__f"].pooled_RD.shape == (1, 4)


def test_a_model_without_any_categorical_feature() -> None:
    assert FeatureEmbeddings({}, {}, {}, {}, share=True)({"item": FeatureTensors(2, {}, {}, {})}) == {}


def test_the_unknown_row_gets_a_gradient_from_noising_only(dataset: Dataset) -> None:
    def gradient(noise: float) -> float:
        torch.manual_seed(0)
        config = replace(CONFIG, feature_noise=noise, item_id_noise=noise)
        loader = BatchLoader(
            dataset, Recipe(name="t", model=config, train=TrainConfig(batch_size=8, uniform_negatives=5))
        )
        model = RetrievalFormer(config, dataset.encoder).train()
        batch_loss(model, next(iter(loader.epoch(0))), loader.recipe.train).loss.backward()  # type: ignore[no-untyped-call]
        weight = model.embeddings.collection.embedding_bags["domain_item_id"].weight
        assert weight.grad is not None
        assert weight.grad[0].abs().sum() == 0  # padding
        return float(weight.grad[1].abs().sum())

    assert gradient(0.0) == 0
    assert gradient(0.5) > 0


def test_saved_model_gives_the_same_vectors(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("model")
    model = trained(dataset, CONFIG)
    save_model(directory, model)
    again = load_model(directory, dataset.encoder)
    assert torch.equal(model.encode_items(items(dataset, [3, 4])), again.encode_items(items(dataset, [3, 4])))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"dim": 15}, r"model\.dim=15"), ({"dropout": 1.0}, r"model\.dropout"), ({"layout": "tail"}, r"model\.layout")],
)
def test_a_config_that_cannot_be_says_what_to_change(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**change)  # type: ignore[arg-type]
