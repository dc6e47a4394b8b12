"""The cache of text vectors: kept, bounded, and never believed where it is damaged."""

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rf_platform.texts.cache import VectorCache

WIDTH = 64


def vectors(*texts: str) -> dict[str, np.ndarray]:
    return {text: np.full(WIDTH, len(text) + ord(text[0]), np.float32) for text in texts}


@pytest.fixture
def cache(tmp_path: Path) -> VectorCache:
    return VectorCache(tmp_path / "cache" / "x.sqlite", 1 << 20)


def test_what_was_put_in_comes_out(cache: VectorCache) -> None:
    assert cache.get(["a"]) == {}
    cache.put(vectors("a", "é" * 300))
    found = VectorCache(cache.path, cache.bound).get(["a", "b", "é" * 300])
    assert {text: v.tolist() for text, v in found.items()} == {
        text: v.tolist() for text, v in vectors("a", "é" * 300).items()
    }


def test_a_damaged_vector_is_none_and_can_be_put_again(cache: VectorCache) -> None:
    cache.put(vectors("a", "b"))
    with closing(sqlite3.connect(cache.path)) as db:
        db.execute("UPDATE vectors SET vector = zeroblob(256) WHERE key = (SELECT min(key) FROM vectors)")
        db.commit()
    (left,) = cache.get(["a", "b"])
    cache.put(vectors("a", "b"))
    assert len(cache.get(["a", "b"])) == 2, left


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_database_is_made_anew(cache: VectorCache, content: bytes) -> None:
    cache.path.parent.mkdir()
    cache.path.write_bytes(content)
    assert cache.get(["a"]) == {}
    cache.put(vectors("a"))
    assert list(cache.get(["a"])) == ["a"]


def test_it_stays_within_its_bound_and_what_is_used_stays(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "x.sqlite", 400_000)
    cache.put(vectors("kept"))
    with closing(sqlite3.connect(cache.path)) as db:
        db.execute("UPDATE vectors SET used = 1")  # long ago
        db.commit()
    cache.put(vectors(*(f"old {i}" for i in range(500))))
    with closing(sqlite3.connect(cache.path)) as db:
        db.execute("UPDATE vectors SET used = 2")
        db.commit()
    assert list(cache.get(["kept"])) == ["kept"]  # and so used today
    cache.put(vectors(*(f"new {i}" for i in range(800))))
    assert len(cache.get(["kept", *(f"new {i}" for i in range(800))])) == 801
    assert len(cache.get([f"old {i}" for i in range(500)])) < 400
    for start in range(1000, 4000, 500):
        cache.put(vectors(*(f"new {i}" for i in range(start, start + 500))))
    assert cache.path.stat().st_size < 600_000  # the bound, and what was put in last


def test_a_bound_of_zero_keeps_nothing(tmp_path: Path) -> None:
    cache = VectorCache(tmp_path / "x.sqlite", 0)
    cache.put(vectors("a"))
    assert not cache.path.exists()


def test_a_place_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = VectorCache(tmp_path / "file" / "x.sqlite", 1 << 20)
    cache.put(vectors("a"))
    assert cache.get(["a"]) == {}
