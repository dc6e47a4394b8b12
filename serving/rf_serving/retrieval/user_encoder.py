"""Stage "encode": from features to query vectors.

Shapes: B requests, V interactions of all requests, D width.
"""

from collections.abc import Sequence

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


class UserEncoder:
    """The user tower behind the encoding that training used, for any number of requests at once."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._history = bundle.model.config.max_history
        self._encoder, self._tower = OnlineEncoder(bundle.encoder, self._history), QueryTower(bundle.model, bundle.spec)

    def encode(
        self, requests: Sequence[KnownFeatures], catalog: CatalogSnapshot
    ) -> list[npt.NDArray[np.float32] | DataError]:
        """Return the vector to search with [D] of each request; only the latest ``max_history`` interactions are read.

        A request whose values cannot be encoded, or are so extreme that its vector is not finite, has its error instead; the
        others are answered.
        """
        try:
            return self._together(requests, catalog)
        except DataError as error:
            if len(requests) == 1:
                return [error]
            return [found for request in requests for found in self.encode([request], catalog)]

    def _together(
        self, requests: Sequence[KnownFeatures], catalog: CatalogSnapshot
    ) -> list[npt.NDArray[np.float32] | DataError]:
        users, context = self._encoder.profiles(requests), self._encoder.interactions(requests)
        rows_V = np.concatenate([request.rows[-self._history :] for request in requests])
        found_BD = self._tower(catalog.tokens(rows_V), self._encoder.lengths(requests), users, context).numpy()
        finite_B = np.isfinite(found_BD).all(axis=1)
        if finite_B.all():
            return list(found_BD)
        if len(requests) == 1:
            names = ", ".join([*_extreme(users), *_extreme(context)])
            return [DataError(f"the features give no usable query vector; values are extreme in {names}")]
        return [
            vector_D if finite else self.encode([request], catalog)[0]
            for vector_D, finite, request in zip(found_BD, finite_B.tolist(), requests, strict=True)
        ]


def _extreme(features: EncodedTable) -> list[str]:
    numbers = {**features.numbers, **features.vectors}
    return [name for name, values in numbers.items() if bool((np.abs(values) > _EXTREME).any())]
