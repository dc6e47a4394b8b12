"""The model as a scorer of the evaluation: the exact dot product of every user with every item."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import Tensor

from rf_platform.dataset import Dataset
from rf_platform.features.encode import EncodedTable
from rf_training.evaluation.jagged import Jagged
from rf_training.loading.tables import encode_file
from rf_training.loading.windows import ranges
from rf_training.model.inputs import FeatureTensors
from rf_training.model.retrievalformer import RetrievalFormer

ITEMS_AT_ONCE = 4096
USERS_AT_ONCE = 64


class ModelScorer:
    """Scores the whole catalog; items are encoded once, with what training knew of them.

    A history is a prefix of the user's events, so the context of its interactions and the profile known just before the
    event to predict are found by its length.
    """

    def __init__(
        self,
        model: RetrievalFormer,
        dataset: Dataset,
        name: str = "RetrievalFormer",
        items: EncodedTable | None = None,
    ) -> None:
        self._model, self._dataset, self._name = model.eval(), dataset, name
        encoder = dataset.encoder
        fields = dataset.spec.inputs("user")
        self._users = encode_file(dataset.path / "users.parquet", lambda table: encoder.encode(table, fields))
        if items is None:
            versions = encode_file(dataset.path / "items.parquet", encoder.encode_items)
            items = versions.take(dataset.evaluation_items)
        cold = torch.from_numpy(~dataset.trained_items)
        self.tokens_ND, self.vectors_ND = encode_catalog(model, items, cold)

    @property
    def unit_vectors(self) -> Tensor:
        """The items' vectors without the dimension of the bias."""
        return self.vectors_ND[:, : self._model.config.dim]

    @property
    def name(self) -> str:
        """What the report calls the model."""
        return self._name

    @torch.inference_mode()
    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        """Return the dot products [users, items]."""
        scores: npt.NDArray[np.float32] = (self.queries(users, histories.lengths) @ self.vectors_ND.T).numpy()
        return scores

    @torch.inference_mode()
    def queries(self, users: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> Tensor:
        """Return the vectors to search with [users, D] after each user's first ``lengths`` events."""
        read = np.minimum(lengths, self._model.config.max_history)
        order = np.argsort(read, kind="stable")  # histories of similar length together: little padding
        parts = [
            self._queries(users[rows], lengths[rows], read[rows])
            for rows in np.array_split(order, range(USERS_AT_ONCE, len(order), USERS_AT_ONCE))
        ]
        found = torch.cat(parts)
        return torch.empty_like(found).index_copy_(0, torch.from_numpy(order), found)

    def _queries(self, users: np.ndarray, lengths: np.ndarray, read: np.ndarray) -> Tensor:
        model, sequences = self._model, self._dataset.sequences
        begin = np.asarray(sequences.offsets)[users]
        events = ranges(begin + lengths - read, begin + lengths)
        first = np.zeros(len(events), bool)
        first[(np.cumsum(read) - read)[read > 0]] = True
        context = encode_context_rows(self._dataset, events, first)
        h_VD = self.tokens_ND[torch.from_numpy(np.asarray(sequences.item[events], np.int64))]
        z_VD = model.encode_interactions(h_VD, FeatureTensors.from_encoded(context))
        # The profile known just before the event to predict; after a user's last event, the newest one.
        target = np.minimum(begin + lengths, np.asarray(sequences.offsets)[users + 1] - 1)
        profiles = self._users.take(np.asarray(sequences.user_version[target]))
        p_BD = model.encode_profiles(FeatureTensors.from_encoded(profiles))
        return model.query_vectors(model.encode_users(z_VD, torch.from_numpy(read), p_BD[:, None])[:, 0])


class CatalogVectors(NamedTuple):
    """What the model makes of the items of a catalog."""

    tokens_ND: Tensor
    """What stands for an item in a history."""
    vectors_ND: Tensor
    """What is searched, with one more dimension where scores have a bias."""


@torch.inference_mode()
def encode_catalog(model: RetrievalFormer, items: EncodedTable, cold_N: Tensor) -> CatalogVectors:
    """Encode any number of items, some at a time; ``cold_N`` (bool) tells which of them training never met."""
    whole: CatalogVectors | None = None
    for start in range(0, max(1, items.rows), ITEMS_AT_ONCE):
        some = items.take(np.arange(start, min(start + ITEMS_AT_ONCE, items.rows)))
        features = FeatureTensors.from_encoded(some)
        h_ND = model.encode_items(features)
        vectors_ND = model.candidate_vectors(h_ND, cold_N[start : start + ITEMS_AT_ONCE])
        part = CatalogVectors(model.encode_history_items(features, h_ND), vectors_ND)
        # Filled in place: parts to be joined would take the memory of a large catalog twice.
        whole = whole or CatalogVectors(*(x_ND.new_empty(items.rows, x_ND.shape[1]) for x_ND in part))
        for rows_ND, x_ND in zip(whole, part, strict=True):
            rows_ND[start : start + len(x_ND)] = x_ND
    assert whole is not None
    return whole


def encode_context_rows(dataset: Dataset, events: np.ndarray, first: np.ndarray) -> EncodedTable:
    """Encode the context of some events of a dataset by the code the server uses for online histories."""
    sequences, encoder = dataset.sequences, dataset.encoder
    table = dataset.contexts.take(np.asarray(sequences.context[events]))
    numeric = [f for f in dataset.spec.inputs("context") if f.kind == "numeric"]
    for j, f in enumerate(numeric):
        table = table.append_column(f.name, pa.array(sequences.context_numbers[events][:, j]))
    return encoder.encode_context(table, np.asarray(sequences.timestamp[events]), first)
