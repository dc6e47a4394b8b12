"""Mean and deviation beside values that are none."""

from collections.abc import Iterator

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rf_platform.dataset.statistics import Moments, usual_moments


@pytest.fixture(scope="module")
def db() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def moments(db: duckdb.DuckDBPyConnection, values: npt.ArrayLike, weights: list[int] | None = None) -> Moments:
    numbers = np.asarray(values, np.float64)
    db.register("numbers", pa.table({"v": numbers, "n": weights or [1] * len(numbers)}))
    return usual_moments(db, "SELECT v, n FROM numbers")


ORDINARY = {
    "prices with a heavy tail": lambda rng: rng.lognormal(3, 2, 3000),
    "counts": lambda rng: rng.zipf(2.5, 3000).astype(float),
    "a rare event": lambda rng: (rng.random(3000) < 0.002).astype(float),
    "mostly nothing": lambda rng: np.where(rng.random(3000) < 0.95, 0, rng.lognormal(5, 1, 3000)),
    "ratings": lambda rng: rng.integers(1, 6, 3000).astype(float),
    "years and a wrong one": lambda rng: np.append(rng.integers(1950, 2020, 300), 0).astype(float),
    "all the same": lambda rng: np.full(50, 7.25),
    "two values": lambda rng: np.array([1.0, 1e30]),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_numbers_have_the_plain_mean_and_deviation(db: duckdb.DuckDBPyConnection, kind: str) -> None:
    values = ORDINARY[kind](np.random.default_rng(5))  # type: ignore[no-untyped-call]
    found = moments(db, values)
    assert (found.reach, found.left_out) == (None, "")
    assert found.mean == pytest.approx(values.mean(), rel=1e-9)
    assert found.std == pytest.approx(values.std(), rel=1e-6, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(
    few=st.lists(st.sampled_from([1e12, -1e15, 1e30, -1e33, 1e38, 2.0**63, 1e300, -1.7e308]), min_size=1, max_size=4),
    many=st.lists(st.floats(-100, 100), min_size=12, max_size=60).filter(
        lambda v: np.ptp(np.quantile(v, [0.25, 0.75])) > 1
    ),
)
def test_a_few_values_that_are_none_decide_nothing(
    db: duckdb.DuckDBPyConnection, few: list[float], many: list[float]
) -> None:
    assume(np.ptp(np.quantile([*few, *many], [0.25, 0.75])) > 1)  # else the far ones of the many are among the few
    found = moments(db, [*few, *many])
    assert found.mean == pytest.approx(np.mean(many), abs=1e-6)
    assert found.std == pytest.approx(np.std(many), rel=1e-6)
    assert f"{max(few):g}" in found.left_out
    assert found.reach == pytest.approx(max(abs(np.array(few) - found.mean)) / found.std)


def test_values_weigh_as_often_as_training_saw_them(db: duckdb.DuckDBPyConnection) -> None:
    assert moments(db, [1.0, 3.0, 1e30], [30, 10, 1]).mean == pytest.approx(1.5)


def test_without_values_there_is_nothing_to_say(db: duckdb.DuckDBPyConnection) -> None:
    assert moments(db, []) == Moments(0.0, 0.0)
