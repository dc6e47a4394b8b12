"""Goals that targets are trained with: weights over the types of events, drawn so that they say how likely the target's type is.

Shapes: Q targets, G goals.
"""

import numpy as np
import numpy.typing as npt

from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import TRAIN
from rf_platform.dataset.user_chunks import release, user_chunks
from rf_platform.features.meanings import EVENT_TYPE
from rf_platform.features.vocabulary import FIRST_ID
from rf_training.targets.weights import TargetWeights

CONCENTRATION = 1.0
"""Sum of the Dirichlet distribution's parameters: 1 spreads the weights from single goals to even mixtures."""


class GoalDraws:
    """Draws of weights over goals for targets.

    A target of type t gets, in a share of the cases, weights from the Dirichlet distribution with parameters
    ``CONCENTRATION * mix + e_t``, where ``mix`` are the shares of the types among the targets, each by its weight. By Bayes'
    rule a target that is trained with weights w is of type t with probability w_t: the tower learns the answer for a next event
    which is of type t with just this probability. In all other cases the weights are ``mix``, whatever the type, which is the
    answer where no goal is asked for.

    Args:
        dataset: a dataset version with a learned vocabulary of types.
        share: of the targets with drawn weights.
        weights: of targets; None where all weigh the same.
    """

    def __init__(self, dataset: Dataset, share: float, weights: TargetWeights | None) -> None:
        field = next(f for f in dataset.spec.inputs("context") if f.of == EVENT_TYPE and f.domain is not None)
        vocabulary = dataset.encoder.vocabularies[str(field.domain)]
        self._goal_of_context = vocabulary.encode(dataset.contexts[field.name].combine_chunks()) - FIRST_ID
        self._log, self._share = dataset.sequences, share
        mass_G = np.zeros(len(vocabulary.values))
        for chunk in user_chunks(self._log.offsets):
            events = chunk.events.start + np.flatnonzero(np.asarray(self._log.split[chunk.events]) == TRAIN)
            goal = self._goals(events)
            weight = np.ones(len(events)) if weights is None else weights(events).astype(np.float64)
            mass_G += np.bincount(goal[goal >= 0], weight[goal >= 0], minlength=len(mass_G))
            release(self._log.split, self._log.context)
        self.mix_G: npt.NDArray[np.float32] = (mass_G / mass_G.sum()).astype(np.float32)
        """Shares of the types among the training targets, each by its weight."""

    def draw(self, events: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.float32]:
        """Return weights [Q, G] for targets; one without a known type gets the shares of all."""
        goal = self._goals(events)
        drawn = np.flatnonzero((rng.random(len(events)) < self._share) & (goal >= 0))
        shape_QG = np.tile(CONCENTRATION * self.mix_G.astype(np.float64), (len(drawn), 1))
        shape_QG[np.arange(len(drawn)), goal[drawn]] += 1
        gamma_QG = rng.standard_gamma(shape_QG)
        weight_QG = np.tile(self.mix_G, (len(events), 1))
        weight_QG[drawn] = gamma_QG / gamma_QG.sum(1, keepdims=True)
        return weight_QG

    def _goals(self, events: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the goal of each event, or a negative number where its type is missing or not known."""
        found: npt.NDArray[np.int64] = self._goal_of_context[np.asarray(self._log.context[events])]
        return found
