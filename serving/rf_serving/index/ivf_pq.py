"""The IVF-PQ index: clusters of 4-bit codes that are scanned fast, and a short list scored exactly (R19).

After Jégou et al., 2011, "Product quantization for nearest neighbor search", with the register-resident tables of André et al.,
2015, "Cache locality is not enough" (FAISS: fast scan).

Shapes: N items, B queries, S candidates, K results, D width, P padded width, C lists.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from rf_platform.cli.console import track
from rf_platform.errors import CorruptError
from rf_serving.index.approximate import ApproximateIndex, Effort, Efforts
from rf_serving.index.device import MOST_RESULTS, DeviceSearch, empty_codes, padded_to
from rf_serving.index.exact import best_of
from rf_serving.index.faiss_library import building, faiss, read_faiss, searching, writing
from rf_serving.index.mapped_lists import attach_lists, lists_path, write_detached, write_lists
from rf_serving.index.two_level import Nearest, centroids, settled
from rf_serving.index.vector_index import Found

CODES = 16
"""Values of a 4-bit code."""
PART_WIDTH = 1
"""Dimensions that share a 4-bit code."""
MOST_LISTS = 16_384
ROWS_PER_LIST = 32
"""Rows of the sample that the lists' centroids are learned from, for each list."""
CODE_SAMPLE = 65_536
"""Rows that the codes are learned from."""
FLAT_LISTS = 1024
"""Up to so many lists all centroids are compared with a query; above, their codes are, and the best of them exactly."""
CENTROIDS_COMPARED = 2
"""Centroids compared exactly with a query, in multiples of the lists probed."""
CENTROIDS_COMPARED_BUILDING = 8
"""The same for a row that looks for the one list it belongs to."""
ROWS_AT_ONCE = 65_536
ROW_COST = 20.0
"""Cost of scoring a row exactly, in codes scanned: the row is somewhere in memory, the codes stand in a line."""
_REFINE_SHARES = (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.25, 2.5, 3, 3.5, 4, 5, 6, 8, 12, 16, 32)


