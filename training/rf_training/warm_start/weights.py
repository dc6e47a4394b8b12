"""A trained model's weights, carried over to a model over a newer dataset's features.

Tables grow at their end: a known value's row is where it was, and a new value starts as the unknown one. Everything that belongs
to a feature goes by the feature's name, so that a feature more or less does not move the others.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_training.model.embeddings import FeatureEmbeddings
from rf_training.model.fusion import ConcatFusion
from rf_training.model.retrievalformer import RetrievalFormer
from rf_training.model.tokens import FeatureTokens

_TABLES = ".embedding_bags."
_LAST_INTERACTION = "the item"
"""First token of an interaction: the item's vector, which is no feature."""


def carry_over(weights: Mapping[str, Tensor], before: RetrievalFormer, after: RetrievalFormer) -> dict[str, Tensor]:
    """Return the state of ``after``, made from the trained weights of ``before``.

    A feature that ``before`` did not have starts with embeddings and projections of zero, so that it says nothing yet. Items
    are no longer told apart as cold or known: the shift for cold items belongs to the data it was calibrated on.

    Args:
        weights: state of the trained model; may be memory-mapped.
        before: a model of its configuration and encoder; only shapes are looked at, so it may be on ``meta``.
        after: a model of the same configuration and the grown encoder; the same.
    """
    known, wanted = _Names(before), _Names(after)
    state = {}
    for name, parameter in after.state_dict().items():
        source = known.name_of(wanted.alias_of(name))
        old = None if source is None else weights[source]
        if name == "cold_shift":
            state[name] = torch.zeros(())
        elif name in wanted.rows:
            places = {label: row for row, label in enumerate(known.rows[source])} if source is not None else {}
            state[name] = _by_label(wanted.rows[name], places, old, _fresh(name, parameter))
        elif _TABLES in name:
            state[name] = torch.zeros(parameter.shape) if old is None else _longer(old, len(parameter))
        elif old is None:
            state[name] = _fresh(name, parameter)
        else:
            assert old.shape == parameter.shape, name
            state[name] = old.clone()
    return state


class _Names:
    """Dependence of a model's parameters on its features."""

    def __init__(self, model: RetrievalFormer) -> None:
        self.rows: dict[str, tuple[str, ...]] = {}
        """Feature of each row of a parameter, for parameters that have a row for every feature."""
        self._aliases: dict[str, str] = {}
        """Another name for parameters in a list with an entry for every feature: by the feature, not by its place."""
        for path, module in model.named_modules():
            if isinstance(module, FeatureTokens):
                self._tokens(path, module)
            elif isinstance(module, FeatureEmbeddings) and module.query_FD is not None:
                self.rows[f"{path}.query_FD"] = tuple(module.keys)
        if model.goals is not None:
            self.rows |= dict.fromkeys(("goals.goal_GD", "goals.mix_G"), model.goals.names)
        own = model.history_items
        for path, fusion, labels in (
            ("item_fusion", model.item_fusion, _labels(model.item_tokens)),
            ("interaction_fusion", model.interaction_fusion, (_LAST_INTERACTION, *_labels(model.context_tokens))),
            ("profile_fusion", model.profile_fusion, _labels(model.user_tokens)),
            *([("history_items.fusion", own.fusion, _labels(own.tokens))] if own is not None else []),
        ):
            if isinstance(fusion, ConcatFusion):
                self.rows |= {f"{path}.absent_MD": labels, f"{path}.weight_MDD": labels}
        self._named = {self.alias_of(name): name for name in model.state_dict()}

    def _tokens(self, path: str, tokens: FeatureTokens) -> None:
        self.rows |= {
            f"{path}.weight_FDD": tuple(tokens.full),
            f"{path}.number_weight_FD": tuple(tokens.numbers),
            f"{path}.bias_MD": _labels(tokens),
        }
        self._aliases |= {f"{path}.resize.{i}": f"{path}.resize[{key}]" for i, key in enumerate(tokens.other)}
        self._aliases |= {
            f"{path}.projections.{i}.weight": f"{path}.projections[{key}]" for i, key in enumerate(tokens.vectors)
        }

    def alias_of(self, name: str) -> str:
        """Return a name for the parameter that does not depend on the places of features."""
        return self._aliases.get(name, name)

    def name_of(self, alias: str) -> str | None:
        """Return the parameter of this model that has an alias, or None if it has no such one."""
        return self._named.get(alias)


def _labels(tokens: FeatureTokens) -> tuple[str, ...]:
    return (*tokens.ids, *tokens.numbers, *tokens.vectors)


def _longer(old: Tensor, rows: int) -> Tensor:
    assert len(old) <= rows, "id maps never lose a value"
    new = torch.empty(rows, *old.shape[1:], dtype=old.dtype)
    new[: len(old)] = old
    new[len(old) :] = old[UNKNOWN_ID]
    return new


def _by_label(labels: tuple[str, ...], places: Mapping[str, int], old: Tensor | None, fresh: Tensor) -> Tensor:
    new = fresh.clone()
    for row, label in enumerate(labels):
        if old is not None and label in places:
            kept = old[places[label]]
            # A row of the attention queries is as long as the widest table, and that one may be new or gone.
            new[row, : len(kept)] = kept[: new.shape[1]]
    return new


def _fresh(name: str, parameter: Tensor) -> Tensor:
    """Return what a feature without a history starts with: the identity where embeddings are projected, else zero."""
    kind = name.rpartition(".")[2]
    shape = parameter.shape
    if kind == "weight_FDD":
        return torch.eye(shape[1]).repeat(shape[0], 1, 1)
    if kind == "weight_MDD":
        return torch.eye(shape[1]).repeat(shape[0], 1, 1) / max(1, shape[0])
    if ".resize." in name:
        return torch.eye(*shape)
    return torch.zeros(shape)
