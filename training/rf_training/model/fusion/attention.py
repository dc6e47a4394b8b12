"""Self-attention over the set of features."""

from torch import Tensor, nn
from torch.nn import functional as F

from rf_training.model.dropout import Dropout
from rf_training.model.fusion.fusion import Fusion
from rf_training.model.fusion.mean import masked_mean


class AttentionFusion(Fusion):
    """Self-attention over the set of features, feed-forward, masked mean-pool (Eq. 2-4, R2); permutation-invariant.

    Both residual branches start at zero, so that training starts from the mean of the normalised features.
    """

    def __init__(self, dim: int, heads: int, ffn: int, dropout: float) -> None:
        super().__init__(dim)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim)
        last = nn.Linear(ffn * dim, dim)
        self.ffn = nn.Sequential(nn.Linear(dim, ffn * dim), nn.GELU(), last)
        self.ffn_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        for branch in (self.out, last):
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    def fuse(self, tokens_RMD: Tensor, present_RM: Tensor) -> Tensor:
        """Return the fused vectors, [R, D]."""
        R, M, D = tokens_RMD.shape
        by_head = (R, M, self.heads, D // self.heads)
        q, k, v = (x.view(by_head).transpose(1, 2) for x in self.qkv(tokens_RMD).chunk(3, dim=-1))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=present_RM[:, None, None, :])
        mixed_RMD = self.out(mixed.transpose(1, 2).reshape(R, M, D))
        z_RMD = self.attention_norm(tokens_RMD + self.dropout(mixed_RMD))
        u_RMD = self.ffn_norm(z_RMD + self.dropout(self.ffn(z_RMD)))
        return masked_mean(u_RMD, present_RM)
