"""Train with a loss of your own: pairwise (BPR) instead of the softmax, and see what it is worth.

Run it in a workspace with a dataset: ``RF_HOME=.rf/demo PYTHONPATH=examples python examples/own_loss.py``.
"""

import os

import torch
from torch import Tensor
from torch.nn import functional as F

import retrievalformer as rf


def bpr(contrast: rf.Contrast) -> Tensor:
    """Bayesian personalised ranking (Rendle et al., 2009): each target above one random candidate that is no target."""
    scores_QC = contrast.scores_QC / contrast.temperature
    rows = torch.arange(len(scores_QC), device=scores_QC.device)
    weights_QC = (~contrast.excluded_QC).float() + 1e-9  # a step may have one candidate alone
    drawn_Q = torch.multinomial(weights_QC, 1).squeeze(1)
    return F.softplus(scores_QC[rows, drawn_Q] - scores_QC[rows, contrast.target_Q]).mean()


def main() -> dict[str, float]:
    """Train both, and return the validation NDCG@20 of each."""
    workspace = rf.Workspace()
    epochs = os.environ.get("EPOCHS", "3")
    small = [f"train.epochs={epochs}", "train.cold_budget=0", "train.objective=sampled"]
    found = {}
    for name, loss in (("softmax", "contrastive"), ("bpr", "own_loss:bpr")):
        result = workspace.train(changes=[*small, f"train.loss={loss}"], name=f"own-loss-{name}")
        found[name] = result.validation["ndcg@20"]
    return found


if __name__ == "__main__":
    for loss, ndcg in main().items():
        print(f"{loss}: validation NDCG@20 {ndcg:.4f}")
