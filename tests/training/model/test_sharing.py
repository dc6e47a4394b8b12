"""One table per domain, whoever uses it (R4)."""

from dataclasses import replace

import torch

from rf_platform.dataset import Dataset
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import Side
from rf_training.model.config import ModelConfig
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer

CONFIG = ModelConfig(dim=16, max_history=8, dropout=0.0)


def with_a_taste(dataset: Dataset) -> FeatureEncoder:
    """The user's age group made a favourite genre: the profile uses the domain of the items' genres."""
    spec = dataset.encoder.spec
    fields = tuple(replace(f, domain="genre") if f.name == "users__age_group" else f for f in spec.fields)
    return replace(dataset.encoder, spec=replace(spec, fields=fields))


def bag(value: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor([value]), torch.tensor([1], dtype=torch.int32)


def sides(model: RetrievalFormer) -> dict[Side, FeatureTensors]:
    """A genre of an item and the same one as the taste of a user."""
    nothing = (torch.zeros(0, dtype=torch.int64), torch.zeros(1, dtype=torch.int32))
    item, user = (dict.fromkeys(tokens.ids, nothing) for tokens in (model.item_tokens, model.user_tokens))
    return {
        "item": FeatureTensors(1, item | {"items__genres": bag(3)}, {}, {}),
        "user": FeatureTensors(1, user | {"users__age_group": bag(3)}, {}, {}),
    }


def test_towers_share_the_storage_of_a_domain(dataset: Dataset) -> None:
    """What an item teaches a table, the profile reads in it; apart, it does not."""
    for share in (True, False):
        torch.manual_seed(0)
        model = RetrievalFormer(replace(CONFIG, share_domains=share, feature_noise=0.0), with_a_taste(dataset))
        before = model.embed(sides(model))["users__age_group"].pooled_RD.detach()
        model.embed(sides(model))["items__genres"].pooled_RD.sum().backward()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad)
        after = model.embed(sides(model))["users__age_group"].pooled_RD.detach()
        torch.testing.assert_close(after, before - 1 if share else before)


def test_sharing_saves_the_tables_it_saves(dataset: Dataset) -> None:
    def size(share: bool) -> int:
        model = RetrievalFormer(replace(CONFIG, share_domains=share), with_a_taste(dataset))
        return sum(p.numel() for p in model.embeddings.parameters())

    assert size(False) - size(True) == dataset.encoder.vocabularies["genre"].rows * 16


def test_histories_and_candidates_share_the_items_tables_or_have_their_own(dataset: Dataset) -> None:
    """The gradient of a candidate reaches the history's item only where they share; the two are the same vector only there."""
    torch.manual_seed(0)
    for share in (True, False):
        model = RetrievalFormer(replace(CONFIG, share_domains=share), dataset.encoder).eval()
        items = FeatureTensors.from_encoded(dataset.encoder.encode_items(dataset.items.take([0, 1, 2])))
        h_ND = model.encode_items(items)
        history_ND = model.encode_history_items(items, h_ND)
        assert history_ND.shape == h_ND.shape
        assert torch.equal(history_ND, h_ND) is share
        history_ND.square().sum().backward()  # type: ignore[no-untyped-call]
        gradient = model.embeddings.collection.embedding_bags["domain_item_id"].weight.grad
        assert (gradient is not None) is share
