"""Training of a re-ranker on frozen towers: its losses, passes over the examples, validation after each, the best weights kept.

Shapes: B examples of a step, C = 1 + hard + uniform items of an example, K candidates of a loss, the positive first.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_platform.cli.console import track
from rf_training.loss import LossWatch
from rf_training.optimizer import BETAS, WarmupCosine
from rf_training.rerank.cases import RerankCases
from rf_training.rerank.examples import Examples
from rf_training.rerank.quality import SELECTION, measure, measure_weighted
from rf_training.rerank.ranker import CorrectingRanker, Ranker
from rf_training.rerank.recipe import RerankTraining
from rf_training.rerank.scoring import item_states
from rf_training.rerank.towers import Towers


class ListwiseSoftmax(nn.Module):
    """Cross-entropy of the positive among its candidates (ListNet's top-one loss, Cao et al., 2007, ICML).

    The negatives that were drawn stand for all, as in the sampled softmax: otherwise the scores would learn how likely each was
    drawn.
    """

    def forward(self, score_BK: Tensor, log_weight_BK: Tensor) -> Tensor:
        """Return the mean loss.

        Args:
            score_BK: the re-ranker's scores; column 0 is the positive.
            log_weight_BK: log of how many candidates each stands for, 0 for the positive; -inf where a candidate is none.
        """
        loss: Tensor = ((score_BK + log_weight_BK).logsumexp(dim=1) - score_BK[:, 0]).mean()
        return loss


class Clicks(nn.Module):
    """Binary cross-entropy of every candidate by itself; the negatives of an example weigh as much as its positive.

    A learned offset stands for the rate of positives. It is no part of the re-ranker: it changes no order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, score_BK: Tensor, log_weight_BK: Tensor) -> Tensor:
        """Return the mean loss; arguments as for :class:`ListwiseSoftmax`."""
        logit_BK = score_BK + self.offset
        weight_BN = log_weight_BK[:, 1:].softmax(dim=1)
        loss: Tensor = (F.softplus(-logit_BK[:, 0]) + (F.softplus(logit_BK[:, 1:]) * weight_BN).sum(1)).mean()
        return loss


WEIGHTS = (1.0, 0.25, 0.5, 0.75, 1.5)
"""Weights of a re-ranker's correction of the retriever's score that are tried on the validation targets."""
POOL = 16
"""Batches that are shuffled together and then sorted by length: little padding, and still a random order."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Result of a training of a re-ranker."""

    best_epoch: int
    """Pass, from 1, of the kept weights; 0 where no pass was better than the order of the retriever."""
    weight: float
    """Of what the re-ranker adds to the retriever's score, chosen by validation."""
    history: list[dict[str, float]]
    """After every pass, and before the first: ``epoch``, ``loss`` (of training), ``weight`` and validation metrics with it."""
    steps: int
    """Optimiser steps in all."""


