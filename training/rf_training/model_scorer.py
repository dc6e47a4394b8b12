"""The model as a scorer of the evaluation: the exact dot product of every user with every item."""

import copy
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.dataset.dataset import Sequences
from rf_platform.errors import UsageError
from rf_platform.features.jagged import EncodedTable
from rf_training.evaluation.sequences import Jagged
from rf_training.loading.tables import EncodedSides
from rf_training.loading.windows import ranges
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer

ITEMS_AT_ONCE = 4096
USERS_AT_ONCE = 64


class ModelScorer:
    """Scores the whole catalog; items are encoded once, with what training knew of them.

    A history is a prefix of the user's events, so the context of its interactions and the profile known just before the
    event to predict are found by its length.

    Args:
        model: what is asked.
        dataset: has the users and items.
        name: what a report calls the model.
        sides: the dataset's items and users, where they are encoded already.
        met_N: items that the model's training met, the others are cold; default: those with a training event.
    """

    def __init__(
        self,
        model: RetrievalFormer,
        dataset: Dataset,
        name: str = "RetrievalFormer",
        sides: EncodedSides | None = None,
        met_N: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self._model, self._dataset, self._name = model.eval(), dataset, name
        self._most = model.config.max_history
        self._goal_11G: Tensor | None = None
        sides = sides or EncodedSides.of(dataset)
        self._users = sides.users
        self.device = model.device
        """Device of the computation, of vectors and of queries."""
        cold = torch.from_numpy(~(dataset.trained_items if met_N is None else met_N))
        self.vectors_ND = encode_vectors(model, sides.items, cold, dataset.evaluation_items)
        """Vectors that are searched [items, D], with one more dimension where scores have a part of the item alone."""
        self.history_tokens = HistoryTokens(model, sides.items, dataset.evaluation_items)
        """Item tokens of histories."""

    @property
    def unit_vectors(self) -> Tensor:
        """The items' vectors without the dimension of the bias."""
        return self.vectors_ND[:, : self._model.config.dim]

    @property
    def sequences(self) -> Sequences:
        """The events of the dataset that it scores for."""
        return self._dataset.sequences

    @property
    def max_history(self) -> int:
        """Most events of a history that are read."""
        return self._most

    @property
    def name(self) -> str:
        """Name of the model in reports."""
        return self._name

    def reading(self, most: int) -> "ModelScorer":
        """Return the same scorer, but for reading at most the last ``most`` events, as where an online store keeps no more."""
        other = copy.copy(self)
        other._most = min(self._most, most)
        return other

    def asking(self, goals: Mapping[str, float], name: str) -> "ModelScorer":
        """Return the same scorer for requests that name goals.

        Args:
            goals: weights by type of event.
            name: what a report calls it.

        Raises:
            UsageError: the model has no such goal.
        """
        if self._model.goals is None:
            raise UsageError("goals: this model has none; train one with model.goals=true")
        other = copy.copy(self)
        other._name, other._goal_11G = name, self._model.goals.weights(goals)[None, None].to(self.device)
        return other

    @property
    def goals(self) -> tuple[str, ...]:
        """Goals of the model; empty without any."""
        return () if self._model.goals is None else self._model.goals.names

    @torch.inference_mode()
    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """Return the dot products [users, items]."""
        scores: npt.NDArray[np.float32] = (self.queries(users, histories.lengths) @ self.vectors_ND.T).cpu().numpy()
        return scores

    @torch.inference_mode()
    def queries(self, users: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Tensor:
        """Return the vectors to search with [users, D] after each user's first ``lengths`` events."""
        read = np.minimum(lengths, self._most)
        order = np.argsort(read, kind="stable")  # histories of similar length together: little padding
        parts = [
            self._queries(users[rows], lengths[rows], read[rows])
            for rows in np.array_split(order, range(USERS_AT_ONCE, len(order), USERS_AT_ONCE))
        ]
        found = torch.cat(parts)
        return torch.empty_like(found).index_copy_(0, torch.from_numpy(order).to(self.device), found)

    def _queries(self, users: np.ndarray, lengths: np.ndarray, read: np.ndarray) -> Tensor:
        model, sequences = self._model, self._dataset.sequences
        begin = np.asarray(sequences.offsets)[users]
        events = ranges(begin + lengths - read, begin + lengths)
        first = np.zeros(len(events), bool)
        first[(np.cumsum(read) - read)[read > 0]] = True
        context = FeatureTensors.from_encoded(encode_context_rows(self._dataset, events, first)).to(self.device)
        h_VD = self.history_tokens(np.asarray(sequences.item[events], np.int64))
        z_VD = model.encode_interactions(h_VD, context)
        # The profile known just before the event to predict; after a user's last event, the newest one.
        target = np.minimum(begin + lengths, np.asarray(sequences.offsets)[users + 1] - 1)
        profiles = self._users.take(np.asarray(sequences.user_version[target]))
        p_BD = model.encode_profiles(FeatureTensors.from_encoded(profiles).to(self.device))
        length_B = torch.from_numpy(read).to(self.device)
        u_BRD = model.encode_users(
            z_VD,
            length_B,
            p_BD[:, None],
            longest=int(read.max(initial=0)),
            seconds_V=model.seconds(context),
            goal_BRG=self._goal_11G,
        )
        return model.query_vectors(u_BRD[:, 0])


class HistoryTokens:
    """Item tokens of histories, encoded when it is first asked for: of a catalog of millions few items are read.

    Args:
        model: its towers encode the items.
        items: states of items.
        rows_N: which of them is the state of each item of the catalog.
    """

    def __init__(self, model: RetrievalFormer, items: EncodedTable, rows_N: npt.NDArray[np.int64]) -> None:
        self._model, self._items, self._rows_N = model, items, rows_N
        self._place_N = np.full(len(rows_N), -1, np.int32)
        self._tokens_PD = torch.empty(0, model.config.dim, device=model.device)
        self._known = 0

    def __call__(self, item_V: npt.NDArray[np.int64]) -> Tensor:
        """Return the tokens [V, D] of items, given as rows of the catalog."""
        unknown = np.unique(item_V[self._place_N[item_V] < 0])
        if len(unknown):
            self._encode(unknown)
        return self._tokens_PD[torch.from_numpy(self._place_N[item_V]).to(self._model.device)]

    @torch.inference_mode()
    def _encode(self, item_N: npt.NDArray[np.int64]) -> None:
        known, needed = self._known, self._known + len(item_N)
        if needed > len(self._tokens_PD):
            room = min(max(needed, 2 * known, ITEMS_AT_ONCE), len(self._rows_N))
            grown_PD = torch.empty(room, self._model.config.dim, device=self._model.device)
            grown_PD[:known] = self._tokens_PD[:known]
            self._tokens_PD = grown_PD
        for start in range(0, len(item_N), ITEMS_AT_ONCE):
            some = item_N[start : start + ITEMS_AT_ONCE]
            features = FeatureTensors.from_encoded(self._items.take(self._rows_N[some])).to(self._model.device)
            h_ND = self._model.encode_history_items(features, self._model.encode_items(features))
            self._tokens_PD[known + start : known + start + len(some)] = h_ND
        self._place_N[item_N] = np.arange(known, needed)
        self._known = needed


@torch.inference_mode()
def encode_vectors(
    model: RetrievalFormer, items: EncodedTable, cold_N: Tensor, rows_N: npt.NDArray[np.int64] | None = None
) -> Tensor:
    """Encode any number of items, some at a time, as what is searched; on the device of the model.

    Args:
        model: its item tower is asked.
        items: states of items.
        cold_N: bool, which of the items training never met.
        rows_N: which of the states is that of each item; default: one after the other.
    """
    rows_N = np.arange(items.rows) if rows_N is None else rows_N
    whole_ND: Tensor | None = None
    for start in range(0, max(1, len(rows_N)), ITEMS_AT_ONCE):
        some = slice(start, start + ITEMS_AT_ONCE)
        h_ND = model.encode_items(FeatureTensors.from_encoded(items.take(rows_N[some])).to(model.device))
        part_ND = model.candidate_vectors(h_ND, cold_N[some].to(model.device))
        # Filled in place: parts to be joined would take the memory of a large catalog twice.
        whole_ND = part_ND.new_empty(len(rows_N), part_ND.shape[1]) if whole_ND is None else whole_ND
        whole_ND[some] = part_ND
    assert whole_ND is not None
    return whole_ND


def encode_context_rows(dataset: Dataset, events: np.ndarray, first: np.ndarray) -> EncodedTable:
    """Encode the context of some events of a dataset by the code the server uses for online histories."""
    sequences, encoder = dataset.sequences, dataset.encoder
    table = dataset.contexts.take(np.asarray(sequences.context[events]))
    numeric = [f for f in dataset.spec.inputs("context") if f.kind == "numeric"]
    for j, f in enumerate(numeric):
        table = table.append_column(f.name, pa.array(sequences.context_numbers[events][:, j]))
    return encoder.encode_context(table, np.asarray(sequences.timestamp[events]), first)
