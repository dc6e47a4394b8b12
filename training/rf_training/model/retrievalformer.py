"""RetrievalFormer: two towers over shared features, one space.

Shapes: N items, V interactions (all users' one after the other), B users, T longest history, R positions read, D width.
"""

from collections.abc import Iterable, Mapping, Set

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rf_platform.errors import ConfigError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import ITEM_ID_DOMAIN, FieldSpec, Side
from rf_training.model.config import ModelConfig
from rf_training.model.embeddings import FeatureEmbeddings
from rf_training.model.fusion import make_fusion
from rf_training.model.goals import Goals, goal_names
from rf_training.model.inputs import Embedded, FeatureTensors
from rf_training.model.tokens import FeatureTokens
from rf_training.model.user_tower import UserTower


class RetrievalFormer(nn.Module):
    """Item tower (Eq. 5), interaction fusion (Eq. 6-7) and user tower (Eq. 8) over shared embedding tables.

    The same item tower makes the candidate's vector and the item part of an interaction, so every distinct item of a batch
    is encoded once. Built from a :class:`FeatureEncoder` alone: a new feature in the store is a new token here.

    Args:
        config: size and shape.
        encoder: features, and the rows of their vocabularies.
        sharded: domains with tables spread over processes, in training only.
    """

    def __init__(self, config: ModelConfig, encoder: FeatureEncoder, sharded: Set[str] = frozenset()) -> None:
        super().__init__()
        self.config = config
        spec = encoder.spec
        inputs = {"item": spec.inputs("item"), "user": spec.inputs("user")}
        inputs["context"] = spec.inputs("context") if config.context else ()
        domains: dict[str, str] = {}
        rates: dict[str, float] = {}
        for fields in inputs.values():
            for f in fields:
                if f.domain is not None:
                    domains[f.name], rates[f.name] = f.domain, config.feature_noise
        semantic = [domain.name for domain in spec.semantic_domains][: config.semantic_ids]
        extra = {ITEM_ID_DOMAIN: config.item_id_noise} if config.item_id else {}
        extra |= dict.fromkeys(semantic, config.feature_noise)
        for name, rate in extra.items():
            domains[name], rates[name] = name, rate
        rows = {name: v.rows for name, v in encoder.vocabularies.items()}
        dims = dict.fromkeys(domains.values(), config.feature_dim or config.dim)
        dims[ITEM_ID_DOMAIN] = config.dim
        self.embeddings = FeatureEmbeddings(
            domains, rows, dims, rates, config.share_domains, config.bag_pooling, sharded
        )
        if not config.item_id and not inputs["item"]:
            raise ConfigError(
                f"service '{spec.service}' has no item features and the recipe has model.item_id=false: items would be all alike"
            )
        self.item_tokens = _tokens(inputs["item"], encoder.widths, dims, config, extra)
        self.user_tokens = _tokens(inputs["user"], encoder.widths, dims, config)
        self.context_tokens = _tokens(inputs["context"], encoder.widths, dims, config)
        fusion = (config.fusion, config.dim, config.fusion_heads, config.fusion_ffn, config.dropout)
        counts = (self.item_tokens.count, 1 + self.context_tokens.count, self.user_tokens.count)
        self.item_fusion, self.interaction_fusion, self.profile_fusion = (make_fusion(*fusion, n) for n in counts)
        # Without sharing, the items of a history are encoded by tables of their own (R4, the ablation).
        self.history_items = None if config.share_domains else _ItemSide(config, encoder, rows, dims, extra, sharded)
        self.interaction_gate = nn.Parameter(torch.ones(()))
        self.item_bias = nn.Linear(config.dim, 1) if config.item_bias else None
        if self.item_bias is not None:
            nn.init.zeros_(self.item_bias.weight)
            nn.init.zeros_(self.item_bias.bias)
        self.user_tower = UserTower(config)
        self.goals = Goals(goal_names(encoder), config.dim) if config.goals else None
        """Types of events that queries may be conditioned on; None in a model without."""
        times = [f.name for f in inputs["context"] if f.kind == "timestamp"]
        self.time = times[0] if times and self.user_tower.reads_time else None
        """The feature with the times of interactions, where the user tower reads them."""
        self.cold_shift: Tensor
        self.register_buffer("cold_shift", torch.zeros(()))  # set after training, see rf_training.cold

    @property
    def device(self) -> torch.device:
        """Device of the model; inputs have to be there."""
        return self.interaction_gate.device

    def side(self, side: Side) -> FeatureTokens:
        """Return the tokens of one side."""
        tokens: FeatureTokens = getattr(self, f"{side}_tokens")
        return tokens

    def embed(self, sides: Mapping[Side, FeatureTensors]) -> dict[str, Embedded]:
        """Look up the categorical features of all three sides in one call; sides not given are empty."""
        full: dict[Side, FeatureTensors] = {
            side: sides[side] if side in sides else _empty(self.side(side), self.device)
            for side in ("item", "user", "context")
        }
        embedded: dict[str, Embedded] = self.embeddings({k: _only(v, self.side(k)) for k, v in full.items()})
        return embedded

    def encode_items(self, items: FeatureTensors, embedded: Mapping[str, Embedded] | None = None) -> Tensor:
        """Return the item tower's output [N, D] (Eq. 5, R5), not normalised: what an interaction token is made of."""
        embedded = embedded if embedded is not None else self.embed({"item": items})
        h_ND: Tensor = self.item_fusion(*self.item_tokens(items, embedded))
        return h_ND

    def encode_history_items(self, items: FeatureTensors, h_ND: Tensor) -> Tensor:
        """Return what stands for items in histories [N, D]: the item tower's output, unless the towers do not share tables.

        Args:
            items: the items.
            h_ND: their output of the item tower.
        """
        if self.history_items is None:
            return h_ND
        found_ND: Tensor = self.history_items(items)
        return found_ND

    def encode_interactions(
        self, h_VD: Tensor, context: FeatureTensors, embedded: Mapping[str, Embedded] | None = None
    ) -> Tensor:
        """Return interaction tokens [V, D] from item vectors and their context (Eq. 7, R6).

        The fused token is added to the item's vector through a gate that starts open. One that starts closed hides the context
        from the loss, and what would have opened it is not learned.
        """
        if self.context_tokens.count == 0:
            return h_VD
        embedded = embedded if embedded is not None else self.embed({"context": context})
        tokens_VMD, present_VM = self.context_tokens(context, embedded)
        tokens_VMD = torch.cat([h_VD.unsqueeze(1), tokens_VMD], dim=1)
        present_VM = F.pad(present_VM, (1, 0), value=True)
        z_VD: Tensor = h_VD + self.interaction_gate * self.interaction_fusion(tokens_VMD, present_VM)
        return z_VD

    def seconds(self, context: FeatureTensors) -> Tensor | None:
        """Return the time that passed before each interaction [V], for :meth:`encode_users`; unknown times count as none.

        None where interactions have no times, or the user tower reads none.
        """
        if self.time is None:
            return None
        return seconds_of(context.numbers[self.time])

    def encode_profiles(self, users: FeatureTensors, embedded: Mapping[str, Embedded] | None = None) -> Tensor:
        """Return profile vectors [B, D]; a user without any known feature gets a learned vector."""
        if self.user_tokens.count == 0:
            return self.profile_fusion.empty_D.expand(users.rows, -1)
        embedded = embedded if embedded is not None else self.embed({"user": users})
        p_BD: Tensor = self.profile_fusion(*self.user_tokens(users, embedded))
        return p_BD

    def encode_users(
        self,
        z_VD: Tensor,
        length_B: Tensor,
        profile_BRD: Tensor,
        read_BR: Tensor | None = None,
        longest: int | None = None,
        seconds_V: Tensor | None = None,
        goal_BRG: Tensor | None = None,
    ) -> Tensor:
        """Return the user tower's output [B, R, D] (Eq. 8, R7), not normalised.

        Args:
            z_VD: interaction tokens of all users, oldest first, one user after the other.
            length_B: interactions of each user, at most ``config.max_history``.
            profile_BRD: profile at each position read.
            read_BR: positions to read; default: after the last interaction, R = 1.
            longest: the largest of ``length_B``, where it is known: a device would have to be waited for to tell.
            seconds_V: of :meth:`seconds`, for the same interactions.
            goal_BRG: weights over goals at each position read; None for those of a request that names none.
        """
        assert (seconds_V is None) == (self.time is None), "seconds are those that RetrievalFormer.seconds gives"
        if read_BR is None:
            read_BR = (length_B - 1)[:, None]
        if longest is None:
            longest = int(length_B.max()) if len(length_B) else 0
        B, T = len(length_B), max(1, longest)
        row_B = torch.arange(B, device=z_VD.device)
        row_V = torch.repeat_interleave(row_B, length_B, output_size=len(z_VD))
        start_B = length_B.cumsum(0) - length_B
        column_V = torch.arange(len(z_VD), device=z_VD.device) - start_B[row_V]
        z_BTD = z_VD.new_zeros(B, T, z_VD.shape[1]).index_put((row_V, column_V), z_VD)
        seconds_BT = None
        if seconds_V is not None:
            seconds_BT = seconds_V.new_zeros(B, T).index_put((row_V, column_V), seconds_V).cumsum(1)
        goal_BRD = None if self.goals is None else self.goals(goal_BRG)
        u_BRD: Tensor = self.user_tower(z_BTD, length_B, profile_BRD, read_BR, seconds_BT, goal_BRD)
        return u_BRD

    def bias(self, h_ND: Tensor) -> Tensor | None:
        """Return the learned bias [N] of items, on the scale of a cosine; None in a model without.

        It is read off the item tower's output, so that an item without an id of its own has one too, from its features.
        """
        return None if self.item_bias is None else self.item_bias(h_ND).squeeze(1)

    @property
    def biased(self) -> bool:
        """Whether scores have a part that depends on the item alone, served as one more dimension."""
        return self.item_bias is not None or float(self.cold_shift) != 0

    def candidate_vectors(self, h_ND: Tensor, cold_N: Tensor | None = None) -> Tensor:
        """Return the vectors that are indexed [N, D], or [N, D + 1] with a bias: the score is their dot product with a query.

        Args:
            h_ND: output of the item tower.
            cold_N: bool, items that training never met: their scores are raised by ``cold_shift``; None for none of them.
        """
        y_ND, bias_N = F.normalize(h_ND, dim=-1), self.bias(h_ND)
        if not self.biased:
            return y_ND
        bias_N = h_ND.new_zeros(len(h_ND)) if bias_N is None else bias_N
        if cold_N is not None:
            bias_N = bias_N + self.cold_shift * cold_N
        return torch.cat([y_ND, bias_N[:, None]], dim=1)

    def query_vectors(self, u_BD: Tensor) -> Tensor:
        """Return the vectors to search with, of the width of :meth:`candidate_vectors`, from the user tower's output [..., D]."""
        x_BD = F.normalize(u_BD, dim=-1)
        return F.pad(x_BD, (0, 1), value=1.0) if self.biased else x_BD