def fit(
    ranker: Ranker, towers: Towers, views: list[Examples], validation: RerankCases, settings: RerankTraining
) -> Fit:
    """Train a re-ranker in place; it ends with the best weights and in evaluation mode.

    Args:
        ranker: a new one, on the device of the towers.
        towers: what it stands on; they are not changed.
        views: the examples, encoded under one draw of noise each.
        validation: what chooses the best pass.
        settings: of the training.

    Raises:
        RunError: the loss is not finite.
    """
    steps = Steps(towers, settings)
    per_pass = math.ceil(len(views[0]) / settings.batch_size)
    total = settings.epochs * per_pass
    loss = ListwiseSoftmax() if settings.loss == "softmax" else Clicks()
    optimizer = _optimizer(nn.ModuleList([ranker, loss.to(towers.device)]), settings)
    watch = LossWatch(towers.device)
    schedule = WarmupCosine(peak=settings.learning_rate, final=0.0, warmup=max(1, per_pass // 10), total=total)
    torch.manual_seed(settings.seed)
    _, metrics = validate(ranker, towers, validation)
    history = [{"epoch": 0.0, **metrics}]
    best, best_epoch, kept, step = metrics[SELECTION], 0, deepcopy(ranker.state_dict()), 0
    if not any(p.requires_grad for p in ranker.parameters()):
        return Fit(best_epoch=0, weight=1.0, history=history, steps=0)
    best_weight = 1.0
    with track(f"rerank {ranker.kind}", total) as progress:
        for epoch in range(settings.epochs):
            ranker.train()
            losses: list[float] = []
            for batch in steps.batches(views[epoch % len(views)], epoch):
                for group in optimizer.param_groups:
                    group["lr"] = schedule.at(step)
                value = loss(steps.scores(ranker, batch), batch.log_weight_BC)
                losses += watch.add(value.detach(), partial(_fault, settings, step, schedule.at(step)))
                optimizer.zero_grad(set_to_none=True)
                value.backward()
                torch.nn.utils.clip_grad_norm_(ranker.parameters(), settings.clip_norm)
                optimizer.step()
                step += 1
                progress.advance(note=watch.note)
            losses += watch.read()
            weight, metrics = validate(ranker, towers, validation)
            history.append({"epoch": epoch + 1.0, "loss": float(np.mean(losses)), "weight": weight, **metrics})
            progress.advance(0, note=f"pass {epoch + 1}: validation {SELECTION} {metrics[SELECTION]:.4f}")
            if metrics[SELECTION] > best:
                best, best_weight, best_epoch = metrics[SELECTION], weight, epoch + 1
                kept = deepcopy(ranker.state_dict())
            elif epoch + 1 - best_epoch >= settings.patience:
                break
    ranker.load_state_dict(kept)
    if isinstance(ranker, CorrectingRanker):
        ranker.residual_weight.fill_(best_weight)
    ranker.eval()
    return Fit(best_epoch=best_epoch, weight=best_weight, history=history, steps=step)


def _fault(settings: RerankTraining, step: int, rate: float, loss: float) -> str:
    return (
        f"the loss of the re-ranker is {loss} at step {step} (learning rate {rate:.2g}); lower "
        f"train.learning_rate={settings.learning_rate:g} or train.clip_norm={settings.clip_norm:g}"
    )


def validate(ranker: Ranker, towers: Towers, cases: RerankCases) -> tuple[float, dict[str, float]]:
    """Return the best weight of what the re-ranker adds to the retriever's score, and the metrics with it."""
    ranker.eval()
    item_states_NW = item_states(ranker, towers.unit_ND)
    if not isinstance(ranker, CorrectingRanker):
        return 1.0, measure(ranker, item_states_NW, cases).means
    found = measure_weighted(ranker, item_states_NW, cases, WEIGHTS)
    weight = max(WEIGHTS, key=lambda each: found[each].mean(SELECTION))
    return weight, found[weight].means


@dataclass(frozen=True)
class RerankBatch:
    """The examples of a step."""

    view: Examples
    row_B: Tensor
    """int64, rows of the view."""
    item_BC: Tensor
    """int64, the positive and its negatives."""
    log_weight_BC: Tensor
    """Log of how many items each stands for; -inf for a negative that is none: the positive again, or too few candidates."""


class Steps:
    """Makes batches of examples and scores them.

    Args:
        towers: the frozen towers.
        settings: of the training.
    """

    def __init__(self, towers: Towers, settings: RerankTraining) -> None:
        self._towers, self._settings = towers, settings
        self._trained_N = torch.from_numpy(np.flatnonzero(towers.dataset.trained_items)).to(towers.device)

    def batches(self, view: Examples, epoch: int) -> Iterator[RerankBatch]:
        """Yield the batches of a pass; the same seed and pass give the same ones."""
        settings = self._settings
        rng = np.random.default_rng([settings.seed, epoch])
        order, size = rng.permutation(len(view)), settings.batch_size
        length = view.encoded.length_P.cpu().numpy()
        pools = [order[start : start + POOL * size] for start in range(0, len(order), POOL * size)]
        parts = [
            some[np.argsort(length[some], kind="stable")][start : start + size]
            for some in pools
            for start in range(0, len(some), size)
        ]
        for index in rng.permutation(len(parts)):
            row_B = torch.from_numpy(parts[index]).to(self._towers.device)
            positive_B1 = view.positive_P[row_B][:, None]
            drawn = rng.integers(0, len(self._trained_N), (len(row_B), settings.uniform))
            drawn_BU = torch.from_numpy(drawn).to(self._towers.device)
            negative_BC = torch.cat([view.hard_PH[row_B].long(), self._trained_N[drawn_BU]], dim=1)
            stands_for = math.log(len(self._trained_N) / max(1, settings.uniform))
            log_weight_BC = F.pad(view.log_weight_PH[row_B], (0, settings.uniform), value=stands_for)
            none_BC = (negative_BC < 0) | (negative_BC == positive_B1)
            yield RerankBatch(
                view=view,
                row_B=row_B,
                item_BC=torch.cat([positive_B1, negative_BC.clamp(min=0)], dim=1),
                log_weight_BC=F.pad(log_weight_BC.masked_fill(none_BC, -torch.inf), (1, 0)),
            )

    def scores(self, ranker: Ranker, batch: RerankBatch) -> Tensor:
        """Return the scores [B, C]; every distinct item of the batch is encoded once, positives without their own event."""
        view, towers = batch.view, self._towers
        query_BQ, item_BN = view.encoded.query_PQ[batch.row_B], batch.item_BC[:, 1:]
        dot_BN = torch.einsum("bq,bnq->bn", query_BQ, towers.vectors_NQ[item_BN])
        dot_BC = torch.cat([view.dot_P[batch.row_B][:, None], dot_BN], dim=1)
        items, row_BN = torch.unique(item_BN, return_inverse=True)
        item_states_XW = ranker.item_state(torch.cat([view.unit_PD[batch.row_B], towers.unit_ND[items]]))
        B = len(batch.row_B)
        row_BC = torch.cat([torch.arange(B, device=towers.device)[:, None], row_BN + B], dim=1)
        scores: Tensor = ranker(ranker.user_state(view.encoded.histories(batch.row_B)), item_states_XW[row_BC], dot_BC)
        return scores


def _optimizer(module: nn.Module, settings: RerankTraining) -> torch.optim.AdamW:
    decay = [p for p in module.parameters() if p.ndim >= 2]
    plain = [p for p in module.parameters() if p.ndim < 2]
    groups = [{"params": decay, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS)
