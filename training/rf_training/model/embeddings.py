"""Shared embedding tables of all categorical features, on TorchRec.

Shapes: S rows of the longest side, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from rf_platform.features.spec import Side
from rf_training.model.inputs import Embedded, FeatureTensors
from rf_training.model.noising import FeatureNoising

INIT_STD = 0.02


class FeatureEmbeddings(nn.Module):
    """One ``EmbeddingBagCollection`` over all domains (R1, R4), with the noising module in front of it (R11).

    Every feature is pooled by its mean. Items, users and interactions are looked up in one call: a
    ``KeyedJaggedTensor`` needs one number of rows, so the shorter sides are filled up with empty rows.

    Args:
        features: embedding domain of every feature, by full name.
        rows: rows of every domain's table.
        dim: width.
        rates: noising rate of every feature.
        share: one table per domain, or one per feature.
    """

    def __init__(
        self, features: Mapping[str, str], rows: Mapping[str, int], dim: int, rates: Mapping[str, float], share: bool
    ) -> None:
        super().__init__()
        tables: dict[str, list[str]] = {}
        for feature, domain in features.items():
            tables.setdefault(domain if share else feature, []).append(feature)
        self.keys = [feature for names in tables.values() for feature in names]
        self.collection = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=table_name(table),
                    num_embeddings=rows[features[names[0]]],
                    embedding_dim=dim,
                    feature_names=names,
                    pooling=PoolingType.MEAN,
                    init_fn=_init,
                )
                for table, names in tables.items()
            ]
        )
        self.noising = FeatureNoising({key: rates[key] for key in self.keys})

    def forward(self, sides: Mapping[Side, FeatureTensors]) -> dict[str, Embedded]:
        """Look up all features of all sides; the result is by feature and has the rows of its side."""
        stride = max(side.rows for side in sides.values())
        rows = {key: side.rows for side in sides.values() for key in side.ids}
        parts = {key: part for side in sides.values() for key, part in side.ids.items()}
        values = torch.cat([parts[key][0] for key in self.keys])
        lengths = torch.cat([nn.functional.pad(parts[key][1], (0, stride - rows[key])) for key in self.keys])
        pooled = self.collection(self.noising(KeyedJaggedTensor(keys=self.keys, values=values, lengths=lengths)))
        return {key: Embedded(pooled[key][: rows[key]], parts[key][1] > 0) for key in self.keys}


def table_name(domain: str) -> str:
    """Return a name that may be a module's: no dots."""
    return domain.replace(".", "_")


def _init(weight: Tensor) -> Tensor:
    return nn.init.normal_(weight, std=INIT_STD)
