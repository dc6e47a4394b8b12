"""Features of logged answers, as an engine reads them from the online store."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from rf_platform.errors import UsageError
from rf_platform.features.spec import FeatureSpec
from rf_platform.serving_log import value_column
from rf_serving.user_features.features import UserFeatures

_TIME = pa.timestamp("us", tz="UTC")


def read_features(records: pa.Table, spec: FeatureSpec, bundle: str) -> list[UserFeatures]:
    """Return the features of logged answers in the terms of a bundle, in order.

    Args:
        records: of the serving log, with the columns of features.
        spec: features that the bundle reads.
        bundle: its name, for messages.

    Raises:
        UsageError: the log does not have all of them: the bundle that answered did not read them.
    """
    read = [*spec.inputs("user"), *spec.inputs("context"), *([spec.history_items] if spec.history_items else [])]
    if missing := sorted({f.name for f in read if value_column(f.name) not in records.column_names}):
        raise UsageError(
            f"the serving log has no {', '.join(missing)}, which '{bundle}' reads and the bundle that answered did not; "
            f"compare them by `rf experiment start`"
        )
    columns = {f.name: _values(records[value_column(f.name)]) for f in read}
    users, context = spec.inputs("user"), spec.inputs("context")
    items = columns[spec.history_items.name] if spec.history_items else [None] * records.num_rows
    found = []
    for row in range(records.num_rows):
        history = items[row] or ()
        kept = {f: columns[f.name][row] for f in context if columns[f.name][row]} if history else {}
        times = next((values for f, values in kept.items() if f.kind == "timestamp"), None)
        found.append(
            UserFeatures(
                profile={f.name: columns[f.name][row] for f in users},
                items=history,
                timestamps=None if times is None else np.array(times, np.int64),
                context={f.name: values for f, values in kept.items() if f.kind != "timestamp"},
            )
        )
    return found


def _values(column: pa.ChunkedArray) -> Sequence[Any]:
    """Return plain values, times in microseconds."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        column = column.cast(_TIME).cast(pa.int64())
    elif pa.types.is_list(kind) and pa.types.is_timestamp(kind.value_type):
        column = column.cast(pa.list_(_TIME)).cast(pa.list_(pa.int64()))
    values: Sequence[Any] = column.to_pylist()
    return values
