"""Feature noising: known values become the unknown token, so that its embedding learns to stand for anything (R10, R11)."""

import torch
from torch import Tensor, nn
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from rf_platform.features.vocabulary import PADDING_ID, UNKNOWN_ID


class FeatureNoising(nn.Module):
    """Replaces each categorical value by the unknown id with its feature's probability, in training only (Alg. 1, Eq. 12).

    Works on the ids in front of the look-up: lengths and offsets never change and padding is never touched.
    """

    def __init__(self, rates: dict[str, float]) -> None:
        super().__init__()
        self.keys = list(rates)
        self.register_buffer(
            "rate_F", torch.tensor([rates[k] for k in self.keys], dtype=torch.float32), persistent=False
        )

    def forward(self, features: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """Return the features with noised ids; the same object in evaluation mode."""
        if not self.training:
            return features
        assert features.keys() == self.keys
        values: Tensor = features.values()
        counts = features.length_per_key()
        rates = torch.split(self.get_buffer("rate_F"), 1)
        rate_V = torch.cat([rate.expand(count) for rate, count in zip(rates, counts, strict=True)])
        noised = (torch.rand_like(rate_V) < rate_V) & (values != PADDING_ID)
        return KeyedJaggedTensor(
            keys=features.keys(),
            values=torch.where(noised, torch.full_like(values, UNKNOWN_ID), values),
            lengths=features.lengths(),
            stride=features.stride(),
            length_per_key=counts,
        )
