"""Stage "fetch": read a user's features from the online store."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from rf_platform.errors import CorruptError, UnavailableError
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.features import UserFeatures, arrow_type_of, element_of

if TYPE_CHECKING:
    from feast import FeatureStore


class FeatureFetcher:
    """Reads all features of one user in one go: the profile and the history, none of the item views of the service.

    Not safe for several threads at once: an online store's connection belongs to one.
    """

    def __init__(self, store: "FeatureStore", bundle: ServedBundle) -> None:
        self._store, self._row_of_item = store, bundle.row_of_item
        spec = bundle.spec
        self._user_key = spec.user.join_key
        self._profile, self._context, self._items = spec.inputs("user"), spec.inputs("context"), spec.history_items
        # A fixed list of names, because Feast keeps what it resolved for a list it has seen; the service itself would ask
        # for an item id as well.
        self._references = [f"{f.view}:{f.field}" for f in (*self._profile, *spec.history)]

    def fetch(self, user_id: int | str) -> UserFeatures:
        """Return the features of a user; of an unknown user, none.

        Items of the history that the bundle's catalog does not have are left out.

        Raises:
            UnavailableError: the online store cannot be read.
            CorruptError: the arrays of the history differ in length.
        """
        if not self._references:
            return UserFeatures()
        try:
            read: dict[str, list[Any]] = self._store.get_online_features(
                features=self._references, entity_rows=[{self._user_key: user_id}], full_feature_names=True
            ).to_dict()
        except Exception as error:  # each online store raises its own classes
            raise UnavailableError(
                f"the features of user_id {user_id!r} cannot be read: the online store does not answer"
            ) from error
        values = {name: found[0] for name, found in read.items()}
        profile = {f.name: pa.array([values[f.name]], arrow_type_of(f.dtype)) for f in self._profile}
        items = values[self._items.name] if self._items else None
        if not items:
            return UserFeatures(profile=profile)
        return self._with_history(user_id, profile, items, values)

    def _with_history(
        self, user_id: int | str, profile: dict[str, pa.Array], items: list[Any], values: dict[str, Any]
    ) -> UserFeatures:
        rows = np.fromiter((self._row_of_item.get(item, -1) for item in items), np.int64, len(items))
        known = rows >= 0
        context: dict[str, pa.Array] = {}
        timestamps = None
        for f in self._context:
            array = values[f.name]
            if not array:
                continue  # a field that was added after this user's history was written
            if len(array) != len(items):
                raise CorruptError(
                    f"the history of user_id {user_id!r} does not fit together: {len(items)} item ids and {len(array)} values of "
                    f"{f.view}.{f.field}; load it again with `rf features materialize`"
                )
            column = pa.array(array, arrow_type_of(element_of(f.dtype)))
            if f.kind == "timestamp":
                timestamps = column.cast(pa.int64()).to_numpy(zero_copy_only=False)[known]
            else:
                context[f.name] = column if known.all() else column.filter(pa.array(known))
        return UserFeatures(profile=profile, rows=rows[known], timestamps=timestamps, context=context)
