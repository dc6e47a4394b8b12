"""Values of items as filters compare them.

Shapes: N items.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.features.dtype import ELEMENTS, Dtype
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.vocabulary import without_markers


def filterable(spec: FeatureSpec) -> dict[str, Dtype]:
    """Return the dtype of every item feature and display field that filters can ask about, by full name."""
    fields = (f for f in spec.carried("item") if f.role != "label")
    return {f.name: f.type for f in fields if f.type.element in ELEMENTS}


def marked(spec: FeatureSpec) -> frozenset[str]:
    """Return the item features in which an empty text or the least integer is a missing value, as in encoding."""
    return frozenset(f.name for f in spec.carried("item") if f.kind in ("categorical", "multi"))


def compared_values(column: pa.ChunkedArray, dtype: Dtype, *, markers: bool) -> pa.Array:
    """Return the values of a feature as they are compared [N], null where they are missing.

    Times are microseconds, truth values 0 and 1, there is one zero, and NaN is a missing value.

    Args:
        column: the values as they are stored.
        dtype: of the feature.
        markers: whether what stands for missing values in encoding (an empty text, the least integer) does so here.
    """
    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = pa.array([], values.type) if values.num_chunks == 0 else values.chunk(0)
    if dtype.is_time:
        values = values.cast(dtype.arrow)  # of whatever unit they are
    values = values.cast(dtype.arrow_plain)
    return _lists_of(values, _plain(values.flatten(), markers)) if dtype.is_list else _plain(values, markers)


def _plain(values: pa.Array, markers: bool) -> pa.Array:
    if pa.types.is_floating(values.type):
        # -0.0 + 0.0 is 0.0: there is one zero.
        values = pc.add(values, pa.scalar(0.0, values.type))
        return pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    return without_markers(values) if markers else values


def _lists_of(column: pa.Array, values: pa.Array) -> pa.Array:
    """Return the lists of ``column`` with other ``values``, without those that are null."""
    if not values.null_count and not column.null_count:
        return column
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    known = values.is_valid().to_numpy(zero_copy_only=False)
    row_of_value = np.repeat(np.arange(len(column)), lengths)
    counts = np.bincount(row_of_value[known], minlength=len(column))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values.drop_null())
