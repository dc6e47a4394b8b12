"""Shared embedding tables of all categorical features, on TorchRec, behind feature noising.

Noising makes known values the unknown token, so that its embedding learns to stand for anything (R10, R11).

Shapes: S rows of the longest side, F features, D width (of the widest table), V looked-up values.
"""

from collections.abc import Mapping, Set

import torch
from torch import Tensor, nn
from torchrec.modules.embedding_configs import EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor, KeyedTensor

from rf_platform.errors import ConfigError
from rf_platform.features.spec import Side
from rf_platform.features.vocabulary import PADDING_ID, UNKNOWN_ID
from rf_training.model.config import BagPooling
from rf_training.model.inputs import Embedded, FeatureTensors


class FeatureNoising(nn.Module):
    """Replaces each categorical value by the unknown id with its feature's probability, in training only (Alg. 1, Eq. 12).

    Works on the ids in front of the look-up: lengths and offsets never change and padding is never touched.
    """

    def __init__(self, rates: dict[str, float]) -> None:
        super().__init__()
        self.keys = list(rates)
        self.register_buffer(
            "rate_F", torch.tensor([rates[k] for k in self.keys], dtype=torch.float32), persistent=False
        )

    def forward(self, features: KeyedJaggedTensor) -> KeyedJaggedTensor:
        """Return the features with noised ids; the same object in evaluation mode."""
        if not self.training:
            return features
        assert features.keys() == self.keys
        values: Tensor = features.values()
        counts = features.length_per_key()
        rates = torch.split(self.get_buffer("rate_F"), 1)
        rate_V = torch.cat([rate.expand(count) for rate, count in zip(rates, counts, strict=True)])
        noised = (torch.rand_like(rate_V) < rate_V) & (values != PADDING_ID)
        return KeyedJaggedTensor(
            keys=features.keys(),
            values=torch.where(noised, torch.full_like(values, UNKNOWN_ID), values),
            lengths=features.lengths(),
            stride=features.stride(),
            length_per_key=counts,
        )


INIT_STD = 0.02
PREFIX = "domain_"


class WholeTables(EmbeddingBagCollection):  # type: ignore[misc]
    """Tables that every process has a copy of."""

    def look_up(self, ids: KeyedJaggedTensor, rows: Mapping[str, int]) -> dict[str, Tensor]:
        """Return what the collection returns, by feature, and of each feature the first ``rows`` only.

        The rows that fill a shorter side up are never made, and features are not laid side by side only to be parted again: with
        a large catalog in the batch that would be most of what a look-up costs.
        """
        bags, weighted = ids.to_dict(), self.is_weighted()
        return {
            key: table(
                input=bags[key].values(),
                offsets=bags[key].offsets()[: rows[key] + 1],
                per_sample_weights=bags[key].weights() if weighted else None,
            )
            for table, config in zip(self.embedding_bags.values(), self.embedding_bag_configs(), strict=True)
            for key in config.feature_names
        }


class ShardedTables(EmbeddingBagCollection):  # type: ignore[misc]
    """Tables that no process has as a whole: on the meta device until ``DistributedModelParallel`` spreads them.

    A type of its own tells them from the tables that every process has a copy of.
    """


