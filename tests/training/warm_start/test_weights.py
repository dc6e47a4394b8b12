"""Weights carried over to grown id maps: what was known gives the same numbers to the last bit, what is new starts unknown."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.features.encode import FeatureEncoder, NumericStats
from rf_platform.features.growth import grow
from rf_platform.features.lineage import FIRST_VERSION, Ancestor
from rf_platform.features.spec import DomainSpec, FeatureSpec, FieldSpec
from rf_platform.features.vocabulary import FIRST_ID, UNKNOWN_ID, Vocabulary
from rf_training.model.config import BagPooling, ModelConfig
from rf_training.model.fusion import FUSIONS
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.storage import save_model
from rf_training.model_scorer import ModelScorer
from rf_training.trainer import INITIAL
from rf_training.warm_start.start import SourceBundle, WarmStart
from rf_training.warm_start.weights import carry_over

CONFIG = ModelConfig(dim=16, max_history=6, fusion="mean", bag_pooling="sum")


def trained(config: ModelConfig, encoder: FeatureEncoder) -> RetrievalFormer:
    """A model of which no weight is what any other model starts with."""
    torch.manual_seed(5)
    model = RetrievalFormer(config, encoder).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
        model.cold_shift.fill_(0.3)
    return model


def carried(model: RetrievalFormer, before: FeatureEncoder, after: FeatureEncoder) -> RetrievalFormer:
    with torch.device("meta"):
        shapes = RetrievalFormer(model.config, before), RetrievalFormer(model.config, after)
    grown = RetrievalFormer(model.config, after).eval()
    grown.load_state_dict(carry_over(model.state_dict(), *shapes))
    return grown


def queries(model: RetrievalFormer, dataset: Dataset) -> Tensor:
    users = np.arange(len(dataset.user_ids))
    lengths = np.diff(np.asarray(dataset.sequences.offsets))
    return ModelScorer(model, dataset).queries(users, lengths)[:, : model.config.dim]


@pytest.mark.parametrize("fusion", tuple(FUSIONS))
@pytest.mark.parametrize("pooling", get_args(BagPooling))
@pytest.mark.parametrize("share", [True, False])
def test_known_items_and_users_have_the_vectors_they_had(
    dataset: Dataset, newer: Dataset, tmp_path: Path, fusion: str, pooling: BagPooling, share: bool
) -> None:
    """Bit for bit, although the newer dataset's own ids and statistics are others."""
    config = replace(CONFIG, fusion=fusion, bag_pooling=pooling, share_domains=share, feature_dim=12)
    model = trained(config, dataset.encoder)
    grown = grow(dataset.encoder, newer.encoder).encoder
    after = carried(model, dataset.encoder, grown)
    grown.save(tmp_path)
    read_again = Dataset.open(dataset.path, tmp_path)
    assert read_again.encoder.hash == grown.hash
    before_items, after_items = (
        FeatureTensors.from_encoded(d.encoder.encode_items(d.items)) for d in (dataset, read_again)
    )
    assert torch.equal(model.encode_items(before_items), after.encode_items(after_items))
    model.cold_shift.zero_()
    assert torch.equal(queries(model, dataset), queries(after, read_again))

    # What the test would say of ids that are not carried over: the newer dataset's own.
    own = FeatureTensors.from_encoded(newer.encoder.encode_items(dataset.items))
    assert not torch.allclose(model.encode_items(before_items), after.encode_items(own), atol=1e-3)


def test_weights_of_an_earlier_version_can_be_gone_on_from(dataset: Dataset, newer: Dataset, tmp_path: Path) -> None:
    """A file of torch, without weights for the profile of a position read: its projection starts at zero, as in a new model."""
    model = trained(CONFIG, dataset.encoder)
    save_model(tmp_path / "model", model)
    file, name = tmp_path / "model" / "weights.pt", "user_tower.read_profile.weight"
    torch.save({key: weight for key, weight in model.state_dict().items() if key != name}, file)
    file.with_suffix(".safetensors").unlink()
    ancestor = Ancestor(
        bundle="earlier",
        manifest_sha256="0" * 64,
        run="earlier",
        dataset_fingerprint=dataset.fingerprint,
        version=FIRST_VERSION,
        encoder_hash=dataset.encoder.hash,
    )
    parent = SourceBundle(model=file.parent, encoder=dataset.encoder, config={}, ancestor=ancestor)
    WarmStart.of(parent, newer).save(tmp_path / "run", CONFIG)
    initial = load_file(tmp_path / "run" / INITIAL / "weights.safetensors")
    assert not initial[name].any()
    for key in ("user_tower.project.weight", "interaction_gate"):
        assert torch.equal(initial[key], model.state_dict()[key])


def test_new_values_start_as_the_unknown_one(dataset: Dataset, newer: Dataset) -> None:
    model = trained(CONFIG, dataset.encoder)
    grown = grow(dataset.encoder, newer.encoder).encoder
    after = carried(model, dataset.encoder, grown)
    tables = {
        name: (old.weight, after.embeddings.collection.embedding_bags[name].weight)
        for name, old in model.embeddings.collection.embedding_bags.items()
    }
    assert any(len(new) > len(old) for old, new in tables.values())
    for old, new in tables.values():
        assert torch.equal(new[: len(old)], old)
        assert torch.equal(new[len(old) :], old[UNKNOWN_ID].expand(len(new) - len(old), -1))
    assert float(after.cold_shift) == 0


