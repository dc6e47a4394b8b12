from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rf_platform.errors import ConfigError, UsageError
from rf_serving.index import (
    EXACT_LIMIT,
    ExactIndex,
    HnswIndex,
    IvfPqIndex,
    choose_kind,
    open_index,
)
from rf_serving.index.ivf_pq import MOST_LISTS, lists_for

Draw = Callable[..., np.ndarray]


def test_auto_goes_by_size() -> None:
    assert choose_kind("auto", 1) is choose_kind("auto", EXACT_LIMIT) is ExactIndex
    assert choose_kind("auto", EXACT_LIMIT + 1) is choose_kind("auto", 10**9) is IvfPqIndex


def test_a_kind_can_be_named() -> None:
    assert choose_kind("hnsw", 10) is HnswIndex
    assert choose_kind("ivf-pq", 10) is IvfPqIndex
    with pytest.raises(UsageError, match=r"--kind='ivf' .* auto, exact, hnsw, ivf-pq"):
        choose_kind("ivf", 10)


def test_a_kind_of_a_later_version_is_refused(tmp_path: Path, unit: Draw) -> None:
    with pytest.raises(ConfigError, match="kind 'ivf'"):
        open_index("ivf", tmp_path / "x", unit(3))


def test_lists_grow_with_the_root_of_the_catalog() -> None:
    assert [lists_for(n) for n in (1, 100, 100_000, 1_000_000, 10_000_000)] == [1, 3, 1024, 4096, 16_384]
    assert lists_for(10**9) == MOST_LISTS
