"""Evaluation cases: from a user's history, find the item held out after it."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.aside import Aside
from rf_platform.dataset.protocols.leave_one_out import MIN_EVENTS
from rf_platform.dataset.user_chunks import release, user_chunks
from rf_platform.errors import RunError
from rf_training.evaluation.sequences import Jagged, Sequences, Split, check_sequences, gather


@dataclass(frozen=True, eq=False)
class EvaluationCases:
    """One case for each held-out event of a split, in order of user, whatever protocol held it out (row R16).

    A protocol holds out at most one validation and one test event of a user, after all that is left of the training
    events; a user may have the one without the other. The history of a case is everything that is left of what the user
    did before the target: with leave-one-out, for validation the training events and for test these and the validation event.
    It may be empty. Arrays are per case, not per user.
    """

    split: Split
    """The split that the targets come from."""
    n_items: int
    """Size of the whole catalog, items without any event included."""
    users: npt.NDArray[np.int64]
    """``[n_cases]``: user row."""
    targets: npt.NDArray[np.int64]
    """``[n_cases]``: item row of the held-out event."""
    cold: npt.NDArray[np.bool_]
    """``[n_cases]``: whether the target is an item that is not among the trained ones."""
    trained: npt.NDArray[np.bool_]
    """``[n_items]``: whether the item has a training event, or had one in an earlier training that is gone on with."""
    starts: npt.NDArray[np.int64]
    """``[n_cases]``: event row at which the history begins."""
    stops: npt.NDArray[np.int64]
    """``[n_cases]``: event row of the target, at which the history ends."""
    event_items: npt.NDArray[np.integer[Any]]
    """``[n_events]``: item row of each event of the dataset; may be memory-mapped."""
    aside: Aside | None = None
    """Events that are in no history, of items that their users have seen."""
    hidden: npt.NDArray[np.bool_] | None = None
    """``[n_items]``: items that are not recommendable: no candidates, but for a case that asks for one; None: there are none."""

    @classmethod
    def from_sequences(
        cls, sequences: Sequences, *, n_items: int, split: Split, trained: npt.NDArray[np.bool_] | None = None
    ) -> "EvaluationCases":
        """Collect the cases of the validation or the test split.

        Args:
            sequences: Events of the dataset version.
            n_items: Size of the catalog.
            split: Validation or test.
            trained: ``[n_items]``, items that are not cold; default: those with a training event. ``Dataset.trained_items``
                also has what the model met that a run goes on from.

        Raises:
            ValueError: If ``split`` is neither the validation nor the test split: the others hold nothing out.
            DataError: If the events of a user are not in the order of the splits (see :func:`check_sequences`).
            RunError: If no user has an event in that split.
        """
        if split not in (Split.VALIDATION, Split.TEST):
            raise ValueError(f"the {split.label} events are no targets: evaluate on the validation or the test split")
        check_sequences(sequences, n_items=n_items)
        offsets = np.asarray(sequences.offsets, dtype=np.int64)
        met, found = np.zeros(n_items, bool), [np.zeros(0, np.int64)]
        for chunk in user_chunks(offsets):
            codes = np.asarray(sequences.split[chunk.events])
            met[sequences.item[chunk.events][codes == Split.TRAIN]] = True
            found.append(chunk.events.start + np.flatnonzero(codes == split))
            release(sequences.split, sequences.item)
        target_rows = np.concatenate(found)
        if len(target_rows) == 0:
            raise RunError(_why_empty(offsets, split))
        users = np.searchsorted(offsets, target_rows, side="right") - 1
        targets = sequences.item[target_rows].astype(np.int64)
        trained = met if trained is None else trained
        return cls(
            split=split,
            n_items=n_items,
            users=users,
            targets=targets,
            cold=~trained[targets],
            trained=trained,
            starts=offsets[users],
            stops=target_rows,
            event_items=sequences.item,
            aside=sequences.aside,
            hidden=sequences.hidden,
        )

    def __len__(self) -> int:
        return len(self.users)

    def sampled(self, most: int, seed: int) -> "EvaluationCases":
        """Return ``most`` of the cases, drawn by ``seed``, still in order of user; all of them if there are no more."""
        if len(self) <= most:
            return self
        rows = np.sort(np.random.default_rng(seed).choice(len(self), most, replace=False))
        drawn = {name: getattr(self, name)[rows] for name in ("users", "targets", "cold", "starts", "stops")}
        return replace(self, **drawn)

    def histories(self, start: int, stop: int) -> Jagged:
        """Histories of the cases ``start`` to ``stop``, copied out of the event array."""
        return gather(self.event_items, self.starts[start:stop], self.stops[start:stop])

    def seen(self, start: int, stop: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Case, counted from ``start``, and item of every distinct item that the user of a case had seen before the target."""
        histories = self.histories(start, stop)
        pairs = histories.row_of_value * self.n_items + histories.values
        if self.aside is not None:
            row, item = self.aside.seen(self.starts[start:stop], self.stops[start:stop])
            pairs = np.concatenate([pairs, row * self.n_items + item])
        rows, items = np.divmod(np.unique(pairs), self.n_items)
        return rows, items

    @cached_property
    def seen_before(self) -> npt.NDArray[np.bool_]:
        """``[n_cases]``: whether the target is in the user's seen set by then."""
        rows, items = self.seen(0, len(self))
        found = np.zeros(len(self), np.bool_)
        found[rows[items == self.targets[rows]]] = True
        return found

    @cached_property
    def hidden_target(self) -> npt.NDArray[np.bool_]:
        """``[n_cases]``: whether the target is an item that is not recommendable."""
        return np.zeros(len(self), np.bool_) if self.hidden is None else self.hidden[self.targets]

    @cached_property
    def repeated(self) -> npt.NDArray[np.bool_]:
        """``[n_cases]``: whether the target is also in the history."""
        histories = self.histories(0, len(self))
        repeats = histories.values == self.targets[histories.row_of_value]
        found = np.zeros(len(self), np.bool_)
        found[histories.row_of_value[repeats]] = True
        return found


def _why_empty(offsets: npt.NDArray[np.int64], split: Split) -> str:
    lengths = np.diff(offsets)
    if len(lengths) == 0:
        return (
            f"Nothing to evaluate: the dataset has no users, so its {split.label} split is empty. Import interactions."
        )
    if lengths.max() < MIN_EVENTS:
        return (
            f"Nothing to evaluate: the {split.label} split is empty because the longest of {len(lengths)} user "
            f"sequences has {lengths.max()} events, and to hold the last ones out a user needs at least {MIN_EVENTS}. "
            "Import more interactions per user."
        )
    return (
        f"Nothing to evaluate: no event is marked {split.label}, although {int((lengths >= MIN_EVENTS).sum())} of "
        f"{len(lengths)} users have at least {MIN_EVENTS} events. `rf dataset show` names the protocol that the dataset was "
        "built with; build one with other cuts, or with another protocol (`rf dataset build --protocol ...`)."
    )
