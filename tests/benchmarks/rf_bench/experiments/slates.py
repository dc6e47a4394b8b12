"""A small world with known rewards: answers with drawn items, and the true value of another order of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.effects import FOLDS, NOT_SHOWN, DrawnItems, examination_by_place, item_rates
from rf_platform.effects.confidence_sequence import Floats


@dataclass(frozen=True, kw_only=True)
class SlateWorld:
    """Users of some kinds, items, and how much each kind likes each item."""

    kinds: int = 4
    items: int = 30
    places: int = 5
    answers: int = 20_000
    answers_of_user: int = 4
    draws: int = 1
    barred: int = 0
    """Items that are never drawn, the best ones of the new order among them."""
    examined: float = 0.8
    """Attention that each place gets, relative to the one before."""
    seed: int = 0
    """Of the world, not of what happens in it."""

    @property
    def liking(self) -> Floats:
        """Probability of a reward of an item at the first place, by kind ``[kinds, items]``."""
        return np.random.default_rng(self.seed).beta(1.0, 6.0, (self.kinds, self.items))

    @property
    def examination(self) -> Floats:
        """Examination by place."""
        return np.asarray(self.examined ** np.arange(self.places))

    def order(self, noise: float, seed: int) -> npt.NDArray[np.int64]:
        """Return the items that a bundle shows to each kind ``[kinds, places]``: the best by a noisy view of the liking."""
        seen = self.liking + np.random.default_rng(seed).normal(0, noise, (self.kinds, self.items))
        return np.argsort(-seen, axis=1)[:, : self.places]

    def value(self, order: npt.NDArray[np.int64]) -> float:
        """Return the true expected reward of an answer."""
        return float((np.take_along_axis(self.liking, order, 1) * self.examination).sum(axis=1).mean())


def logged(
    world: SlateWorld, target: npt.NDArray[np.int64], random: np.random.Generator, *, model: bool = True
) -> tuple[DrawnItems, Floats]:
    """Return drawn items of answers, as the log of a policy with exploration has them, and the examination read from them.

    Args:
        world: what happens.
        target: order of the bundle that is asked about.
        random: of all draws.
        model: whether rewards are predicted by the rates of items, or by 0.
    """
    answers, places = world.answers, world.places
    user_A = np.arange(answers) // world.answers_of_user
    kind_A = random.integers(0, world.kinds, user_A.max() + 1)[user_A]
    pool = np.arange(world.barred, world.items)
    # One draw in each of as many stretches of the list.
    item_AD = pool[random.random((answers, len(pool))).argpartition(world.draws - 1, axis=1)[:, : world.draws]]
    edges = np.linspace(0, places, world.draws + 1).astype(int)
    place_AD = random.integers(edges[:-1], edges[1:], (answers, world.draws))
    answer_D, item_D, place_D = np.repeat(np.arange(answers), world.draws), item_AD.ravel(), place_AD.ravel()
    chance_D = world.liking[kind_A[answer_D], item_D] * world.examination[place_D]
    reward_D = (random.random(len(chance_D)) < chance_D).astype(np.float64)
    match_DP = target[kind_A[answer_D]] == item_D[:, None]
    target_D = np.where(match_DP.any(axis=1), match_DP.argmax(axis=1), NOT_SHOWN)
    curve = examination_by_place(place_D, reward_D, places)
    predicted_D, predicted_A = np.zeros(len(item_D)), np.zeros(answers)
    if model:
        fold_A = user_A % FOLDS
        rates = item_rates(item_D, reward_D, curve[place_D], fold_A[answer_D], world.items)
        predicted_D = rates[fold_A[answer_D], item_D] * curve[np.maximum(target_D, 0)]
        predicted_A = (rates[fold_A[:, None], target[kind_A]] * curve).sum(axis=1)
    drawn = DrawnItems(
        user_A=user_A,
        size_A=np.full(answers, places),
        answer_D=answer_D,
        place_D=place_D,
        target_D=target_D,
        propensity_D=np.full(len(item_D), world.draws / len(pool)),
        reward_D=reward_D,
        predicted_D=predicted_D,
        predicted_A=predicted_A,
    )
    return drawn, curve
