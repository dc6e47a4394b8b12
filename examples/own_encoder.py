"""Train, bundle and ask a user tower of your own: a gated moving average of what a user did.

Run it in a workspace with a dataset: ``RF_HOME=.rf/demo PYTHONPATH=examples python examples/own_encoder.py``. A server of the
bundle needs ``PYTHONPATH=examples``, too.
"""

import os

import torch
from torch import Tensor, nn

import retrievalformer as rf


class MovingAverage(rf.Block):
    """Exponential averages of the tokens so far, one memory for each dimension, gated by the token that asks.

    Shapes: B users, Q tokens that are computed, T tokens that are seen, D width.
    """

    def make_mixer(self, size: rf.BlockSize) -> None:
        """Make a decay for each dimension, and the gate."""
        self.decay_D = nn.Parameter(torch.linspace(-1, 3, size.dim))
        self.gate = nn.Linear(size.dim, size.dim)

    def mix(self, normed_BQD: Tensor, normed_BTD: Tensor, sight: rf.Sight) -> Tensor:
        """Return the averages of what each token sees [B, Q, D]."""
        # The weight of a token falls with its distance, in interactions; what is not seen has none.
        distance_BQT = (sight.place_BQ[:, :, None] - sight.place_BT[:, None, :]).clamp(min=0)
        log_decay_D = torch.nn.functional.logsigmoid(self.decay_D)
        weight_BQTD = torch.exp(distance_BQT[..., None] * log_decay_D) * sight.visible[..., None]
        mean_BQD = (weight_BQTD * normed_BTD[:, None]).sum(2) / weight_BQTD.sum(2)
        return mean_BQD * torch.sigmoid(self.gate(normed_BQD))


def main() -> list[rf.Recommendation]:
    """Train, build the bundle, and return what it recommends after two items."""
    workspace = rf.Workspace()
    changes = ["model.tower=own_encoder:MovingAverage", f"train.epochs={os.environ.get('EPOCHS', '3')}"]
    result = workspace.train(changes=changes)
    bundle = rf.load_bundle(workspace.build_bundle(result.name))
    return bundle.recommend(list(bundle.item_ids[:2]), k=5)


if __name__ == "__main__":
    for each in main():
        print(f"{each.score:.3f}  {each.item}  {each.features}")
