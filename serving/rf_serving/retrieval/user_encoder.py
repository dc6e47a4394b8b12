"""Stage "encode": from features to a query vector.

Shapes: T interactions, D width.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from rf_platform.errors import DataError
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.features import UserFeatures
from rf_training.model.inputs import FeatureTensors

_EXTREME = 1e4
"""Deviations from the mean that no real value has."""


class UserEncoder:
    """The user tower behind the encoding that training used."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._model, self._encoder, self._tokens_ND = bundle.model, bundle.encoder, bundle.item_tokens_ND
        self._user_fields = bundle.spec.inputs("user")
        self._history = bundle.model.config.max_history

    @torch.inference_mode()
    def encode(self, features: UserFeatures) -> npt.NDArray[np.float32]:
        """Return the vector to search with [D]; only the latest ``max_history`` interactions are read.

        Raises:
            DataError: a value cannot be encoded, or is so extreme that the vector is not finite.
        """
        model, encoder = self._model, self._encoder
        users = FeatureTensors.from_encoded(encoder.encode(_table(1, features.profile), self._user_fields))
        rows = features.rows[-self._history :]
        h_TD = self._tokens_ND[torch.from_numpy(rows)]
        if features.cold:
            context, z_TD, embedded = None, h_TD, model.embed({"user": users})
        else:
            context = self._context(features, len(rows))
            embedded = model.embed({"user": users, "context": context})
            z_TD = model.encode_interactions(h_TD, context, embedded)
        profile_1D = model.encode_profiles(users, embedded)
        u_11D = model.encode_users(z_TD, torch.tensor([len(rows)]), profile_1D[:, None])
        query: npt.NDArray[np.float32] = model.query_vectors(u_11D[0, 0]).numpy()
        if not np.isfinite(query).all():
            extreme = [name for side in (users, context) if side for name in _extreme(side)]
            raise DataError(f"the features give no usable query vector; values are extreme in {', '.join(extreme)}")
        return query

    def _context(self, features: UserFeatures, count: int) -> FeatureTensors:
        first = np.zeros(count, bool)
        first[0] = True
        if features.timestamps is None:
            times, first = np.zeros(count, np.int64), np.ones(count, bool)  # every gap is unknown
        else:
            times = features.timestamps[-count:]
        latest = {name: column[len(column) - count :] for name, column in features.context.items()}
        return FeatureTensors.from_encoded(self._encoder.encode_context(_table(count, latest), times, first))


def _extreme(features: FeatureTensors) -> list[str]:
    numbers = {**features.numbers, **features.vectors}
    return [name for name, values in numbers.items() if bool((values.abs() > _EXTREME).any())]


def _table(rows: int, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Return a table that has its rows even without any column."""
    return pa.table({"": pa.nulls(rows), **columns})
