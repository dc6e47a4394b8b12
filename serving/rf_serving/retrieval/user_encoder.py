"""Stage "encode": from features to query vectors.

Shapes: B requests, V interactions of all requests, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rf_platform.errors import DataError
from rf_platform.features.encode import EncodedTable
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.retrieval.features import KnownFeatures
from rf_serving.retrieval.online_encoder import OnlineEncoder
from rf_serving.retrieval.query_tower import QueryTower

_EXTREME = 1e4
"""Deviations from the mean that no real value has."""


class EncodedUser(NamedTuple):
    """What became of one request; T interactions."""

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
        self._encoder, self._tower = OnlineEncoder(bundle.encoder, self._history), QueryTower(bundle.model, bundle.spec)

    def encode_users(
        self, requests: Sequence[KnownFeatures], catalog: CatalogSnapshot
    ) -> list[EncodedUser | DataError]:
        """Encode each request; only the latest ``max_history`` interactions are read.

        A request whose values cannot be encoded, or are so extreme that its vector is not finite, has its error instead; the
        others are answered.
        """
        if not requests:
            return []
        try:
            return self._together(requests, catalog)
        except DataError as error:
            if len(requests) == 1:
                return [error]
            return [found for request in requests for found in self.encode_users([request], catalog)]

    def _together(self, requests: Sequence[KnownFeatures], catalog: CatalogSnapshot) -> list[EncodedUser | DataError]:
        users, context = self._encoder.profiles(requests), self._encoder.interactions(requests)
        latest = [request.rows[-self._history :] for request in requests]
        rows_V = latest[0] if len(latest) == 1 else np.concatenate(latest)
        length_B = self._encoder.lengths(requests)
        encoded = self._tower(catalog.tokens(rows_V), length_B, users, context)
        found: list[EncodedUser | DataError] = []
        begin = 0
        for query_D, user_D, end in zip(encoded.queries_BD, encoded.users_BD, length_B.cumsum().tolist(), strict=True):
            found.append(EncodedUser(query_D, encoded.tokens_VD[begin:end], user_D))
            begin = end
        finite_BD = np.isfinite(encoded.queries_BD)
        if finite_BD.all():
            return found
        if len(requests) == 1:
            names = ", ".join([*_extreme(users), *_extreme(context)])
            return [DataError(f"the features give no usable query vector; values are extreme in {names}")]
        for number in np.flatnonzero(~finite_BD.all(axis=1)).tolist():
            (found[number],) = self.encode_users([requests[number]], catalog)
        return found


def _extreme(features: EncodedTable) -> list[str]:
    numbers = {**features.numbers, **features.vectors}
    return [name for name, values in numbers.items() if bool((np.abs(values) > _EXTREME).any())]
