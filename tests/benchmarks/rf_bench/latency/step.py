"""The steps of the benchmark, each in a process of its own: ``python -m rf_bench.latency.step NAME DIRECTORY ITEMS``.

A process that only searches shows what searching needs, and one that fails takes no other figures with it. Results are JSON files
in the directory of the size, so that an interrupted benchmark goes on where it stopped.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from rf_bench.latency.memory import memory_of
from rf_bench.latency.options import RESULTS, LatencyOptions
from rf_bench.latency.search import measure_search
from rf_platform.cli.console import track
from rf_platform.peak_memory import peak_bytes
from rf_serving.index import INDEX_KINDS, ApproximateIndex, VectorIndex, open_index, tune
from rf_serving.index.faiss_library import faiss

VECTORS, QUERIES, OPTIONS, TOWERS = "vectors.npy", "queries.npy", "options.json", "towers"
NEIGHBOURS_SHOWN = (1, 10, 100)


@dataclass(frozen=True, kw_only=True)
class Site:
    """Directory and size of a step."""

    root: Path
    """The benchmark's directory, with its options and the towers."""
    items: int

    @property
    def directory(self) -> Path:
        """Files of this size."""
        return self.root / str(self.items)

    @property
    def options(self) -> LatencyOptions:
        """The options of the benchmark."""
        return LatencyOptions.read(self.root / OPTIONS)

    def vectors(self) -> np.ndarray:
        """Return the catalog, memory-mapped."""
        vectors_ND: np.ndarray = np.load(self.directory / VECTORS, mmap_mode="r")
        return vectors_ND

    def queries(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the queries that are timed, and those that tune."""
        queries_BD = np.load(self.directory / QUERIES)
        return queries_BD[::2], queries_BD[1::2]

    def index_path(self, kind: str) -> Path:
        """Return where an index is saved."""
        return self.directory / f"{kind}.faiss"

    def open(self, kind: str) -> VectorIndex:
        """Open an index that was built before."""
        built = json.loads((self.directory / f"build-{kind}.json").read_text())
        return open_index(kind, self.index_path(kind), self.vectors(), built["settings"], self.options.device)


def prepare_vectors(site: Site) -> dict[str, Any]:
    """Encode the catalog and the queries."""
    # Here and not above: only this step needs torch, which takes seconds to load and counts as memory.
    import torch

    from rf_bench.latency.towers import item_vectors, query_vectors, trained_towers
    from rf_bench.latency.world import CHUNK, World

    options = site.options
    torch.set_num_threads(options.threads)
    world = World(options.seed)
    model = trained_towers(world, options.dim, options.training_steps, site.root / TOWERS)
    begin, cpu = perf_counter(), process_time()
    vectors_ND = np.lib.format.open_memmap(
        site.directory / VECTORS, mode="w+", dtype=np.float32, shape=(site.items, options.dim)
    )
    start = 0
    with track("encoding items", -(-site.items // CHUNK)) as progress:
        for part_ND in item_vectors(model, world, site.items, CHUNK):
            vectors_ND[start : start + len(part_ND)] = part_ND
            start += len(part_ND)
            progress.advance()
    vectors_ND.flush()
    seconds, cpu_seconds = perf_counter() - begin, process_time() - cpu
    queries_BD = query_vectors(model, world, site.items, 2 * options.queries)
    np.save(site.directory / QUERIES, queries_BD)
    best = faiss.knn(queries_BD[:100], vectors_ND, RESULTS, metric=faiss.METRIC_INNER_PRODUCT)[0].mean(axis=0)
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak_bytes(),
        "similarity_to_the": {str(place): float(best[place - 1]) for place in NEIGHBOURS_SHOWN},
    }


def build(kind: str) -> Callable[[Site], dict[str, Any]]:
    """Return the step that builds, tunes and saves an index."""

    def step(site: Site) -> dict[str, Any]:
        options = site.options
        faiss.omp_set_num_threads(options.threads)
        vectors_ND, (_, tuning_BD) = site.vectors(), site.queries()
        begin, cpu = perf_counter(), process_time()
        index = INDEX_KINDS[kind].build(vectors_ND)
        built, cpu_built = perf_counter(), process_time()
        if isinstance(index, ApproximateIndex):
            tune(index, vectors_ND, tuning_BD, options.recall, numbers=(RESULTS,))
        tuned, cpu_tuned = perf_counter(), process_time()
        index.save(site.index_path(kind))
        return {
            "seconds": built - begin,
            "cpu_seconds": cpu_built - cpu,
            "tune_seconds": tuned - built,
            "tune_cpu_seconds": cpu_tuned - cpu_built,
            "threads": options.threads,
            "peak_bytes": peak_bytes(),
            "index_bytes": sum(f.stat().st_size for f in site.directory.glob(f"{kind}.*")),
            "vectors_bytes": vectors_ND.nbytes,
            "settings": index.settings,
        }

    return step


def memory(kind: str) -> Callable[[Site], dict[str, Any]]:
    """Return the step that shows what a process holds which searches with one index."""

    def step(site: Site) -> dict[str, Any]:
        faiss.omp_set_num_threads(1)
        timed_BD, _ = site.queries()
        return memory_of(lambda: site.open(kind), timed_BD, RESULTS, site.directory)

    return step


def search(site: Site) -> dict[str, Any]:
    """Time single queries on one thread, the kinds taking turns."""
    faiss.omp_set_num_threads(1)
    options = site.options
    timed_BD, _ = site.queries()
    indexes = {kind: site.open(kind) for kind in options.kinds_for(site.items)}
    return measure_search(indexes, site.vectors(), timed_BD, options.rounds, options.threads)


def steps_for(options: LatencyOptions, items: int) -> dict[str, Callable[[Site], dict[str, Any]]]:
    """Return the steps of a size in their order, by name."""
    kinds = options.kinds_for(items)
    return {
        "vectors": prepare_vectors,
        **{f"build-{kind}": build(kind) for kind in kinds},
        **{f"memory-{kind}": memory(kind) for kind in kinds},
        "search": search,
    }


def main() -> None:
    """Run one step and keep its result."""
    name, root, items = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    site = Site(root=root, items=items)
    result = steps_for(site.options, items)[name](site)
    part = site.directory / f"{name}.part"
    part.write_text(json.dumps(result, indent=2) + "\n")
    part.replace(site.directory / f"{name}.json")


if __name__ == "__main__":
    main()
