"""The arithmetic of `rf dataset show --memory` is that of real models and real optimisers (R22)."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from rf_platform.dataset import Dataset
from rf_platform.dataset.memory import FLOAT_BYTES, MemoryReport, TableMemory, memory_report
from rf_platform.features.encode import FeatureEncoder
from rf_training.model.config import ModelConfig
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.report.model_size import model_size

CONFIG = ModelConfig(dim=16, max_history=8, fusion="mean")


def with_a_taste(dataset: Dataset) -> FeatureEncoder:
    """The user's age group made a favourite genre, so that a domain is used by both towers."""
    spec = dataset.encoder.spec
    fields = tuple(replace(f, domain="genre") if f.name == "users__age_group" else f for f in spec.fields)
    return replace(dataset.encoder, spec=replace(spec, fields=fields))


def report(dataset: Dataset, encoder: FeatureEncoder, config: ModelConfig) -> MemoryReport:
    """Worked out as the command does: from the spec and the manifest, without the vocabularies."""
    return memory_report(
        encoder.spec,
        dataset.manifest["vocabularies"],
        items=dataset.manifest["counts"]["items"],
        dim=config.dim,
        feature_dim=config.feature_dim,
    )


@pytest.mark.parametrize("feature_dim", [None, 6])
@pytest.mark.parametrize("item_id", [True, False])
@pytest.mark.parametrize("taste", [True, False])
def test_tables_are_those_of_the_model(dataset: Dataset, feature_dim: int | None, item_id: bool, taste: bool) -> None:
    encoder = with_a_taste(dataset) if taste else dataset.encoder
    config = replace(CONFIG, feature_dim=feature_dim, item_id=item_id)
    found = report(dataset, encoder, config)
    tables = found.with_item_id if item_id else found.attributes
    assert {f"domain_{t.domain}": (t.rows, t.dim, t.parameters * FLOAT_BYTES) for t in tables} == {
        t.name: (t.rows, t.width, t.size) for t in model_size(RetrievalFormer(config, encoder).state_dict()).tables
    }
    apart = model_size(RetrievalFormer(replace(config, share_domains=False), encoder).state_dict())
    assert sum(t.unshared_parameters for t in tables) * FLOAT_BYTES == apart.table_bytes
    assert sum(len(t.uses) for t in tables) == len(apart.tables)


def test_one_embedding_per_item_is_a_row_of_the_width_for_each(dataset: Dataset) -> None:
    found = report(dataset, dataset.encoder, CONFIG)
    per_item = nn.Embedding(len(dataset.item_ids), CONFIG.dim).weight
    assert found.choices["one embedding per item"] == (per_item.numel(), len(per_item))


def test_adamw_keeps_what_the_arithmetic_says(dataset: Dataset) -> None:
    table: TableMemory = report(dataset, dataset.encoder, CONFIG).with_item_id[0]
    weight = nn.Parameter(torch.zeros(table.rows, table.dim))
    optimizer = torch.optim.AdamW([weight])
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    kept = sum(s.numel() * s.element_size() for s in optimizer.state[weight].values() if s.ndim == 2)
    assert kept == table.to_dict()["shared"]["adamw_state_bytes"]