class IvfPqIndex(ApproximateIndex):
    """Coarse clusters of compressed rows: for catalogs that are too large to scan or to link.

    A row's code is of its difference from the centroid of its list. Queries scan the lists with the best centroids, and
    the most promising candidates are scored exactly from the rows themselves. Rows are padded with zeros to a width that divides.
    """

    kind: ClassVar[str] = "ivf-pq"
    title: ClassVar[str] = "IVF-PQ + exact re-scoring"

    def __init__(self, vectors_ND: npt.NDArray[np.float32], efforts: Efforts, base: Any) -> None:
        super().__init__(vectors_ND, efforts)
        self._base = base
        self._width, self._lists = int(base.d), int(base.nlist)
        self._vectors = faiss.swig_ptr(self._vectors_ND)
        self._device: DeviceSearch | None = None

    @classmethod
    def build(cls, vectors_ND: npt.NDArray[np.float32], lists: int | None = None, seed: int = 0) -> Self:
        """Cluster and encode the rows.

        Args:
            vectors_ND: the rows; read some at a time, so a mapped file need not fit into memory.
            lists: number of clusters; default: by the number of rows.
            seed: of the samples and the start of the clustering.
        """
        rows = len(vectors_ND)
        lists = lists or lists_for(rows)
        chunks = range(0, rows, ROWS_AT_ONCE)
        with track("indexing", 3 + len(chunks)) as progress:
            draw = np.random.default_rng(seed)
            sample_SD = _sample(vectors_ND, max(lists * ROWS_PER_LIST, CODE_SAMPLE), draw)
            width = _padded_width(vectors_ND.shape[1])
            centroids_CD = centroids(sample_SD, lists, seed)
            progress.advance(note=f"{len(centroids_CD)} clusters")
            centroids_CP = padded_to(settled(centroids_CD, vectors_ND, _nearest_of(centroids_CD)), width)
            progress.advance(note="settled")
            base = _empty(centroids_CP)
            with building():
                base.train(padded_to(sample_SD[:CODE_SAMPLE], width))
            progress.advance(note="codes")
            for start in chunks:
                with building():
                    base.add(padded_to(vectors_ND[start : start + ROWS_AT_ONCE], width))
                progress.advance()
            if len(centroids_CP) > FLAT_LISTS:
                faiss.downcast_index(base.quantizer).k_factor = CENTROIDS_COMPARED
        return cls(vectors_ND, Efforts([_untuned(base.nlist)]), base)

    def save(self, path: Path) -> None:
        """Write centroids and code books to ``path``, and the lists beside it."""
        with writing(path):
            write_lists(self._base, lists_path(path))
            write_detached(self._base, path)

    @classmethod
    def load(cls, path: Path, vectors_ND: npt.NDArray[np.float32], settings: Mapping[str, Any]) -> Self:
        """Read centroids and code books, and map the lists.

        Raises:
            CorruptError: a file is missing, is no such index, or belongs to other rows.
        """
        base = read_faiss(path)
        if not isinstance(base, faiss.IndexIVFPQFastScan):
            raise CorruptError(f"{path} is no IVF-PQ index; build the bundle again")
        attach_lists(base, lists_path(path))
        index = cls(vectors_ND, Efforts.read(settings) or Efforts([_untuned(base.nlist)]), base)
        if base.ntotal != index.items or base.d != _padded_width(index.dim):
            raise CorruptError(f"{path} is no index of {index.items} rows of {index.dim}; build the bundle again")
        return index

    def search_with(self, queries_BD: npt.NDArray[np.float32], k: int, effort: Effort) -> Found:
        """Return the ``k`` best rows of the short list, by their exact scores."""
        return best_of(self._vectors_ND, queries_BD, self.candidates(queries_BD, effort), k)

    def candidates(self, queries_BD: npt.NDArray[np.float32], effort: Effort) -> npt.NDArray[np.int64]:
        """Return the short list by the codes' scores."""
        length = min(max(effort.refine_k, effort.k), self.items)
        probes = min(effort.probes, self._lists)
        parameters = _probing(probes)
        if self._device is not None and self._device.takes(length, probes):
            return self._device.search(padded_to(queries_BD, self._device.width), length, parameters).rows
        padded_BP = padded_to(queries_BD, self._width)
        rows_BS = np.empty((len(padded_BP), length), np.int64)
        scores_BS = np.empty((len(padded_BP), length), np.float32)
        with searching():
            # Not `search`, which checks and converts for a tenth of the time.
            self._base.search_c(
                len(padded_BP),
                faiss.swig_ptr(padded_BP),
                length,
                faiss.swig_ptr(scores_BS),
                faiss.swig_ptr(rows_BS),
                parameters,
            )
        return rows_BS

    def to_device(self, number: int) -> None:
        """Encode the rows anew on a CUDA device, into the same lists; its kernels take codes of 8 bits.

        More candidates or lists than a device takes are searched on the CPU.
        """
        with building():
            codes = empty_codes(_centroids(self._base), self._vectors_ND)
        device = DeviceSearch(codes, number)
        for start in range(0, self.items, ROWS_AT_ONCE):
            device.add(padded_to(self._vectors_ND[start : start + ROWS_AT_ONCE], device.width))
        self._device = device

    @property
    def on_device(self) -> bool:
        """Whether a CUDA device searches."""
        return self._device is not None

    @property
    def most_results(self) -> float:
        """Most results of a device; the CPU scans for more."""
        return MOST_RESULTS if self.on_device else math.inf

    def probes(self, k: int) -> Sequence[int]:
        """Return numbers of lists, up to all: powers of two and what lies half-way."""
        lists = self._base.nlist
        rising = [step for power in range(lists.bit_length()) for step in (1 << power, 3 << power >> 1) if step < lists]
        return [*sorted(set(rising)), lists]

    def refine_ks(self, k: int) -> Sequence[int]:
        """Return one to many times ``k``."""
        return sorted({min(int(k * share), self.items) for share in _REFINE_SHARES})

    def cost(self, effort: Effort) -> float:
        """Return the codes scanned, with what the rows scored exactly cost in codes."""
        return effort.probes * self.items / int(self._base.nlist) + ROW_COST * effort.refine_k

    @property
    def settings(self) -> dict[str, Any]:
        """Number of lists, bytes of a code, and the tuned efforts; ``probes`` is lists probed."""
        return {
            "lists": int(self._base.nlist),
            "code_bytes": int(self._base.code_size),
            "efforts": self.efforts.plain(),
        }


