"""Search on a CUDA device, where FAISS was built for one and sees one.

Shapes: B queries, K results, D width.
"""

from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.errors import ConfigError
from rf_serving.index.untyped import faiss
from rf_serving.index.vector_index import Found

MOST_RESULTS = 2048
"""FAISS's GPU kernels return no more results, and probe no more lists, than this."""


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
            f"RF_INDEX_DEVICE={asked} is not there: FAISS {built}; install the extra 'gpu', or use RF_INDEX_DEVICE=cpu"
        )
    return number


class DeviceSearch:
    """A copy of a FAISS index on a device.

    A device's scratch memory belongs to one search at a time, so searches take turns.
    """

    def __init__(self, index: Any, number: int) -> None:
        self._resources = faiss.StandardGpuResources()
        self.index = faiss.index_cpu_to_gpu(self._resources, number, index)
        self._turn = Lock()

    def takes(self, k: int) -> bool:
        """Return whether a device can return that many results."""
        return 0 < k <= MOST_RESULTS

    def search(self, queries_BD: npt.NDArray[np.float32], k: int, parameters: Any = None) -> Found:
        """Return the ``k`` best rows of each query, [B, K]."""
        with self._turn:
            scores, rows = self.index.search(queries_BD, k, params=parameters)
        return Found(rows=rows, scores=scores)
