"""Arrays of a dataset's events on disk, which loaders memory-map as :class:`~rf_platform.dataset.dataset.Sequences`."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rf_platform.dataset.array_file import ArrayFile
from rf_platform.features.spec import FeatureSpec

_TYPES = {
    "item": np.int32,
    "item_version": np.int32,
    "user_version": np.int32,
    "context": np.int32,
    "timestamp": np.int64,
    "split": np.int8,
}
_EVENTS_AT_ONCE = 200_000


def write_sequences(events: pq.ParquetFile, spec: FeatureSpec, users: int, directory: Path) -> None:
    """Write one file for each array, some events at a time.

    Args:
        events: the enriched events, in order.
        spec: names the numbers of the context.
        users: how many there are.
        directory: where the files go; it is made.
    """
    directory.mkdir()
    total = events.metadata.num_rows
    numeric = [f for f in spec.inputs("context") if f.kind == "numeric"]
    events_per_user = np.zeros(users, np.int64)
    with ExitStack() as stack:
        arrays = {
            name: stack.enter_context(ArrayFile(directory / f"{name}.npy", dtype, (total,)))
            for name, dtype in _TYPES.items()
        }
        shape = (total, len(numeric))
        numbers = stack.enter_context(ArrayFile(directory / "context_numbers.npy", np.float32, shape))
        for batch in events.iter_batches(_EVENTS_AT_ONCE):
            for name in ("item", "item_version", "user_version", "context", "split"):
                arrays[name].write(batch[name].to_numpy(zero_copy_only=False))
            arrays["timestamp"].write(batch["event_timestamp"].cast("int64").to_numpy(zero_copy_only=False))
            values = np.empty((batch.num_rows, len(numeric)), np.float32)
            for j, f in enumerate(numeric):
                column = batch[f.name].cast("float64", safe=False).to_numpy(zero_copy_only=False)
                values[:, j] = np.where(np.isfinite(column), column, np.nan)
            numbers.write(values)
            of_batch = batch["user"].to_numpy(zero_copy_only=False)
            events_per_user += np.bincount(of_batch, minlength=users)
    np.save(directory / "offsets.npy", np.concatenate([[0], np.cumsum(events_per_user)]))
