"""All sizes, one after the other, step by step in processes of their own."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rf_bench.latency.options import LatencyOptions, size_name
from rf_bench.latency.step import OPTIONS, QUERIES, TOWERS, VECTORS, Site, steps_for
from rf_bench.latency.world import TAGS, TEXT_WIDTH, TOPICS
from rf_platform.cli.console import say
from rf_platform.errors import RunError, UsageError
from rf_serving.index.faiss_library import faiss

TARGET = {"items": 10_000_000, "recall": 0.95, "speedup": 288.0}
"""Target of IVF-PQ: times faster than the exact scan at that recall@100."""


def benchmark(options: LatencyOptions, root: Path, *, fresh: bool = False, keep: bool = False) -> dict[str, Any]:
    """Measure every size and return all results; those of steps that were finished before are taken as they are.

    Args:
        options: sizes and kinds.
        root: directory for results, and for vectors and indexes while they are needed.
        fresh: forget what was measured before.
        keep: leave vectors and indexes of finished sizes on disk.

    Raises:
        UsageError: the directory has results of other options.
        RunError: a step failed; what it said stands above.
    """
    root.mkdir(parents=True, exist_ok=True)
    if fresh:
        for path in (root / str(items) for items in options.sizes):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(root / TOWERS, ignore_errors=True)
        (root / OPTIONS).unlink(missing_ok=True)
    _claim(options, root)
    sizes = []
    for items in options.sizes:
        site = Site(root=root, items=items)
        site.directory.mkdir(exist_ok=True)
        if not (site.directory / "search.json").exists():
            for name in steps_for(options, items):
                if not (site.directory / f"{name}.json").exists():
                    _run(name, site, options.threads)
        sizes.append(_collect(site, options))
        if not keep:
            for pattern in (VECTORS, QUERIES, "*.faiss", "*.lists"):
                for file in site.directory.glob(pattern):
                    file.unlink()
    return {
        "options": json.loads(options.to_json()),
        "faiss": f"{faiss.__version__} ({faiss.get_compile_options().strip()})",
        "catalog": f"{TOPICS:,} topics, {TAGS:,} tags, brands and prices with Zipf's law, texts of {TEXT_WIDTH} numbers, encoded "
        f"by a RetrievalFormer of width {options.dim} trained on users of this catalog; queries are other users' vectors",
        "sizes": sizes,
        "target": _target(sizes),
    }


def _claim(options: LatencyOptions, root: Path) -> None:
    """Write the options, or refuse to add to results that were made with others."""
    path = root / OPTIONS
    if path.exists():
        before = LatencyOptions.read(path)
        free = ("sizes", "kinds")  # more of them may be measured later
        changed = [
            f"{name}={getattr(before, name)}"
            for name in asdict(options)
            if name not in free and getattr(before, name) != getattr(options, name)
        ]
        kinds_differ = [
            items
            for items in options.sizes
            if (root / str(items) / "search.json").exists() and before.kinds_for(items) != options.kinds_for(items)
        ]
        if changed or kinds_differ:
            what = ", ".join(changed) or f"kinds={','.join(before.kinds)}"
            raise UsageError(f"{root} has results of {what}; use another --output, or --fresh to measure anew")
    path.write_text(options.to_json() + "\n")


def _run(name: str, site: Site, threads: int) -> None:
    """Run a step in a process of its own; it prints its progress itself."""
    say(f"{size_name(site.items)} items: {name}", err=True)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-m", "rf_bench.latency.step", name, str(site.root), str(site.items)]
    code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        reason = f"signal {-code}, which for 9 means too little memory" if code < 0 else f"exit code {code}"
        raise RunError(f"step {name} of {site.items:,} items ended with {reason}; the same command goes on from there")


def _collect(site: Site, options: LatencyOptions) -> dict[str, Any]:
    """Put the results of a size together."""

    def read(name: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((site.directory / f"{name}.json").read_text())
        return result

    searched = read("search")
    return {
        "items": site.items,
        "vectors": read("vectors"),
        "kinds": {
            kind: {**searched[kind], "build": read(f"build-{kind}"), "memory": read(f"memory-{kind}")}
            for kind in options.kinds_for(site.items)
        },
        "not_run": [kind for kind in options.kinds if kind not in options.kinds_for(site.items)],
    }


def _target(sizes: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Say how far the target is met; None without a catalog of that size."""
    size = next((size for size in sizes if size["items"] == TARGET["items"]), None)
    if size is None or "ivf-pq" not in size["kinds"]:
        return None
    kind = size["kinds"]["ivf-pq"]
    speedup, recall = kind["speedup"]["p50"], kind["recall"]["100"]
    return {
        **TARGET,
        "measured_speedup": speedup,
        "measured_recall": recall,
        "met": speedup >= TARGET["speedup"] and recall >= TARGET["recall"],
    }