class FeatureEmbeddings(nn.Module):
    """One ``EmbeddingBagCollection`` over all domains (R1, R4), with the noising module in front of it (R11).

    In training by several processes some of the tables may be spread over them, in a second collection.

    A feature with several values is pooled by their mean, their sum, or by attention: a learned query per feature scores every
    value, and the softmax over the bag weighs them. Items, users and interactions are looked up in one call: a
    ``KeyedJaggedTensor`` needs one number of rows, so the shorter sides are filled up with empty rows.

    Args:
        features: embedding domain of every feature, by full name.
        rows: rows of every domain's table.
        dims: width of every domain's table, and of the features of that domain.
        rates: noising rate of every feature.
        share: one table per domain, or one per feature.
        pooling: how the values of a bag become one vector.
        sharded: domains with tables spread over processes; without weights until they are.

    Raises:
        ConfigError: ``sharded`` is not possible with this ``pooling`` or these ``dims``.
    """

    def __init__(
        self,
        features: Mapping[str, str],
        rows: Mapping[str, int],
        dims: Mapping[str, int],
        rates: Mapping[str, float],
        share: bool,
        pooling: BagPooling = "mean",
        sharded: Set[str] = frozenset(),
    ) -> None:
        super().__init__()
        tables: dict[str, list[str]] = {}
        for feature, domain in features.items():
            tables.setdefault(domain if share else feature, []).append(feature)
        self.keys = [feature for names in tables.values() for feature in names]
        self.table_of = {feature: table_name(table) for table, names in tables.items() for feature in names}
        kind = PoolingType.MEAN if pooling == "mean" else PoolingType.SUM
        configs = [
            EmbeddingBagConfig(
                name=table_name(table),
                num_embeddings=rows[features[names[0]]],
                embedding_dim=dims[features[names[0]]],
                feature_names=names,
                pooling=kind,
                init_fn=_init,
            )
            for table, names in tables.items()
        ]
        spread = [c for c in configs if features[c.feature_names[0]] in sharded]
        _check(spread, pooling)
        whole = [c for c in configs if c not in spread]
        self.collection = WholeTables(tables=whole, is_weighted=pooling == "attention")
        self.sharded = ShardedTables(tables=spread, device=torch.device("meta")) if spread else None
        # Where their features stand among all: each collection looks its own up.
        self._whole, self._spread = (
            [self.keys.index(k) for c in some for k in c.feature_names] for some in (whole, spread)
        )
        self.noising = FeatureNoising({key: rates[key] for key in self.keys})
        widest = max(
            (dims[domain] for domain in features.values()), default=0
        )  # a row of the queries is as long as the widest table; others use its start
        self.query_FD = nn.Parameter(torch.zeros(len(self.keys), widest)) if pooling == "attention" else None

    def forward(self, sides: Mapping[Side, FeatureTensors]) -> dict[str, Embedded]:
        """Look up all features of all sides; the result is by feature and has the rows of its side."""
        if not self.keys:
            return {}
        # TorchRec parts nothing of no rows: where no side has any, one empty row is looked up and dropped.
        stride = max([1, *(side.rows for side in sides.values())])
        rows = {key: side.rows for side in sides.values() for key in side.ids}
        parts = {key: part for side in sides.values() for key, part in side.ids.items()}
        values = torch.cat([parts[key][0] for key in self.keys])
        lengths = torch.cat([nn.functional.pad(parts[key][1], (0, stride - rows[key])) for key in self.keys])
        counts = [len(parts[key][0]) for key in self.keys]  # else a device is waited for to tell
        ids = self.noising(
            KeyedJaggedTensor(keys=self.keys, values=values, lengths=lengths, stride=stride, length_per_key=counts)
        )
        if self.sharded is None:
            found = self.collection.look_up(ids if self.query_FD is None else self._weigh(ids, self.query_FD), rows)
        else:
            # The sharded look-up is on its way to the other processes while the own one is done.
            spread = self.sharded(ids.permute(self._spread))
            found = self.collection.look_up(ids.permute(self._whole), rows) if self._whole else {}
            found |= _columns(spread)
        return {key: Embedded(found[key][: rows[key]], parts[key][1] > 0) for key in self.keys}

    def _weigh(self, ids: KeyedJaggedTensor, query_FD: Tensor) -> KeyedJaggedTensor:
        """Return the attention weight of every value: softmax over the bag of the value's score for the feature's query."""
        weights: list[Tensor] = []
        for key, query_D in zip(self.keys, query_FD, strict=True):
            bag = ids[key]
            table = self.collection.embedding_bags[self.table_of[key]].weight
            score_V = nn.functional.embedding(bag.values(), table) @ query_D[: table.shape[1]]
            rows_S = torch.arange(len(bag.lengths()), device=bag.lengths().device)
            row_V = torch.repeat_interleave(rows_S, bag.lengths())
            # Per bag the largest score is subtracted; it cancels in the softmax.
            lowest_S = score_V.new_full((len(bag.lengths()),), -torch.inf)
            largest_S = lowest_S.scatter_reduce(0, row_V, score_V.detach(), "amax")
            exp_V = torch.exp(score_V - largest_S[row_V])
            total_S = score_V.new_zeros(len(bag.lengths())).index_add(0, row_V, exp_V)
            weights.append(exp_V / total_S[row_V])
        return KeyedJaggedTensor(
            keys=ids.keys(),
            values=ids.values(),
            lengths=ids.lengths(),
            weights=torch.cat(weights),
            stride=ids.stride(),
            length_per_key=ids.length_per_key(),
        )


def table_name(domain: str) -> str:
    """Return the name of a domain's table; the prefix keeps it apart from the attributes every module has."""
    return f"{PREFIX}{domain}"


def _check(spread: list[EmbeddingBagConfig], pooling: BagPooling) -> None:
    for config in spread:
        domain = config.name.removeprefix(PREFIX)
        if pooling == "attention":
            raise ConfigError(
                f"model.bag_pooling=attention reads the tables themselves, and that of '{domain}' would be spread over "
                f"processes; use mean or sum, or sharding.domains.{domain}=data_parallel"
            )
        if config.embedding_dim % 4:
            raise ConfigError(
                f"the table of '{domain}' is {config.embedding_dim} wide, and sharded tables need a multiple of 4; change "
                f"model.dim or model.feature_dim, or use sharding.domains.{domain}=data_parallel"
            )


def _columns(pooled: KeyedTensor) -> dict[str, Tensor]:
    """Part what was looked up by feature.

    One split: slicing the columns out one by one would cost the backward pass a zero matrix of full width each.
    """
    return dict(zip(pooled.keys(), pooled.values().split(pooled.length_per_key(), dim=1), strict=True))


def _init(weight: Tensor) -> Tensor:
    return nn.init.normal_(weight, std=INIT_STD)