def lists_for(rows: int) -> int:
    """Return the number of lists: a power of two near 4 sqrt(N), with 32 rows or more to learn a centroid from."""
    power = round(math.log2(4 * max(1, rows) ** 0.5))
    return max(1, min(1 << power, MOST_LISTS, rows // ROWS_PER_LIST))


def _coarse(centroids_CP: npt.NDArray[np.float32]) -> Any:
    """Return what finds the lists of a row or a query: compares all centroids, or, of many, all of their codes first."""
    lists, width = centroids_CP.shape
    coarse = faiss.IndexFlatIP(width)
    if lists > FLAT_LISTS:
        codes = faiss.IndexPQFastScan(width, width, 4, faiss.METRIC_INNER_PRODUCT)
        codes.pq.cp.min_points_per_centroid = 1
        coarse = faiss.IndexRefineFlat(codes)
        coarse.k_factor = CENTROIDS_COMPARED_BUILDING
        codes.this.disown()
        coarse.own_fields = True
        coarse.train(centroids_CP)
    coarse.add(centroids_CP)
    return coarse


def _nearest_of(centroids_CD: npt.NDArray[np.float32]) -> Nearest:
    """Return what finds the centroid with the largest dot product."""
    width = _padded_width(centroids_CD.shape[1])
    coarse = _coarse(padded_to(centroids_CD, width))

    def nearest(rows_SD: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
        with building():
            found_S: npt.NDArray[np.int64] = coarse.search(padded_to(rows_SD, width), 1)[1][:, 0]
        return found_S

    return nearest


def _empty(centroids_CP: npt.NDArray[np.float32]) -> Any:
    """Return an index of no rows with the given lists, its codes not learned yet."""
    lists, width = centroids_CP.shape
    coarse = _coarse(centroids_CP)
    parts = width // PART_WIDTH
    base = faiss.IndexIVFPQFastScan(coarse, width, lists, parts, 4, faiss.METRIC_INNER_PRODUCT)
    base.pq.cp.min_points_per_centroid = 1
    base.by_residual = True  # costs nothing with dot products: the tables are the same for all lists
    coarse.this.disown()
    base.own_fields = True
    return base


def _centroids(base: Any) -> npt.NDArray[np.float32]:
    """Return the lists' centroids [C, P], in their order."""
    found: npt.NDArray[np.float32] = faiss.downcast_index(base.quantizer).reconstruct_n(0, base.nlist)
    return found


def _untuned(lists: int) -> Effort:
    """Return what finds most on most data."""
    return Effort(k=100, probes=max(1, lists // 64), refine_k=1000)


def _sample(vectors_ND: npt.NDArray[np.float32], count: int, draw: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return ``count`` random rows, or all, in random order; a row more than once where there are very few, zeros without any."""
    if len(vectors_ND) == 0:
        return np.zeros((CODES, vectors_ND.shape[1]), np.float32)
    rows = draw.permutation(len(vectors_ND))[:count]
    sample_SD: npt.NDArray[np.float32] = vectors_ND[np.sort(rows)]
    return sample_SD[draw.permutation(max(len(sample_SD), CODES)) % len(sample_SD)]


@cache
def _probing(probes: int) -> Any:
    """Return the parameters of a search in so many lists, which take as long to make as a tenth of the search."""
    return faiss.SearchParametersIVF(nprobe=probes)


def _padded_width(width: int) -> int:
    """Return the width with the zeros that make it an even number of parts: FAISS reads two codes from a byte."""
    return -(-width // (2 * PART_WIDTH)) * 2 * PART_WIDTH
