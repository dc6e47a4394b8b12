from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from rf_platform.errors import ConfigError, UnavailableError
from rf_serving.index import (
    Effort,
    Efforts,
    ExactIndex,
    IvfPqIndex,
    VectorIndex,
    exact_search,
    find_device,
    recall_against_exact,
)
from rf_serving.index.device import SCRATCH_BYTES, device_count, device_width, empty_codes, padded_to, parts_of
from rf_serving.index.two_level import centroids

Draw = Callable[..., np.ndarray]
no_device = pytest.mark.skipif(device_count() == 0, reason="FAISS sees no CUDA device")


@pytest.mark.skipif(device_count() > 0, reason="there is a CUDA device")
def test_without_a_device_auto_means_the_cpu() -> None:
    assert find_device("auto") is find_device("cpu") is None
    for asked in ("cuda", "cuda:3"):
        with pytest.raises(ConfigError, match=f"RF_INDEX_DEVICE={asked} is not there"):
            find_device(asked)


@pytest.mark.parametrize("width", [1, 16, 17, 64, 65, 100, 128, 129, 256, 257, 512])
def test_every_width_has_a_code_that_devices_know(width: int) -> None:
    padded = device_width(width)
    assert padded >= width
    assert padded % parts_of(padded) == 0


def test_codes_of_a_device_find_what_the_rows_hold(clustered: Draw) -> None:
    """All but the move to the device: the index that is moved there, filled on the CPU."""
    vectors, queries = clustered(3000, 65), clustered(20, 65, seed=1)
    index = empty_codes(centroids(vectors, 30), vectors)
    index.add(padded_to(vectors, index.d))
    index.nprobe = 30
    found = index.search(padded_to(queries, index.d), 100)[1]
    truth = np.argsort(-(queries @ vectors.T), axis=1)[:, :20]
    assert np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]) > 0.97


@pytest.mark.parametrize("items", [0, 1, 2, 200, 300])
def test_a_catalog_of_few_items_has_codes_of_a_device_too(fake_gpu: Any, unit: Draw, items: int) -> None:
    vectors, queries = unit(items), unit(2, seed=1)
    index = IvfPqIndex.build(vectors)
    index.efforts = Efforts([Effort(k=10, probes=16, refine_k=max(1, items))])  # all lists, all rows
    index.to_device(0)
    found = index.search(queries, 10)
    assert np.array_equal(np.sort(found.scores), np.sort(exact_search(vectors, queries, 10).scores))


def test_all_indexes_of_a_device_share_its_scratch_memory(fake_gpu: Any, unit: Draw) -> None:
    indexes = [ExactIndex.build(unit(100)), ExactIndex.build(unit(50)), IvfPqIndex.build(unit(200))]
    for index in indexes:
        index.to_device(0)
    assert fake_gpu.scratch == [SCRATCH_BYTES]
    indexes[0].to_device(1)
    assert fake_gpu.scratch == [SCRATCH_BYTES] * 2


def test_searches_of_a_device_take_turns_whichever_index_they_ask(fake_gpu: Any, unit: Draw) -> None:
    indexes = [ExactIndex.build(unit(100)), ExactIndex.build(unit(50))]
    for index in indexes:
        index.to_device(0)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda turn: indexes[turn % 2].search(unit(1), 5), range(12)))
    assert len(fake_gpu.asked) == 12
    assert not fake_gpu.overlapped


@pytest.mark.parametrize("kind", [ExactIndex, IvfPqIndex])
@pytest.mark.parametrize("k", [1, 100, 2048, 2049, 2300])
def test_what_a_device_does_not_take_is_searched_on_the_cpu(
    fake_gpu: Any, unit: Draw, kind: type[VectorIndex], k: int
) -> None:
    vectors, queries = unit(2400), unit(3, seed=1)
    index = kind.build(vectors)
    expected = exact_search(vectors, queries, k)
    index.to_device(0)
    found = index.search(queries, k)
    assert found.rows.shape == (3, k)
    if kind is ExactIndex:
        assert np.array_equal(found.rows, expected.rows)
        assert fake_gpu.asked == [k] * (k <= 2048)
    assert all(asked <= 2048 for asked in fake_gpu.asked)


def test_more_lists_than_a_device_probes_are_probed_on_the_cpu(fake_gpu: Any, unit: Draw) -> None:
    index = IvfPqIndex.build(unit(4096), lists=4096)
    index.to_device(0)
    for probes, on_device in ((2048, 1), (2049, 0)):
        fake_gpu.asked.clear()
        index.candidates(unit(2, seed=1), Effort(k=10, probes=probes, refine_k=20))
        assert len(fake_gpu.asked) == on_device


@pytest.mark.parametrize("kind", [ExactIndex, IvfPqIndex])
def test_a_device_without_room_says_what_to_do(fake_gpu: Any, unit: Draw, kind: type[VectorIndex]) -> None:
    index = kind.build(unit(200))
    fake_gpu.room = -1
    with pytest.raises(
        UnavailableError, match=r"copying an index on CUDA device 1: CUDA device 1 has not enough memory \(.*alloc fail"
    ) as error:
        index.to_device(1)
    assert "RF_INDEX_DEVICE=cpu" in str(error.value)
    assert not index.on_device
    assert index.search(unit(1), 3).rows.shape == (1, 3)


@pytest.mark.gpu
@no_device
@pytest.mark.parametrize("asked", ["auto", "cuda", "cuda:0"])
def test_a_device_is_found(asked: str) -> None:
    assert find_device(asked) == 0


@pytest.mark.gpu
@no_device
@pytest.mark.parametrize("kind", [ExactIndex, IvfPqIndex])
@pytest.mark.parametrize("width", [64, 65])
def test_a_device_finds_what_the_cpu_finds(kind: type[VectorIndex], clustered: Draw, width: int) -> None:
    vectors, queries = clustered(20_000, width), clustered(50, width, seed=1)
    index = kind.build(vectors)
    on_cpu = recall_against_exact(index, vectors, queries, [100])[100]
    index.to_device(0)
    on_device = recall_against_exact(index, vectors, queries, [100])[100]
    assert on_device > on_cpu - 0.02
    assert index.search(queries, 5000).rows.shape == (50, 5000)  # more than a device gives
