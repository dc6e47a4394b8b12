"""The forward pass of a training step: from a batch to the loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_training import loss
from rf_training.config import TrainConfig
from rf_training.device import product_dtype, products
from rf_training.distributed.process_group import World
from rf_training.loading.batches import Batch
from rf_training.loss import LossTerms
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.objective import LOSSES, Contrast


class TrainingStep(nn.Module):
    """:func:`batch_loss` as a module, for wrappers that spread its model over processes."""

    def __init__(self, model: RetrievalFormer, train: TrainConfig, world: World) -> None:
        super().__init__()
        self.model, self._train, self._world = model, train, world

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return the :class:`LossTerms` of this process's part of a step, as the tuple that DDP can look into."""
        terms = batch_loss(self.model, batch, self._train, self._world)
        return terms.loss, terms.alignment, terms.uniformity


def batch_loss(model: RetrievalFormer, batch: Batch, train: TrainConfig, world: World | None = None) -> LossTerms:
    """Encode each distinct item, context and profile once, read every position, and score it against the candidates.

    Where several processes share a step, each encodes a part of its candidates and all score against all of them. The sum of
    their losses is the loss of the step, however many they are.
    """
    world = world or World()
    product = product_dtype(train.precision, batch.read_BR.device)
    embedded = model.embed(batch.sides)
    h_ND = model.encode_items(batch.sides["item"], embedded)
    context = {key: embedded[key].take(batch.context_V) for key in model.context_tokens.ids}
    history_ND = model.encode_history_items(batch.sides["item"], h_ND)
    z_VD = model.encode_interactions(history_ND[batch.item_V], batch.numbers, context)
    p_PD = model.encode_profiles(batch.sides["user"], embedded)
    goal_BRG = None
    if model.goals is not None:
        goal_PG = batch.goal_QG.new_zeros(batch.read_BR.numel(), len(model.goals.names))
        goal_BRG = goal_PG.index_copy(0, batch.place_Q, batch.goal_QG).view(*batch.read_BR.shape, -1)
    with products(z_VD.device, product):
        u_BRD = model.encode_users(
            z_VD,
            batch.length_B,
            p_PD[batch.profile_BR],
            batch.read_BR,
            batch.longest,
            model.seconds(batch.numbers),
            goal_BRG,
        )
    u_QD = u_BRD.flatten(0, 1)[batch.place_Q].float()
    v_CD = world.gather(h_ND[batch.candidate_C], batch.candidates)
    x_QD, y_CD, bias_C = F.normalize(u_QD, dim=-1), F.normalize(v_CD, dim=-1), model.bias(v_CD)
    full = train.objective == "full"
    total = LOSSES[train.loss](
        Contrast(
            queries_QD=x_QD,
            candidates_CD=y_CD,
            bias_C=bias_C,
            target_Q=batch.target_Q,
            weight_Q=batch.weight_Q if len(batch.weight_Q) else None,
            item_C=None if full else batch.item_C,
            log_weight_C=None if full else batch.log_weight_C,
            window_Q=batch.place_Q // batch.read_BR.shape[1] if train.mask_own_positives else None,
            windows=len(batch.read_BR),
            temperature=train.temperature,
            label_smoothing=train.label_smoothing,
            hard_negatives=train.hard_negatives,
            product=product,
        )
    )
    # Means over queries count by the share of them that is here; those over candidates are the same on every process.
    weight, part = batch.weight, 1 / world.size
    total = weight * total
    if train.unwanted_weight and len(batch.unwanted_U):
        total = total + weight * train.unwanted_weight * _unwanted(model, batch, h_ND, x_QD, y_CD, bias_C, train)
    if train.uniformity_weight:
        total = total + part * train.uniformity_weight * loss.uniformity_of(y_CD)
    if train.norm_penalty:
        total = total + train.norm_penalty * loss.norm_penalty(u_QD, v_CD, weight, part)
    if train.variance_penalty:
        total = total + part * train.variance_penalty * loss.variance_penalty(y_CD)
    with torch.no_grad():
        return LossTerms(
            loss=total,
            alignment=weight * loss.alignment(x_QD, y_CD, batch.target_Q),
            uniformity=part * loss.uniformity(x_QD, y_CD),
        )


def _unwanted(
    model: RetrievalFormer,
    batch: Batch,
    h_ND: Tensor,
    x_QD: Tensor,
    y_CD: Tensor,
    bias_C: Tensor | None,
    train: TrainConfig,
) -> Tensor:
    """Return the part of the loss that explicit negatives have in the mean over all queries, with either objective."""
    v_UD, x_UD, own_U = h_ND[batch.unwanted_U], x_QD[batch.refusing_U], batch.target_Q[batch.refusing_U]
    target_U = (x_UD * y_CD[own_U]).sum(1)
    if bias_C is not None:
        target_U = target_U + bias_C[own_U]
    weight_U = batch.weight_Q[batch.refusing_U] if len(batch.weight_Q) else None
    total = loss.unwanted_loss(x_UD, F.normalize(v_UD, dim=-1), model.bias(v_UD), target_U, train.temperature, weight_U)
    return total / len(x_QD)
