"""NumPy arrays on disk that are written part by part and read piece by piece, those of a dataset's events among them."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from rf_platform.features.spec import FeatureSpec

_BYTES_AT_ONCE = 1 << 23


class ArrayFile:
    """An ``.npy`` file that is written from front to back.

    Nothing that is written stays in memory, while the pages of a writable map do until the system takes them away.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        """``shape`` is that of the whole array; :meth:`write` takes its rows in order."""
        self._file, self._dtype, self._shape, self.rows = path.open("wb"), np.dtype(dtype), shape, 0
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "ArrayFile":
        """Return the file."""
        return self

    def write(self, rows: npt.NDArray[np.generic]) -> None:
        """Append rows, cast to the type of the array."""
        assert rows.shape[1:] == self._shape[1:]
        self._file.write(np.ascontiguousarray(rows, self._dtype).data)
        self.rows += len(rows)

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Close the file, which must be complete."""
        self._file.close()
        assert failed is not None or self.rows == self._shape[0], f"{self.rows} of {self._shape[0]} rows were written"


def data_bytes(path: Path) -> Iterator[bytes]:
    """Yield the values of an ``.npy`` file, in C order, as the bytes they are stored in."""
    with path.open("rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        left = math.prod(shape) * dtype.itemsize
        while left:
            part = file.read(min(left, _BYTES_AT_ONCE))
            assert part, f"{path} ends {left} bytes early"
            left -= len(part)
            yield part


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
