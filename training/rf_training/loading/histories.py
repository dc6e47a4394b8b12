"""Histories of a dataset version as a PyTorch dataset, for models of your own.

Shapes: T events of a window, B windows of a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from rf_platform.dataset import Dataset
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import Split
from rf_training.loading.windows import Cut, check_training_events

PADDING, IGNORED = 0, -100
"""Item of a place without an event, and target of a place without one: the defaults of ``Embedding(padding_idx=0)`` and of
``cross_entropy(ignore_index=-100)``."""


@dataclass(frozen=True)
class History:
    """Part of the events of one user, oldest first."""

    user: int
    """Row of the user in ``Dataset.user_ids``."""
    items: Tensor
    """int64 [T]: item of each event, as its row in ``Dataset.item_ids`` plus 1; 0 stands for padding."""
    timestamps: Tensor
    """int64 [T]: microseconds since 1970, UTC."""
    targets: Tensor
    """int64 [T]: the item that followed each event, as ``items``; -100 where the event is a target of another window, or nothing
    follows."""


@dataclass(frozen=True)
class HistoryBatch:
    """Histories side by side, padded on the right."""

    user: Tensor
    """int64 [B]."""
    items: Tensor
    """int64 [B, T]."""
    timestamps: Tensor
    """int64 [B, T]."""
    targets: Tensor
    """int64 [B, T]."""
    lengths: Tensor
    """int64 [B]: events of each history."""


class HistoryDataset(TorchDataset[History]):
    """Histories with their next items: all windows of the training split, or one for each held-out target.

    It is a map-style dataset over memory-mapped arrays: cheap to make, to index at random and to hand to worker processes. Pass
    :func:`collate_histories` to ``DataLoader``. Every training event is the target of exactly one window; in the other splits the
    last target alone is set, and a history may be empty.

    Args:
        dataset: a dataset version.
        split: ``train``, ``validation`` or ``test``, as the dataset's protocol cut it.
        max_history: most events of a window, the latest ones.
        overlap: share of a window that repeats the window before it; training alone.

    Raises:
        RunError: the split is empty.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: Literal["train", "validation", "test"] = "train",
        max_history: int = 50,
        overlap: float = 0.0,
    ) -> None:
        log = dataset.sequences
        self._log = log
        if split == "train":
            events = dataset.training_counts.of_user
            check_training_events(events)
            windows = Cut(history=max_history, overlap=overlap).windows(np.asarray(log.offsets)[:-1], events)
            # A user's first event has nothing before it to be told from.
            some = windows.stop - windows.start > 1
            self._start, self._stop = windows.start[some], windows.stop[some] - 1
            self._first_target = np.maximum(windows.first_target[some], windows.start[some] + 1)
            self._user = np.searchsorted(log.offsets, self._start, side="right") - 1
        else:
            cases = EvaluationCases.from_sequences(log, n_items=dataset.n_items, split=Split[split.upper()])
            self._user, self._stop, self._target = cases.users, cases.stops, cases.targets
            self._start = np.maximum(cases.starts, cases.stops - max_history)
        self._training = split == "train"

    def __len__(self) -> int:
        return len(self._user)

    def __getitem__(self, index: int) -> History:
        start, stop = int(self._start[index]), int(self._stop[index])
        items = torch.from_numpy(np.asarray(self._log.item[start:stop], np.int64) + 1)
        targets = torch.full((stop - start,), IGNORED)
        if self._training:
            first = int(self._first_target[index])
            targets[first - 1 - start :] = torch.from_numpy(np.asarray(self._log.item[first : stop + 1], np.int64) + 1)
        elif len(targets):
            targets[-1] = int(self._target[index]) + 1
        times = torch.from_numpy(np.asarray(self._log.timestamp[start:stop], np.int64).copy())
        return History(int(self._user[index]), items, times, targets)


def collate_histories(histories: Sequence[History]) -> HistoryBatch:
    """Return a batch, for ``DataLoader(collate_fn=collate_histories)``."""

    def padded(values: list[Tensor], padding: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(values, batch_first=True, padding_value=padding)

    return HistoryBatch(
        user=torch.tensor([each.user for each in histories]),
        items=padded([each.items for each in histories], PADDING),
        timestamps=padded([each.timestamps for each in histories], 0),
        targets=padded([each.targets for each in histories], IGNORED),
        lengths=torch.tensor([len(each.items) for each in histories]),
    )
