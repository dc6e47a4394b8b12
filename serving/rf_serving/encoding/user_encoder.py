"""Stage "encode": from features to query vectors.

Shapes: B requests, V interactions of all requests, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rf_platform.errors import DataError
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.encoding.online_encoder import OnlineEncoder
from rf_serving.user_features.features import KnownFeatures
from rf_training.model.served import ServedTower


class EncodedUser(NamedTuple):
    """Encoding of one request; T interactions."""

    query_D: npt.NDArray[np.float32]
    """The vector to search with."""
    tokens_TD: npt.NDArray[np.float32]
    """The tokens of its latest ``max_history`` interactions, oldest first."""
    user_D: npt.NDArray[np.float32]
    """The user tower's output, not normalised."""


class UserEncoder:
    """The user tower behind the encoding that training used, for any number of requests at once; safe from any thread."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._history = bundle.model.config.max_history
        self._encoder, self._tower = (
            OnlineEncoder(bundle.encoder, self._history),
            ServedTower(bundle.model, bundle.spec),
        )

    def encode_users(
        self, requests: Sequence[KnownFeatures], catalog: CatalogSnapshot
    ) -> list[EncodedUser | DataError]:
        """Encode each request; only the latest ``max_history`` interactions are read.

        A request with a vector that is not finite has its error instead; the others are answered.
        """
        if not requests:
            return []
        users, context = self._encoder.profiles(requests), self._encoder.interactions(requests)
        latest = [request.rows[-self._history :] for request in requests]
        rows_V = latest[0] if len(latest) == 1 else np.concatenate(latest)
        length_B = self._encoder.lengths(requests)
        encoded = self._tower(catalog.tokens(rows_V), length_B, users, context)
        found: list[EncodedUser | DataError] = []
        begin = 0
        finite_B = np.isfinite(encoded.queries_BD.sum(axis=1))
        for n, end in enumerate(length_B.cumsum().tolist()):
            user = EncodedUser(encoded.queries_BD[n], encoded.tokens_VD[begin:end], encoded.users_BD[n])
            found.append(user if finite_B[n] else DataError("the features give no usable query vector"))
            begin = end
        return found
