"""The rows of an IVF-PQ index as a CUDA device takes them: the same lists, with codes of 8 bits.

FAISS's 4-bit fast scan is a kernel for CPUs. On a device the same clusters hold product-quantised codes of a byte for some
dimensions; the short list they give is scored exactly like that of the CPU.

Shapes: N items, B queries, D width, P padded width, C lists.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from rf_serving.index.untyped import faiss

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
