"""The index in Milvus, against its embedded form as a server: ids, changes, and what happens while it is away."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rf_platform.errors import ConfigError, CorruptError, IndexAwayError
from rf_platform.settings import get_settings
from rf_serving.index import MilvusIndex, exact_search, open_index, recall_against_exact
from rf_serving.index.milvus_server import MOST_RESULTS, MilvusServer
from rf_serving.index.points import MISSING, PointRows, Points, code_of, point_id

Draw = Callable[..., np.ndarray]


def collections() -> set[str]:
    return set(MilvusServer.configured().call("looking", "list_collections"))


def test_the_number_of_a_point_is_the_id_or_its_hash() -> None:
    assert point_id(12) == 12
    assert point_id("a") == point_id("a") != point_id("b")
    assert 0 <= point_id("a") < 1 << 62
    rows = PointRows.of(["b", "a", "c"])
    asked = np.array([[point_id("a"), 5, point_id("c")]])
    assert rows.find(asked, -1).tolist() == [[1, -1, 2]]
    assert PointRows.of([]).find(asked, -1).tolist() == [[-1, -1, -1]]


def test_equal_values_have_equal_codes_and_none_is_the_missing_one() -> None:
    assert code_of(1) == code_of(1.0) != code_of("1")
    assert MISSING not in {code_of(value) for value in (0, "", -1, 0.5)}


@pytest.mark.parametrize("ids", [[7, 3, 10**12, -4], ["x", "y", "", "z"]])
def test_items_are_found_by_any_ids_and_after_opening(milvus: Any, unit: Draw, tmp_path: Path, ids: list[Any]) -> None:
    vectors = unit(4)
    index = MilvusIndex.build_points(vectors, Points(ids=ids))
    index.save(tmp_path / "index.faiss")
    opened = open_index("milvus", tmp_path / "index.faiss", vectors, index.settings)
    for each in (index, opened):
        assert each.search(vectors, 1).rows[:, 0].tolist() == [0, 1, 2, 3]


def test_a_compaction_changes_the_same_collection(milvus: Any, unit: Draw) -> None:
    vectors = unit(6)
    index = MilvusIndex.build_points(vectors, Points(ids=range(6)))
    before = collections()
    # 0 is gone, 5 has another vector, 9 is new.
    ids, new = [1, 2, 3, 4, 5, 9], unit(2, seed=5)
    rows = np.concatenate([vectors[1:5], new])
    live = Points(ids=[5, 9], changes_N=np.array([3, 4]))
    grown = index.grown(rows, ids, live, gone=[0], change=4)
    assert collections() == before
    assert grown.settings["collection"] == index.settings["collection"]
    found = grown.search(rows, 6)
    assert np.array_equal(found.rows, exact_search(rows, rows, 6).rows)
    # A server that has not come so far yet finds what it knows, as long as it is there.
    assert 0 not in index.candidates(vectors[:1], index.efforts.of(6))[0].tolist()


def test_an_earlier_compaction_takes_nothing_from_a_later_one(milvus: Any, unit: Draw) -> None:
    vectors, late, early = unit(3), unit(1, seed=7), unit(1, seed=8)
    index = MilvusIndex.build_points(vectors, Points(ids=range(3)))
    rows = np.concatenate([vectors[:2], late])
    newer = index.grown(rows, [0, 1, 2], Points(ids=[2], changes_N=np.array([9])), gone=[], change=9)
    index.grown(
        np.concatenate([vectors[:2], early]), [0, 1, 2], Points(ids=[2], changes_N=np.array([4])), gone=[], change=4
    )
    index.grown(vectors[:2], [0, 1], Points(ids=[], changes_N=np.zeros(0, np.int64)), gone=[2], change=5)
    assert newer.candidates(late, newer.efforts.of(3))[0][0] == 2


def test_the_recall_is_that_of_every_other_kind(milvus: Any, clustered: Draw) -> None:
    vectors, queries = clustered(2000), clustered(30, seed=1)
    index = MilvusIndex.build(vectors)
    assert recall_against_exact(index, vectors, queries, [20, 100])[100] > 0.95


def test_more_than_milvus_returns_is_scanned(milvus: Any, unit: Draw, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_RESULTS == 16_384
    monkeypatch.setattr("rf_serving.index.milvus.MOST_RESULTS", 10)
    vectors = unit(30)
    index = MilvusIndex.build(vectors)
    assert index.most_results == 10
    for k in (10, 11):
        assert np.array_equal(index.search(vectors[:2], k).rows, exact_search(vectors, vectors[:2], k).rows)


def test_an_index_that_is_not_kept_leaves_nothing(milvus: Any, unit: Draw) -> None:
    before = collections()
    index = MilvusIndex.build(unit(5))
    assert len(collections() - before) == 1
    index.discard()
    assert collections() == before


def test_without_a_url_or_a_collection_it_says_what_to_do(
    milvus: Any, unit: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = MilvusIndex.build(unit(5))
    path = tmp_path / "index.faiss"
    index.save(path)
    with pytest.raises(CorruptError, match="4 rows of 16"):
        open_index("milvus", path, unit(4), index.settings)
    with pytest.raises(ConfigError, match=r"has no collection 'gone'; look at RF_INDEX_URL"):
        open_index("milvus", path, unit(5), index.settings | {"collection": "gone"})
    monkeypatch.delenv("RF_INDEX_URL")
    get_settings.cache_clear()
    with pytest.raises(ConfigError, match="RF_INDEX_URL is not set"):
        open_index("milvus", path, unit(5), index.settings)


def test_while_it_is_away_searches_fail_by_name_and_soon_and_then_work_again(
    milvus: Any, unit: Draw, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    vectors = unit(20)
    index = MilvusIndex.build(vectors)
    index.save(tmp_path / "index.faiss")
    monkeypatch.setattr("rf_serving.index.milvus_server.SEARCH_SECONDS", 0.5)
    monkeypatch.setattr("rf_serving.index.milvus_server.OTHER_SECONDS", 0.5)
    milvus.kill()
    try:
        for _ in range(3):
            with pytest.raises(IndexAwayError, match=f"Milvus at {milvus.url} fails"):
                index.search(vectors, 3)
        begin = time.monotonic()
        with pytest.raises(IndexAwayError, match="is tried again shortly"):
            index.search(vectors, 3)
        assert time.monotonic() - begin < 0.4
        with pytest.raises(
            IndexAwayError, match=r"opening the index: Milvus at .* fails .*start it, or serve a bundle"
        ):
            open_index("milvus", tmp_path / "index.faiss", vectors, index.settings)
    finally:
        milvus.start()
    monkeypatch.setattr("rf_serving.index.milvus_server.SEARCH_SECONDS", 30.0)
    monkeypatch.setattr("rf_serving.index.milvus_server.OTHER_SECONDS", 30.0)
    deadline = time.monotonic() + 60
    while True:
        try:
            found = open_index("milvus", tmp_path / "index.faiss", vectors, index.settings).search(vectors, 1)
            break
        except IndexAwayError:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    assert found.rows[:, 0].tolist() == list(range(20))
