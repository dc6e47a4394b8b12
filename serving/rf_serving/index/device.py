"""Search on a CUDA device, where FAISS was built for one and sees one, and an IVF-PQ index as a device takes it.

FAISS's 4-bit fast scan is a kernel for CPUs. On a device the same clusters hold product-quantised codes of a byte for some
dimensions; the short list they give is scored exactly like that of the CPU.

Shapes: N items, B queries, K results, D width, P padded width, C lists.
"""

from contextlib import AbstractContextManager
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.errors import ConfigError, UnavailableError
from rf_serving.index.faiss_library import faiss, faiss_errors
from rf_serving.index.vector_index import Found

MOST_RESULTS = 2048
"""FAISS's GPU kernels return no more results, and probe no more lists, than this."""
SCRATCH_BYTES = 256 << 20
"""Scratch memory of a device in each process; FAISS takes 1.5 GiB for every index. What needs more is done in parts."""


def device_count() -> int:
    """Return how many CUDA devices FAISS can use; 0 where it was built for the CPU."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "StandardGpuResources") else 0


def find_device(asked: str) -> int | None:
    """Return the number of the CUDA device that ``RF_INDEX_DEVICE`` asks for, None for the CPU.

    Args:
        asked: ``auto`` for the first device if there is one, ``cpu``, ``cuda`` for the first device or ``cuda:N``.

    Raises:
        ConfigError: that device is not there.
    """
    count = device_count()
    if asked == "cpu" or (asked == "auto" and count == 0):
        return None
    number = int(asked.partition(":")[2] or 0)
    if number >= count:
        built = (
            "has no support for GPUs" if not hasattr(faiss, "StandardGpuResources") else f"sees {count} CUDA devices"
        )
        raise ConfigError(
            f"RF_INDEX_DEVICE={asked} is not there: FAISS {built}; `make install-gpu`, or use RF_INDEX_DEVICE=cpu"
        )
    return number


class Device:
    """A CUDA device as all indexes of this process share it: one set of FAISS resources, with bounded scratch memory.

    Scratch memory belongs to one search at a time, so searches take turns, whichever index they ask. The old and the new bundle
    of a change, and the bundles of a split, have no memory of their own but for their rows.
    """

    def __init__(self, number: int) -> None:
        self.name = f"CUDA device {number}"
        self._number, self._turn = number, Lock()
        self._resources = faiss.StandardGpuResources()
        self._resources.setTempMemory(SCRATCH_BYTES)

    @classmethod
    def of(cls, number: int) -> "Device":
        """Return the device of a number, the same object each time."""
        with _LOCK:
            if number not in _devices:
                with faiss_errors("preparing a device", "search on the CPU with RF_INDEX_DEVICE=cpu", where="it"):
                    _devices[number] = cls(number)
            return _devices[number]

    def copy_of(self, index: Any) -> Any:
        """Copy an index to the device."""
        with self.failing("copying an index"), self._turn:
            return faiss.index_cpu_to_gpu(self._resources, self._number, index)

    def add(self, index: Any, rows_ND: npt.NDArray[np.float32]) -> None:
        """Add rows to an index on the device."""
        with self.failing("copying rows"), self._turn:
            index.add(rows_ND)

    def search(self, index: Any, queries_BD: npt.NDArray[np.float32], k: int, parameters: Any = None) -> Found:
        """Return the ``k`` best rows of each query in an index on the device, [B, K]."""
        with self.failing("searching"), self._turn:
            scores, rows = index.search(queries_BD, k, params=parameters)
        return Found(rows=rows, scores=scores)

    def failing(self, doing: str) -> AbstractContextManager[None]:
        """Translate what FAISS raises of the device."""
        remedy = "search on the CPU with RF_INDEX_DEVICE=cpu, and look at the device with `nvidia-smi`"
        return faiss_errors(f"{doing} on {self.name}", remedy, UnavailableError, where=self.name)


class DeviceSearch:
    """A copy of a FAISS index on a device."""

    def __init__(self, index: Any, number: int) -> None:
        self._device = Device.of(number)
        self._index = self._device.copy_of(index)

    @property
    def width(self) -> int:
        """Width of the rows."""
        return int(self._index.d)

    def add(self, rows_ND: npt.NDArray[np.float32]) -> None:
        """Add rows."""
        self._device.add(self._index, rows_ND)

    def takes(self, k: int, lists: int = 1) -> bool:
        """Return whether a device can return that many results, and look into that many lists."""
        return 0 < k <= MOST_RESULTS and 0 < lists <= MOST_RESULTS

    def search(self, queries_BD: npt.NDArray[np.float32], k: int, parameters: Any = None) -> Found:
        """Return the ``k`` best rows of each query, [B, K]; only for what it :meth:`takes`."""
        return self._device.search(self._index, queries_BD, k, parameters)


_devices: dict[int, Device] = {}
_LOCK = Lock()


_PARTS = (48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
"""Numbers of bytes in a code that the kernels know and that fit their shared memory; the most first."""
_PART_WIDTHS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)
"""Dimensions to a byte that they know."""
_CODES = 256
"""Values of a byte, each of which is learned from a row or more."""
_SAMPLE = 65_536


def device_width(width: int) -> int:
    """Return the least width, ``width`` or more, that is divided into parts of at most four dimensions, or any where none is."""
    possible = [(parts * wide, wide > 4) for parts in _PARTS for wide in _PART_WIDTHS if parts * wide >= width]
    return min(possible, key=lambda each: (each[1], each[0]))[0]


def padded_to(rows_ND: npt.NDArray[np.float32], width: int) -> npt.NDArray[np.float32]:
    """Return the rows with zeros behind them, [N, P]."""
    missing = width - rows_ND.shape[1]
    return np.ascontiguousarray(np.pad(rows_ND, ((0, 0), (0, missing))) if missing else rows_ND, np.float32)


def empty_codes(centroids_CD: npt.NDArray[np.float32], vectors_ND: npt.NDArray[np.float32]) -> Any:
    """Return a trained ``IndexIVFPQ`` without rows, for ``faiss.index_cpu_to_gpu``; rows are added on the device."""
    width = device_width(centroids_CD.shape[1])
    coarse = faiss.IndexFlatIP(width)
    coarse.add(padded_to(centroids_CD, width))
    index = faiss.IndexIVFPQ(coarse, width, len(centroids_CD), parts_of(width), 8, faiss.METRIC_INNER_PRODUCT)
    coarse.this.disown()
    index.own_fields = True
    index.pq.cp.min_points_per_centroid = 1
    index.train(padded_to(_sample(vectors_ND), width))
    return index


def _sample(vectors_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return rows to learn codes from, spread evenly: some more than once where there are fewer than codes, zeros without any."""
    if len(vectors_ND) == 0:
        return np.zeros((_CODES, vectors_ND.shape[1]), np.float32)
    count = max(_CODES, min(_SAMPLE, len(vectors_ND)))
    sample_SD: npt.NDArray[np.float32] = vectors_ND[np.linspace(0, len(vectors_ND) - 1, count).astype(np.int64)]
    return sample_SD


def parts_of(width: int) -> int:
    """Return the most bytes of a code that a padded width can be divided into."""
    return next(parts for parts in _PARTS if width % parts == 0 and width // parts in _PART_WIDTHS)
