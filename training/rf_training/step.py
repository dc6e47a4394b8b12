"""The forward pass of a training step: from a batch to the loss."""

from rf_training.loading.batches import Batch
from rf_training.loss import LossTerms, info_nce
from rf_training.model.retrievalformer import RetrievalFormer, candidate_vectors


def batch_loss(model: RetrievalFormer, batch: Batch, temperature: float) -> LossTerms:
    """Encode each distinct item, context and profile once, read every position, and score it against the candidates."""
    embedded = model.embed(batch.sides)
    h_ND = model.encode_items(batch.sides["item"], embedded)
    context = {key: embedded[key].take(batch.context_V) for key in model.context_tokens.ids}
    z_VD = model.encode_interactions(h_ND[batch.item_V], batch.numbers, context)
    p_PD = model.encode_profiles(batch.sides["user"], embedded)
    profile_BRD = p_PD[batch.profile_BR]
    x_BRD = model.encode_users(z_VD, batch.length_B, profile_BRD, batch.read_BR)
    return info_nce(
        x_BRD[batch.real_BR],
        candidate_vectors(h_ND[batch.candidate_C]),
        batch.target_Q,
        batch.hit_QC,
        batch.log_weight_C,
        temperature,
    )
