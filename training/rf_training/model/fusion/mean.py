"""Plain mean."""

from torch import Tensor

from rf_training.model.fusion.fusion import Fusion


class MeanFusion(Fusion):
    """The mean of the features that are present (R3); permutation-invariant."""

    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Return the masked mean, [R, D]."""
        return masked_mean(tokens_RMD, present_RM)


def masked_mean(tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
    """Return the mean over the features that are present, [R, D]."""
    weight_RM1 = present_RM.unsqueeze(-1).to(tokens_RMD.dtype)
    return (tokens_RMD * weight_RM1).sum(1) / weight_RM1.sum(1)
