"""A NumPy array on disk that is written part by part and read piece by piece."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

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
