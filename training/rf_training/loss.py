"""Contrastive objectives: InfoNCE over sampled candidates, and the exact softmax over the catalog.

Losses of the latest steps are left on the device until they must be known.

Shapes: Q targets, C candidates, D width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rf_platform.errors import RunError
from rf_training.device import numbers_at_once

PAIRS = 1024
"""Most vectors that pairwise statistics look at in one step."""
LOGITS_AT_ONCE = 1 << 22
"""Most logits that the exact softmax holds at once on a CPU: 16 MiB."""


@dataclass(frozen=True)
class LossTerms:
    """The loss and what is watched beside it (R13)."""

    loss: Tensor
    """Loss that is minimised: the mean contrastive loss, and penalties where the recipe asks for them."""
    alignment: Tensor
    """Mean squared distance of queries and their positives."""
    uniformity: Tensor
    """Log of the mean of exp(-2 d^2) over queries and candidates; lower is more uniform."""


def info_nce(
    x_QD: Tensor,
    y_CD: Tensor,
    bias_C: Tensor | None,
    target_Q: Tensor,
    hit_QC: Tensor,
    log_weight_C: Tensor,
    temperature: float,
    hardness: float = 0.0,
    weight_Q: Tensor | None = None,
) -> Tensor:
    """Mean contrastive loss of each query against the batch's candidates (Eq. 9, 16, R9).

    A candidate that was drawn m times and is drawn E[m] times on average counts m / E[m] times, so that the sum over the
    sampled negatives estimates the sum over the catalog without bias. The target itself counts once, exactly; other rows
    marked in ``hit_QC`` carry no loss.

    Args:
        x_QD: unit query vectors.
        y_CD: unit candidate vectors.
        bias_C: learned bias of each candidate, added to its cosine; None for none.
        target_Q: each query's positive, a row of ``y_CD``.
        hit_QC: bool, candidates that are no negatives of a query; its own target may be marked or not.
        log_weight_C: log(m / E[m]).
        temperature: divides the scores.
        hardness: concentration b of hard negatives (R15): a negative of score s weighs exp(b s / temperature) times as much,
            the weights of a query's negatives summing to what they did before (Robinson et al., 2021, "Contrastive learning
            with hard negative samples"); 0 leaves them alike.
        weight_Q: what the loss of each query is multiplied by; None for 1.
    """
    score_QC = x_QD @ y_CD.T
    if bias_C is not None:
        score_QC = score_QC + bias_C
    positive_Q1 = score_QC.gather(1, target_Q[:, None]) / temperature
    negative_QC = (score_QC / temperature + log_weight_C).masked_fill(hit_QC, -torch.inf)
    own_Q1 = target_Q[:, None]
    if hardness:
        # Importance weights: the tilted distribution over the plain one, normalised over the query's own negatives.
        own_QC = negative_QC.detach().scatter(1, own_Q1, -torch.inf).isneginf()
        tilt_QC = hardness * score_QC.detach() / temperature
        flat_QC = log_weight_C.masked_fill(own_QC, -torch.inf)
        shift_Q1 = flat_QC.logsumexp(1, keepdim=True) - (flat_QC + tilt_QC).logsumexp(1, keepdim=True)
        negative_QC = negative_QC + (tilt_QC + shift_Q1).masked_fill(own_QC, 0.0)
    negative_QC = negative_QC.scatter(1, own_Q1, positive_Q1)
    loss_Q = torch.logsumexp(negative_QC, dim=1) - positive_Q1.squeeze(1)
    return (loss_Q if weight_Q is None else loss_Q * weight_Q).mean()


def hits(item_C: Tensor, target_Q: Tensor, window_Q: Tensor | None = None, windows: int = 0) -> Tensor:
    """Return which candidates are no negatives of a query [Q, C]: those of its target's item, in whatever version.

    Args:
        item_C: item of each candidate, numbered from 0.
        target_Q: each query's positive.
        window_Q: history window of each query, from 0: then all positives of the window are none.
        windows: how many there are.
    """
    if window_Q is None:
        return item_C[target_Q][:, None] == item_C
    own_WI = torch.zeros(windows, len(item_C), dtype=torch.bool, device=item_C.device)  # as many items as there may be
    own_WI[window_Q, item_C[target_Q]] = True
    return own_WI[:, item_C][window_Q]


def full_softmax(
    x_QD: Tensor,
    y_CD: Tensor,
    bias_C: Tensor | None,
    target_Q: Tensor,
    temperature: float,
    smoothing: float = 0.0,
    product: torch.dtype | None = None,
    weight_Q: Tensor | None = None,
) -> Tensor:
    """Mean cross-entropy of the exact softmax over all candidates, some queries at a time.

    Neither the logits [Q, C] nor their gradient are ever held as a whole: each part's gradient is made right after its loss.

    Args:
        x_QD: unit query vectors.
        y_CD: unit vectors of every item of the training catalog.
        bias_C: learned bias of each candidate, added to its cosine; None for none.
        target_Q: each query's positive, a row of ``y_CD``.
        temperature: divides the scores.
        smoothing: share of the probability that the target gives to all candidates alike (label smoothing).
        product: number format of the factors of the matrix products, default that of ``x_QD``; sums keep the latter.
        weight_Q: what the loss of each query is multiplied by; None for 1.
    """
    bias_C = y_CD.new_zeros(len(y_CD)) if bias_C is None else bias_C
    loss: Tensor = _FullSoftmax.apply(
        x_QD, y_CD, bias_C, target_Q, temperature, smoothing, product or x_QD.dtype, weight_Q
    )  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x_QD: Tensor,
        y_CD: Tensor,
        bias_C: Tensor,
        target_Q: Tensor,
        temperature: float,
        smoothing: float,
        product: torch.dtype,
        weight_Q: Tensor | None,
    ) -> Tensor:
        Q, C = len(x_QD), len(y_CD)
        dx_QD, dy_CD, dbias_C = torch.empty_like(x_QD), torch.zeros_like(y_CD), torch.zeros_like(bias_C)
        x_QD, y_CD = x_QD.to(product), y_CD.to(product)
        total = dx_QD.new_zeros(())
        step = max(1, numbers_at_once(x_QD.device, LOGITS_AT_ONCE) // C)
        for start in range(0, Q, step):
            x_PD, own_P1 = x_QD[start : start + step], target_Q[start : start + step, None]
            logit_PC = (x_PD @ y_CD.T).to(bias_C.dtype).add_(bias_C).div_(temperature)
            log_sum_P = logit_PC.logsumexp(1)
            target_P = logit_PC.gather(1, own_P1).squeeze(1) * (1 - smoothing)
            if smoothing:
                target_P = target_P + logit_PC.mean(1) * smoothing
            loss_P = log_sum_P - target_P
            weight_P = None if weight_Q is None else weight_Q[start : start + step]
            total += (loss_P if weight_P is None else loss_P * weight_P).sum()
            # The gradient of the logits takes their place: softmax minus the target distribution.
            grad_PC = logit_PC.sub_(log_sum_P[:, None]).exp_()
            if smoothing:
                grad_PC.sub_(smoothing / C)
            grad_PC.scatter_add_(1, own_P1, torch.full_like(own_P1, smoothing - 1.0, dtype=grad_PC.dtype))
            if weight_P is not None:
                grad_PC.mul_(weight_P[:, None])
            dbias_C += grad_PC.sum(0)
            factor_PC = grad_PC.to(product)
            dx_QD[start : start + step] = factor_PC @ y_CD
            dy_CD += factor_PC.T @ x_PD
        scale = 1 / (Q * temperature)
        ctx.save_for_backward(dx_QD.mul_(scale), dy_CD.mul_(scale), dbias_C.mul_(scale))
        return total / Q

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        dx_QD, dy_CD, dbias_C = ctx.saved_tensors
        return dx_QD * grad, dy_CD * grad, dbias_C * grad, None, None, None, None, None


def unwanted_loss(
    x_UD: Tensor,
    y_UD: Tensor,
    bias_U: Tensor | None,
    target_U: Tensor,
    temperature: float,
    weight_U: Tensor | None = None,
) -> Tensor:
    """Sum of the contrastive losses of queries between their target and one item that their user had not wanted by then.

    It is :func:`info_nce` with that one negative, so it does not depend on how many other candidates there are. Shape: U queries
    with such an item.

    Args:
        x_UD: unit query vectors.
        y_UD: unit vectors of the unwanted items.
        bias_U: learned bias of each, added to its cosine; None for none.
        target_U: score of each query's target, bias included.
        temperature: divides the scores.
        weight_U: what the loss of each is multiplied by; None for 1.
    """
    score_U = (x_UD * y_UD).sum(1)
    if bias_U is not None:
        score_U = score_U + bias_U
    loss_U = F.softplus((score_U - target_U) / temperature)
    return (loss_U if weight_U is None else loss_U * weight_U).sum()


def alignment(x_QD: Tensor, y_CD: Tensor, target_Q: Tensor) -> Tensor:
    """Return E|u - v|^2 of queries and their positives (R13)."""
    return (x_QD - y_CD[target_Q]).square().sum(1).mean()


def uniformity(x_QD: Tensor, y_CD: Tensor) -> Tensor:
    """Return log E exp(-2 |u - v|^2) over pairs of queries and candidates, of at most :data:`PAIRS` each (R13)."""
    x_PD, y_PD = thin(x_QD), thin(y_CD)  # no random numbers: watching changes nothing
    pairs = torch.tensor(float(len(x_PD) * len(y_PD)))
    return torch.logsumexp(-2 * (2 - 2 * x_PD @ y_PD.T), dim=(0, 1)) - pairs.log()


def uniformity_of(y_CD: Tensor) -> Tensor:
    """Return log E exp(-2 |v - v'|^2) over distinct pairs of :data:`PAIRS` random candidates (Wang and Isola, 2020)."""
    if len(y_CD) < 2:
        return y_CD.new_zeros(())
    some = torch.randperm(len(y_CD), device=y_CD.device)[:PAIRS]
    square_distance = F.pdist(y_CD[some]).square()
    return torch.logsumexp(-2 * square_distance, dim=0) - torch.tensor(float(len(square_distance))).log()


def norm_penalty(u_QD: Tensor, v_CD: Tensor, weight: float = 1.0, part: float = 1.0) -> Tensor:
    """Return E|u|^2 + E|v|^2 of vectors before they are normalised (R10), the former times ``weight``, the latter ``part``."""
    return weight * u_QD.square().sum(1).mean() + part * v_CD.square().sum(1).mean()


def variance_penalty(y_CD: Tensor) -> Tensor:
    """Return how far the dimensions of unit vectors fall short of the spread of a uniform sphere, in [0, 1] (R10).

    On the unit sphere in D dimensions a uniformly spread vector has the standard deviation 1 / sqrt(D) in each of them; a
    dimension with less of it costs the missing share (a hinge, as in Bardes et al., 2022, "VICReg").
    """
    deviation_D = (y_CD.var(0, correction=0) + 1e-8).sqrt() * y_CD.shape[1] ** 0.5
    return F.relu(1 - deviation_D).mean()


def thin(vectors_ND: Tensor) -> Tensor:
    """Return at most :data:`PAIRS` rows, spread evenly."""
    count = min(PAIRS, len(vectors_ND))
    return vectors_ND[torch.linspace(0, len(vectors_ND) - 1, count, device=vectors_ND.device).long()]


READ_EVERY = 20
"""Steps after which losses are read from a device: reading one waits for all of its step. A CPU has every one at hand."""


class LossWatch:
    """Reads the losses together, and stops the run at the first that is not finite.

    Args:
        device: where the losses are.
    """

    def __init__(self, device: torch.device) -> None:
        self._every = 1 if device.type == "cpu" else READ_EVERY
        self._unread: list[tuple[Tensor, Callable[[float], str]]] = []
        self._latest: float | None = None

    @property
    def note(self) -> str:
        """The last loss that was read, for the line of progress; empty until there is one."""
        return "" if self._latest is None else f"loss {self._latest:.3f}"

    def add(self, loss: Tensor, fault: Callable[[float], str]) -> list[float]:
        """Add the loss of a step.

        Args:
            loss: without a gradient.
            fault: says what is wrong if it is not finite.

        Returns:
            The losses, of this and earlier steps, that were read because it is time to.

        Raises:
            RunError: one of them is not finite.
        """
        self._unread.append((loss, fault))
        return self.read() if len(self._unread) >= self._every else []

    def read(self) -> list[float]:
        """Read what was not read yet: before weights are kept, so that none are kept that came of a loss that is not finite.

        Raises:
            RunError: one is not finite.
        """
        if not self._unread:
            return []
        unread, self._unread = self._unread, []
        values: list[float] = torch.stack([loss for loss, _ in unread]).tolist()
        for value, (_, fault) in zip(values, unread, strict=True):
            if not math.isfinite(value):
                raise RunError(fault(value))
        self._latest = values[-1]
        return values