def seconds_of(gap_V: Tensor) -> Tensor:
    """Return the seconds [V], float64, of gaps as :func:`rf_platform.features.encode.time_gaps` encodes them."""
    return torch.expm1(10 * gap_V.double()).nan_to_num()


class _ItemSide(nn.Module):
    """Tables, tokens and fusion of items in histories, in a model with towers that share none."""

    def __init__(
        self,
        config: ModelConfig,
        encoder: FeatureEncoder,
        rows: Mapping[str, int],
        dims: Mapping[str, int],
        extra: Mapping[str, float],
        sharded: Set[str],
    ) -> None:
        super().__init__()
        fields = encoder.spec.inputs("item")
        domains = {name: name for name in extra} | {f.name: f.domain for f in fields if f.domain is not None}
        rates = {name: extra.get(name, config.feature_noise) for name in domains}
        self.embeddings = FeatureEmbeddings(domains, rows, dims, rates, False, config.bag_pooling, sharded)
        self.tokens = _tokens(fields, encoder.widths, dims, config, extra)
        self.fusion = make_fusion(
            config.fusion, config.dim, config.fusion_heads, config.fusion_ffn, config.dropout, self.tokens.count
        )

    def forward(self, items: FeatureTensors) -> Tensor:
        """Return the items' vectors [N, D]."""
        embedded = self.embeddings({"item": _only(items, self.tokens)})
        h_ND: Tensor = self.fusion(*self.tokens(items, embedded))
        return h_ND


def _tokens(
    fields: tuple[FieldSpec, ...],
    widths: Mapping[str, int],
    dims: Mapping[str, int],
    config: ModelConfig,
    extra: Iterable[str] = (),
) -> FeatureTokens:
    ids = {name: dims[name] for name in extra}
    return FeatureTokens(
        ids=ids | {f.name: dims[f.domain] for f in fields if f.domain is not None},
        numbers=[f.name for f in fields if f.kind in ("numeric", "timestamp")],
        vectors={f.name: widths[f.name] for f in fields if f.kind in ("vector", "text")},
        dim=config.dim,
        project=config.fusion != "mean",
    )


def _empty(tokens: FeatureTokens, device: torch.device) -> FeatureTensors:
    none = (torch.zeros(0, dtype=torch.int64, device=device), torch.zeros(0, dtype=torch.int32, device=device))
    return FeatureTensors(rows=0, ids=dict.fromkeys(tokens.ids, none), numbers={}, vectors={})


def _only(features: FeatureTensors, tokens: FeatureTokens) -> FeatureTensors:
    """Drop ids that the model does not use, such as the item id in a model without it."""
    return FeatureTensors(features.rows, {key: features.ids[key] for key in tokens.ids}, {}, {})
