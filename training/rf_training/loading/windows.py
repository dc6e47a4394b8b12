"""Cut training histories into windows; every training event is the target of exactly one window."""

from dataclasses import dataclass

import numpy as np

from rf_platform.errors import RunError


@dataclass(frozen=True)
class Windows:
    """Windows of histories, as event rows; arrays are int64 [windows]."""

    start: np.ndarray
    """First input event."""
    first_target: np.ndarray
    """First target event; the one before it, if it belongs to the user, is its latest input."""
    stop: np.ndarray
    """One past the last target event; the last input is ``stop - 2``."""

    def __len__(self) -> int:
        return len(self.start)

    @property
    def inputs(self) -> np.ndarray:
        """Number of input events of each window."""
        lengths: np.ndarray = self.stop - 1 - self.start
        return lengths

    @property
    def targets(self) -> np.ndarray:
        """Event rows of all targets, window by window."""
        return ranges(self.first_target, self.stop)

    def take(self, rows: np.ndarray) -> "Windows":
        """Return the given windows, in that order."""
        return Windows(start=self.start[rows], first_target=self.first_target[rows], stop=self.stop[rows])


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Cut of histories into windows of at most ``history`` inputs, from the latest event backwards.

    A target sees the events of its window before it. With ``overlap`` 0 a window's first target sees one event; with 0.5
    every target of a long history sees at least half a window.
    """

    history: int
    """Most inputs of a window."""
    overlap: float
    """Share of a window's inputs that belong to the window before it."""

    @property
    def stride(self) -> int:
        """Targets of all windows of a user but the earliest."""
        return max(1, round(self.history * (1 - self.overlap)))

    def count(self, events: np.ndarray) -> np.ndarray:
        """Return the number of windows of users with so many training events, int64 [users]."""
        # The window that starts at the user's first event holds history + 1 targets; each later one adds `stride`.
        more = np.ceil(np.maximum(events - (self.history + 1), 0) / self.stride).astype(np.int64)
        return np.where(events > 0, 1 + more, 0)

    def windows(self, begin: np.ndarray, events: np.ndarray) -> Windows:
        """Return the windows of some users, one user after the other, the latest window of each first.

        Args:
            begin: the first event of each user, int64 [users].
            events: training events of each user; they come first among the user's events.
        """
        counts = self.count(events)
        user = np.repeat(np.arange(len(counts)), counts)
        number = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)  # 0 = latest window of the user
        stop = (begin + events)[user] - number * self.stride
        oldest = number == counts[user] - 1
        return Windows(
            start=np.maximum(begin[user], stop - 1 - self.history),
            first_target=np.where(oldest, begin[user], stop - self.stride),
            stop=stop,
        )


def check_training_events(of_user: np.ndarray) -> None:
    """Make sure that there is something to train on.

    Raises:
        RunError: there are no training events.
    """
    if of_user.sum() == 0:
        raise RunError(
            "the training split of the dataset is empty; import interactions with at least one event per user"
        )


def ranges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Return ``start[0]..stop[0]-1, start[1]..stop[1]-1, ...``."""
    lengths = stop - start
    ends = np.cumsum(lengths)
    ranges: np.ndarray = np.arange(lengths.sum()) + np.repeat(start - (ends - lengths), lengths)
    return ranges
