"""Reads of one online store, timed in turns."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, process_time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.features.read import read_spec
from rf_platform.features.seen_rows import drop_seen
from rf_platform.features.store import find_repository, open_store, quiet
from rf_platform.settings import Settings
from rf_serving.user_features.fetcher import FeatureFetcher

_HISTORY = 50
_TOGETHER = 16
_US = pa.timestamp("us", tz="UTC")
FEAST, ONE, MANY = "get_online_features", "one user", f"{_TOGETHER} users together"


@dataclass(frozen=True, kw_only=True)
class FetchResult:
    """One kind of read of one store; times are per user."""

    store: str
    read: str
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    ratio: float = 1.0
    """Speed-up over Feast's call, at the median."""


def measure(home: Path, name: str, url: str | None, *, users: int, reads: int) -> list[FetchResult]:
    """Load made-up users into a store, and read them in three ways.

    Args:
        home: an empty directory.
        name: what the store is called in the results.
        url: of the store; None: SQLite.
        users: how many.
        reads: of each kind.

    Raises:
        ConfigError, UnavailableError: the store cannot be used.
    """
    _write_tables(home / "tables", users)
    shipped = find_repository(Settings(home=home, feature_repo=None))
    repository = home / "feature_repo"
    shutil.copytree(shipped, repository, ignore=shutil.ignore_patterns("__pycache__"))
    config = repository / "feature_store.yaml"
    config.write_text(config.read_text().replace("project: movielens", f"project: rf_bench_{uuid4().hex[:12]}"))
    settings = Settings(home=home, feature_repo=repository, online_store_url=url)
    apply_definitions(settings)
    store = open_store(settings)
    try:
        materialize(settings)
        return _measure(store, read_spec(store, settings.feature_service), name, users, reads)
    finally:
        if url:
            with quiet():
                drop_seen(store, read_spec(store, settings.feature_service))
                store.teardown()


def _measure(store: Any, spec: Any, name: str, users: int, reads: int) -> list[FetchResult]:
    bundle: Any = SimpleNamespace(spec=spec)
    fetcher = FeatureFetcher(store, bundle)
    references = [f"{f.view}:{f.field}" for f in (*spec.inputs("user"), *spec.history)]

    def feast(asked: list[int]) -> None:
        store.get_online_features(
            features=references, entity_rows=[{"user_id": asked[0]}], full_feature_names=True
        ).to_dict()

    kinds: dict[str, tuple[int, Callable[[list[int]], object]]] = {
        FEAST: (1, feast),
        ONE: (1, lambda asked: fetcher.fetch(asked[0])),
        MANY: (_TOGETHER, fetcher.fetch_many),
    }
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    cpu = dict.fromkeys(kinds, 0.0)
    for turn in range(-50, reads):  # the first ones open connections and fill caches
        for kind, (together, read) in kinds.items():
            asked = (1 + rng.choice(users, together, replace=False)).tolist()
            used, begin = process_time(), perf_counter()
            read(asked)
            took, worked = perf_counter() - begin, process_time() - used
            if turn >= 0:
                seconds[kind].append(took / together)
                cpu[kind] += worked / together
    fetcher.close()
    results = [
        FetchResult(
            store=name,
            read=kind,
            p50_ms=1000 * float(np.median(took)),
            p99_ms=1000 * float(np.quantile(took, 0.99)),
            cpu_ms=1000 * cpu[kind] / reads,
        )
        for kind, took in seconds.items()
    ]
    return [replace(each, ratio=results[0].p50_ms / each.p50_ms) for each in results]


def _write_tables(directory: Path, users: int) -> None:
    """Write users with four attributes and 50 events each."""
    directory.mkdir()
    rng = np.random.default_rng(0)
    epoch, start = datetime(1970, 1, 1, tzinfo=UTC), int(datetime(2024, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    ids, count = np.arange(1, users + 1), users * _HISTORY
    items = np.arange(1, 1001)
    pq.write_table(
        pa.table(
            {
                "item_id": items,
                "event_timestamp": pa.array([epoch] * len(items), _US),
                "title": [f"Item {i}" for i in items],
                "genres": [["Drama"]] * len(items),
                "release_year": np.full(len(items), 1999),
                "title_words": [["item"]] * len(items),
            }
        ),
        directory / "items.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "user_id": ids,
                "event_timestamp": pa.array([epoch] * users, _US),
                "gender": rng.choice(["F", "M"], users).tolist(),
                "age_group": rng.choice([18, 25, 35], users),
                "occupation": rng.choice(["artist", "doctor"], users).tolist(),
                "zip_area": rng.choice(list("0123456789"), users).tolist(),
            }
        ),
        directory / "users.parquet",
    )
    times = start + np.tile(np.arange(_HISTORY) * 3_600_000_000, users)
    pq.write_table(
        pa.table(
            {
                "user_id": np.repeat(ids, _HISTORY),
                "item_id": rng.choice(items, count),
                "event_timestamp": pa.array(times, pa.int64()).cast(_US),
                "event_type": ["rating"] * count,
                "rating": pa.array(rng.integers(1, 6, count), pa.float32()),
                "hour": np.tile(np.arange(_HISTORY) % 24, users),
                "weekday": np.tile(np.arange(_HISTORY) // 24 % 7, users),
                "input_order": np.arange(count),
            }
        ),
        directory / "interactions.parquet",
    )
    (directory / "import.json").write_text('{"name": "bench", "feature_repo": "movielens", "time": "observed"}\n')