def test_a_new_item_has_the_vector_of_an_unknown_one_until_it_is_trained(dataset: Dataset, newer: Dataset) -> None:
    model = trained(CONFIG, dataset.encoder)
    growth = grow(dataset.encoder, newer.encoder)
    after = carried(model, dataset.encoder, growth.encoder)
    added = [i for i in newer.encoder.vocabularies["item_id"].values.to_pylist() if i >= 140]
    rows = newer.items.filter(pa.array([i in added for i in newer.items["item_id"].to_pylist()]))
    assert len(added) > 5
    grown_ids = growth.encoder.encode_items(rows)
    assert (grown_ids.ids["item_id"].values >= dataset.encoder.vocabularies["item_id"].rows).all()
    unknown = FeatureTensors.from_encoded(dataset.encoder.encode_items(rows))
    assert (unknown.ids["item_id"][0] == UNKNOWN_ID).all()
    assert torch.equal(model.encode_items(unknown), after.encode_items(FeatureTensors.from_encoded(grown_ids)))


def with_fields(
    encoder: FeatureEncoder, *, added: tuple[FieldSpec, ...] = (), without: tuple[str, ...] = ()
) -> FeatureEncoder:
    """The encoder of a dataset with features more and less; a new domain of strings has two values."""
    fields = sorted((*(f for f in encoder.spec.fields if f.name not in without), *added), key=lambda f: f.name)
    used = {f.domain for f in fields}
    fresh = tuple(
        DomainSpec(name=f.domain, value_type="string")
        for f in added
        if f.domain is not None and f.domain not in encoder.vocabularies
    )
    domains = tuple(d for d in sorted((*encoder.spec.domains, *fresh), key=lambda d: d.name) if d.name in used)
    spec: FeatureSpec = replace(encoder.spec, fields=tuple(fields), domains=domains)
    values = {d.name: Vocabulary(d, pa.array(["x", "y"]), np.array([2, 1])) for d in fresh}
    return FeatureEncoder(
        spec=spec,
        vocabularies={d.name: values.get(d.name) or encoder.vocabularies[d.name] for d in spec.embedding_domains},
        numeric={**encoder.numeric, **{f.name: NumericStats(1.0, 2.0) for f in added if f.kind == "numeric"}},
        widths={f.name: 4 for f in added if f.kind == "vector"},
    )


def item_field(name: str, kind: str, domain: str | None = None) -> FieldSpec:
    return FieldSpec(view="extra", field=name, side="item", kind=kind, role="feature", dtype="Float32", domain=domain)  # type: ignore[arg-type]


NEW = (item_field("brand", "categorical", "brand"), item_field("price", "numeric"), item_field("picture", "vector"))


@pytest.mark.parametrize("fusion", tuple(FUSIONS))
@pytest.mark.parametrize("feature_dim", [None, 12])
def test_a_feature_that_comes_back_was_not_moved_by_the_others(
    dataset: Dataset, fusion: str, feature_dim: int | None
) -> None:
    """Three features more, which come first in every order, and then gone again: the same weights."""
    config = replace(CONFIG, fusion=fusion, feature_dim=feature_dim, bag_pooling="attention")
    plain, wide = dataset.encoder, with_fields(dataset.encoder, added=NEW)
    model = trained(config, plain)
    there = carried(model, plain, grow(plain, wide).encoder)
    back = carried(there, wide, grow(wide, plain).encoder)
    expected = {**model.state_dict(), "cold_shift": torch.zeros(())}
    if fusion == "concat":  # a feature that is new has a place of its own in the projection
        assert there.item_fusion.get_parameter("weight_MDD").shape[0] == back.item_tokens.count + 3
    assert all(torch.equal(value, expected[name]) for name, value in back.state_dict().items())


def test_a_new_feature_says_nothing_yet(dataset: Dataset) -> None:
    """Its tokens are zero, so that a mean changes its length and not its direction."""
    plain, wide = dataset.encoder, with_fields(dataset.encoder, added=NEW)
    model = trained(CONFIG, plain)
    grown = grow(plain, wide).encoder
    after = carried(model, plain, grown)
    rows = len(dataset.items)
    described = (
        dataset.items.append_column("extra__brand", pa.array(["x", "z"] * (rows // 2)))
        .append_column("extra__price", pa.array([3.0] * rows))
        .append_column("extra__picture", pa.array([[1.0, 2.0, 3.0, 4.0]] * rows, pa.list_(pa.float32())))
    )
    encoded = grown.encode_items(described)
    assert (encoded.ids["extra__brand"].values >= UNKNOWN_ID).all()
    assert FIRST_ID in encoded.ids["extra__brand"].values
    before_ND = model.encode_items(FeatureTensors.from_encoded(plain.encode_items(dataset.items)))
    after_ND = after.encode_items(FeatureTensors.from_encoded(encoded))
    torch.testing.assert_close(
        torch.nn.functional.normalize(after_ND), torch.nn.functional.normalize(before_ND), atol=1e-6, rtol=0
    )
    after_ND.square().sum().backward()  # type: ignore[no-untyped-call]
    brand = after.embeddings.collection.embedding_bags["domain_brand"].weight
    moved = [brand, after.item_tokens.number_weight_FD, *after.item_tokens.projections.parameters()]
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in moved)


def test_a_feature_that_is_gone_takes_its_weights_along(dataset: Dataset) -> None:
    """The others stay as they were."""
    plain = dataset.encoder
    model = trained(replace(CONFIG, fusion="attention"), plain)
    without = with_fields(plain, without=("items__release_year",))
    after = carried(model, plain, grow(plain, without).encoder)
    genres = model.item_tokens.ids.index("items__genres")
    kept = after.item_tokens.ids.index("items__genres")
    assert after.item_tokens.weight_FDD is not None
    assert model.item_tokens.weight_FDD is not None
    assert torch.equal(after.item_tokens.weight_FDD[kept], model.item_tokens.weight_FDD[genres])
    assert "domain_year" not in after.embeddings.collection.embedding_bags
