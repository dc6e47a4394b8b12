"""The embedding tables of a model on ``nn.EmbeddingBag`` alone: what TorchRec is measured against.

Shapes: V looked-up values, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rf_platform.features.spec import Side
from rf_platform.features.vocabulary import PADDING_ID, UNKNOWN_ID
from rf_training.model.embeddings import FeatureEmbeddings
from rf_training.model.inputs import Embedded, FeatureTensors


class PlainEmbeddings(nn.Module):
    """Does what :class:`FeatureEmbeddings` does with whole tables, one ``nn.EmbeddingBag`` call a feature.

    It takes over the tables of another module: the same weights, shapes, noise and results. Attention over bags is left out.

    Args:
        like: has the tables that are taken over; they are shared with it, not copied.
    """

    def __init__(self, like: FeatureEmbeddings) -> None:
        super().__init__()
        assert like.query_FD is None, "attention over bags reads the tables by itself"
        self.keys = like.keys
        rates = dict(zip(like.noising.keys, like.noising.get_buffer("rate_F").tolist(), strict=True))
        self.rates = {key: rates[key] for key in self.keys}
        self.table_of = like.table_of
        mode = like.collection.embedding_bag_configs()[0].pooling.value.lower() if self.keys else "sum"
        self.tables = nn.ModuleDict(
            {
                name: nn.EmbeddingBag(len(bag.weight), bag.weight.shape[1], mode=mode, device="meta")
                for name, bag in like.collection.embedding_bags.items()
            }
        )
        for name, bag in like.collection.embedding_bags.items():
            self.tables[name].weight = bag.weight

    def forward(self, sides: Mapping[Side, FeatureTensors]) -> dict[str, Embedded]:
        """Look up all features of all sides; the result is by feature and has the rows of its side."""
        found = {}
        for side in sides.values():
            for key, (values_V, lengths) in side.ids.items():
                starts = lengths.cumsum(0) - lengths
                pooled_RD: Tensor = self.tables[self.table_of[key]](self._noised(key, values_V), starts.to(torch.int64))
                found[key] = Embedded(pooled_RD, lengths > 0)
        return found

    def _noised(self, key: str, values_V: Tensor) -> Tensor:
        if not self.training:
            return values_V
        noised_V = (torch.rand(values_V.shape, device=values_V.device) < self.rates[key]) & (values_V != PADDING_ID)
        return torch.where(noised_V, torch.full_like(values_V, UNKNOWN_ID), values_V)
