"""The forward pass of a training step: from a batch to the loss."""

import torch
from torch.nn import functional as F

from rf_training import loss
from rf_training.config import TrainConfig
from rf_training.loading.batches import Batch
from rf_training.loss import LossTerms
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.precision import product_dtype


def batch_loss(model: RetrievalFormer, batch: Batch, train: TrainConfig) -> LossTerms:
    """Encode each distinct item, context and profile once, read every position, and score it against the candidates."""
    product = product_dtype(train.precision)
    embedded = model.embed(batch.sides)
    h_ND = model.encode_items(batch.sides["item"], embedded)
    context = {key: embedded[key].take(batch.context_V) for key in model.context_tokens.ids}
    history_ND = model.encode_history_items(batch.sides["item"], h_ND)
    z_VD = model.encode_interactions(history_ND[batch.item_V], batch.numbers, context)
    p_PD = model.encode_profiles(batch.sides["user"], embedded)
    with torch.autocast("cpu", torch.bfloat16, enabled=product is torch.bfloat16):
        u_BRD = model.encode_users(z_VD, batch.length_B, p_PD[batch.profile_BR], batch.read_BR)
    u_QD = u_BRD[batch.real_BR].float()
    v_CD = h_ND[batch.candidate_C]
    x_QD, y_CD, bias_C = F.normalize(u_QD, dim=-1), F.normalize(v_CD, dim=-1), model.bias(v_CD)
    if train.objective == "full":
        total = loss.full_softmax(x_QD, y_CD, bias_C, batch.target_Q, train.temperature, train.label_smoothing, product)
    else:
        total = loss.info_nce(
            x_QD,
            y_CD,
            bias_C,
            batch.target_Q,
            batch.hit_QC,
            batch.log_weight_C,
            train.temperature,
            train.hard_negatives,
        )
    if train.uniformity_weight:
        total = total + train.uniformity_weight * loss.uniformity_of(y_CD)
    if train.norm_penalty:
        total = total + train.norm_penalty * loss.norm_penalty(u_QD, v_CD)
    if train.variance_penalty:
        total = total + train.variance_penalty * loss.variance_penalty(y_CD)
    with torch.no_grad():
        return LossTerms(
            loss=total,
            alignment=loss.alignment(x_QD, y_CD, batch.target_Q),
            uniformity=loss.uniformity(x_QD, y_CD),
        )
