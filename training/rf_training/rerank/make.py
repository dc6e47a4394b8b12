"""From a configuration to a re-ranker."""

from rf_platform.errors import ConfigError
from rf_training.rerank.config import RankerKind, RerankConfig
from rf_training.rerank.dot import DotProduct
from rf_training.rerank.lime_mha import LimeMha
from rf_training.rerank.lime_xor import LimeXor
from rf_training.rerank.ranker import Ranker
from rf_training.rerank.target_attention import TargetAttention, TruncatedAttention

_RANKERS: dict[RankerKind, type[Ranker]] = {
    each.kind: each for each in (LimeMha, LimeXor, TargetAttention, TruncatedAttention, DotProduct)
}


def make_ranker(config: RerankConfig, dim: int) -> Ranker:
    """Return a new re-ranker for towers of width ``dim``; its parameters depend on torch's seed.

    Raises:
        ConfigError: the width is no multiple of the number of heads.
    """
    if dim % config.heads:
        raise ConfigError(f"rerank.heads={config.heads} must divide the width of the towers, model.dim={dim}")
    return _RANKERS[config.kind](config, dim)
