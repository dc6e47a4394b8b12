"""The item tower of a bundle, for items that come while it is served.

Shapes: N items, D width of vectors, E width of tokens, W width of what a re-ranker keeps of an item.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from rf_platform.features.spec import ITEM_ID_DOMAIN
from rf_platform.features.vocabulary import FIRST_ID
from rf_serving.bundle.reranker import item_states, no_item_states
from rf_serving.bundle.served import ServedBundle
from rf_serving.index.vector_index import NO_ROW
from rf_training.model.inputs import FeatureTensors

AT_ONCE = 256
"""Items encoded together: few enough that requests do not wait for long."""


class EncodedItems(NamedTuple):
    """Output of the item tower, and of the re-ranker behind it, for some items."""

    vectors_ND: npt.NDArray[np.float32]
    """Vectors to index."""
    tokens_NE: npt.NDArray[np.float32]
    """Item parts of interaction tokens."""
    item_states_NW: npt.NDArray[np.floating]
    """Item states of the re-ranker; W is 0 without one."""
    usable_N: npt.NDArray[np.bool_]
    """Whether all of this is finite and the vector is a direction; that of no known feature may be zero."""


class ItemEncoder:
    """Encodes items as the bundle's own were: those that training met by id and features, the others by features alone."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._bundle = bundle

    def encode(self, items: pa.Table) -> EncodedItems:
        """Encode items given with id and features by full name."""
        parts = [self._some(items.slice(start, AT_ONCE)) for start in range(0, max(1, items.num_rows), AT_ONCE)]
        return EncodedItems(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def _some(self, items: pa.Table) -> EncodedItems:
        bundle = self._bundle
        cold_N = self.cold(items[bundle.spec.item.join_key].to_pylist())
        with torch.inference_mode():
            features = FeatureTensors.from_encoded(bundle.encoder.encode_items(items))
            h_ND = bundle.model.encode_items(features)
            vectors_ND = bundle.model.candidate_vectors(h_ND, torch.from_numpy(cold_N)).numpy()
            tokens_NE = bundle.model.encode_history_items(features, h_ND).numpy()
        usable_N = np.isfinite(vectors_ND).all(axis=1) & np.isfinite(tokens_NE).all(axis=1)
        usable_N &= vectors_ND[:, : bundle.model.config.dim].any(axis=1)
        if bundle.ranker is None:
            return EncodedItems(vectors_ND, tokens_NE, no_item_states(len(vectors_ND)), usable_N)
        item_states_NW = item_states(bundle.ranker, vectors_ND, bundle.model.config.dim)
        usable_N &= np.isfinite(item_states_NW).all(axis=1)
        return EncodedItems(vectors_ND, tokens_NE, item_states_NW, usable_N)

    def cold(self, ids: Sequence[int | str]) -> npt.NDArray[np.bool_]:
        """Return which items [N] training never met: no training event is known of them, nor does the model have their id."""
        bundle = self._bundle
        vocabulary = bundle.encoder.vocabularies[ITEM_ID_DOMAIN]
        if vocabulary.domain.buckets is None:
            known = vocabulary.encode(pa.array(ids, vocabulary.values.type)) >= FIRST_ID
        else:
            known = np.zeros(len(ids), np.bool_)
        if bundle.popularity_N is not None:
            rows = np.fromiter((bundle.row_of_item.get(item, NO_ROW) for item in ids), np.int64, len(ids))
            built = rows != NO_ROW
            known[built] |= bundle.popularity_N[rows[built]] > 0
        cold: npt.NDArray[np.bool_] = ~known
        return cold
