"""Samplers of negatives by name: which items of the training split a step draws beside its targets."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rf_platform.parts import Parts


class Sampler(ABC):
    """Draws items with replacement; the loss divides by how often each is drawn on average, whatever the sampler.

    Only items with a training event may be drawn: others stay out of training altogether.
    """

    def __init__(self, events: npt.NDArray[np.int64]) -> None:
        """Prepare.

        Args:
            events: training events of every item, [items].
        """
        self.items: npt.NDArray[np.int64] = np.flatnonzero(events)
        """Items with a training event."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """Return ``count`` items, the same one perhaps several times; all randomness is ``rng``'s."""

    @abstractmethod
    def expected(self, items: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64] | float:
        """Return how often each of these items is drawn on average, in ``count`` draws."""


class UniformSampler(Sampler):
    """Every item alike."""

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """See :meth:`Sampler.draw`."""
        return rng.choice(self.items, count)

    def expected(self, items: npt.NDArray[np.int64], count: int) -> float:
        """See :meth:`Sampler.expected`."""
        return count / len(self.items)


class PopularitySampler(Sampler):
    """An item in proportion to its training events to the power of :attr:`POWER` (Mikolov et al., 2013).

    The other targets of a batch are popular by themselves; more of that is worth a try where a catalog has a long tail of items
    that are no negatives worth telling apart.
    """

    POWER = 0.75
    """Between alike (0) and by events (1)."""

    def __init__(self, events: npt.NDArray[np.int64]) -> None:
        super().__init__(events)
        share: npt.NDArray[np.float64] = np.where(events > 0, events.astype(np.float64) ** self.POWER, 0.0)
        self._share = share / share.sum()
        self._reach = np.cumsum(self._share[self.items])

    def draw(self, rng: np.random.Generator, count: int) -> npt.NDArray[np.int64]:
        """See :meth:`Sampler.draw`."""
        place = np.searchsorted(self._reach, rng.random(count) * self._reach[-1], side="right")
        drawn: npt.NDArray[np.int64] = self.items[place]
        return drawn

    def expected(self, items: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float64]:
        """See :meth:`Sampler.expected`."""
        expected: npt.NDArray[np.float64] = count * self._share[items]
        return expected


SAMPLERS: Parts[Callable[[npt.NDArray[np.int64]], Sampler]] = Parts(
    "samplers",
    {"uniform": UniformSampler, "popularity": PopularitySampler},
    lambda found: found if callable(found) else None,
)
"""All samplers by name: ``train.sampler``. Each is made from the training events of every item."""
