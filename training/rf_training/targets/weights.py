"""Weights of targets: how much the loss and the validation metric of each event count, with a mean of 1 over the training events.

They come from the weights that the dataset declares (:mod:`rf_platform.features.event_weights`) or from those of a run. What
is compared with a run of other weights has to be weighed alike, so the mean is taken out: learning rates keep their meaning.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import numpy.typing as npt

from rf_platform.dataset import Dataset
from rf_platform.dataset.dataset import Sequences
from rf_platform.dataset.protocols import TRAIN
from rf_platform.dataset.user_chunks import release, user_chunks
from rf_platform.errors import ConfigError
from rf_platform.features.event_weights import EventWeights, weighing_field
from rf_training.targets.event_types import EventTypes

_WeightOf = Callable[[npt.NDArray[np.int64] | slice], npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class TargetWeights:
    """Weight of every event of a dataset as a target."""

    said: EventWeights
    """The weights as they are declared."""
    raw: _WeightOf
    """Weights of some events, as declared; NaN where an event has no number."""
    mean: float
    """Mean of the training events that have a weight."""

    @classmethod
    def of(cls, dataset: Dataset, said: EventWeights | None) -> "TargetWeights | None":
        """Return the weights of a dataset's targets; None where all of its training events weigh the same.

        Args:
            dataset: a dataset version.
            said: weights that are declared or asked for; None for none.

        Raises:
            ConfigError: the dataset's history has no such types or numbers, a number is negative, or nothing weighs anything.
        """
        if said is None:
            return None
        raw = _by_column(dataset, said) if said.column is not None else _by_type(dataset, said)
        count, total, least, most = 0, 0.0, np.inf, -np.inf
        for chunk in user_chunks(dataset.sequences.offsets):
            split = np.asarray(dataset.sequences.split[chunk.events])
            known = raw(chunk.events)[split == TRAIN]
            known = known[~np.isnan(known)]
            if len(known):
                count, total = count + len(known), total + float(known.sum(dtype=np.float64))
                least, most = min(least, float(known.min())), max(most, float(known.max()))
            release(dataset.sequences.split, dataset.sequences.context, dataset.sequences.context_numbers)
        if least < 0 or not np.isfinite(total):
            raise ConfigError(
                f"the weights by {said.column!r} are from {least:g} to {most:g} in the training events of dataset "
                f"'{dataset.name}', and a weight is a number of 0 or more; weigh by another column, or train with "
                f"train.weigh_by=equal"
            )
        if not total:
            raise ConfigError(
                f"by the weights {said} no training event of dataset '{dataset.name}' weighs anything; give a type that it has "
                f"a weight, or train with train.weigh_by=equal"
            )
        return None if least == most else cls(said, raw, total / count)

    def __call__(self, events: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return the weights of some events; one without a number weighs as much as the mean."""
        weights: npt.NDArray[np.float32] = self.raw(events) / np.float32(self.mean)
        return np.nan_to_num(weights, nan=1.0)


def _by_type(dataset: Dataset, said: EventWeights) -> _WeightOf:
    weighing_field(dataset.spec, said)
    types = EventTypes.of(dataset)
    assert types is not None
    weights = dict(said.types)
    by_code = np.array([weights.get(name, 1.0) for name in types.names], np.float32)
    by_context = by_code[types.code_of_context]
    return lambda events: by_context[np.asarray(types.context[events])]


def _by_column(dataset: Dataset, said: EventWeights) -> _WeightOf:
    field = weighing_field(dataset.spec, said)
    numeric = [f.name for f in dataset.spec.inputs("context") if f.kind == "numeric"]
    column = numeric.index(field.name)
    log: Sequences = dataset.sequences
    return lambda events: np.asarray(log.context_numbers[events, column], np.float32)


def check_types(dataset: Dataset, names: Collection[str]) -> None:
    """Check that some events of a dataset are of every type that a run names.

    Raises:
        ConfigError: none is of one of them.
    """
    types = EventTypes.of(dataset)
    for name in names:
        if types is None or name not in types.names:
            known = () if types is None else types.names
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'no types'}"
            raise ConfigError(
                f"train.event_weights.{name}: no event of dataset '{dataset.name}' is of that type; {hint}"
            )
