from collections.abc import Callable

import numpy as np
import pytest

from rf_platform.errors import ConfigError
from rf_serving.index import ExactIndex, IvfPqIndex, VectorIndex, find_device, recall_against_exact
from rf_serving.index.device import device_count
from rf_serving.index.device_codes import device_width, empty_codes, padded_to, parts_of
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
