"""What tests of several packages share: tiny tables in the form `rf data import` writes."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

MICROSECONDS = pa.timestamp("us", tz="UTC")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2024, 1, 1, tzinfo=UTC)
GENRES = np.array(["Action", "Comedy", "Drama", "Horror", "Western"])


def _write_tables(directory: Path, users: int = 24, items: int = 40, events: int = 12, seed: int = 0) -> None:
    """Write MovieLens-like tables in which each user keeps to one genre, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    genre = np.arange(items) % len(GENRES)
    pq.write_table(
        pa.table(
            {
                "item_id": pa.array(np.arange(items) + 100),
                "event_timestamp": pa.array([EPOCH] * items, MICROSECONDS),
                "title": [f"Movie {i}" for i in range(items)],
                "genres": [[str(GENRES[g])] + (["Classic"] if i % 4 == 0 else []) for i, g in enumerate(genre)],
                "release_year": pa.array([None if i == 3 else 1990 + i % 7 for i in range(items)], pa.int64()),
                "title_words": [["movie", f"w{i % 6}"] for i in range(items)],
            }
        ),
        directory / "items.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "user_id": pa.array(np.arange(users) + 1),
                "event_timestamp": pa.array([EPOCH] * users, MICROSECONDS),
                "gender": ["M" if u % 2 else "F" for u in range(users)],
                "age_group": pa.array([18 if u % 3 else 35 for u in range(users)]),
                "occupation": ["writer" if u % 5 else None for u in range(users)],
                "zip_area": [str(u % 10) for u in range(users)],
            }
        ),
        directory / "users.parquet",
    )
    rows = []
    for u in range(users):
        own = np.flatnonzero(genre == u % len(GENRES))
        other = np.flatnonzero(genre != u % len(GENRES))
        picks = [*rng.permutation(own)[: events - 4], *rng.choice(other, 4, replace=False)]
        for position, i in enumerate(rng.permutation(picks)):
            when = START + timedelta(hours=int(u) + 7 * position)
            rows.append((u + 1, int(i) + 100, when, float(rng.integers(1, 6))))
    times = [r[2] for r in rows]
    pq.write_table(
        pa.table(
            {
                "user_id": [r[0] for r in rows],
                "item_id": [r[1] for r in rows],
                "event_timestamp": pa.array(times, MICROSECONDS),
                "event_type": ["rating"] * len(rows),
                "rating": pa.array([r[3] for r in rows], pa.float32()),
                "hour": [t.hour for t in times],
                "weekday": [t.weekday() for t in times],
                "input_order": list(range(len(rows))),
            }
        ),
        directory / "interactions.parquet",
    )
    (directory / "import.json").write_text('{"name": "tiny", "feature_repo": "movielens", "time": "observed"}\n')


@pytest.fixture(scope="session")
def write_tables() -> Callable[..., None]:
    """Write tiny tables into a directory: ``write_tables(directory, users=24, items=40, events=12, seed=0)``."""
    return _write_tables
