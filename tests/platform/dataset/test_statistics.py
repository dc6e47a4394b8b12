"""Means and deviations relative to the values, whatever their size."""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.dataset.statistics import learn_encoder
from rf_platform.features.dtype import Dtype
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.field_rule import FieldRule
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec


def learned(directory: Path, values: Sequence[float | None]) -> FeatureEncoder:
    """Learn from one training event of each of some items."""
    rows = range(len(values))
    field = FieldSpec(view="v", field="x", side="item", kind="numeric", role="feature", dtype="Float64")
    spec = FeatureSpec(
        service="s",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=(field,),
        domains=(),
        history_length=5,
    )
    items = {"version": list(rows), "item_id": list(rows), "v__x": pa.array(values, pa.float64())}
    events = {"split": [0] * len(values), "item_version": list(rows), "user_version": [0] * len(values)}
    for name, columns in {"items": items, "users": {"version": [0]}, "events": events}.items():
        pq.write_table(pa.table(columns), directory / f"{name}.parquet")
    with duckdb.connect() as db:
        return learn_encoder(db, spec, directory, [])


@pytest.mark.parametrize("scale", [1e-30, 1e-7, 1.0, 1e9, 1e30])
@pytest.mark.parametrize("offset", [0.0, 1.0, -1e6, 1.7e9])  # in deviations or so; the last is like seconds since 1970
def test_a_deviation_counts_relative_to_the_values(tmp_path: Path, scale: float, offset: float) -> None:
    plain = np.array([-1.0, 0.0, 0.5, 2.0])
    encoder = learned(tmp_path, [float(v) for v in (plain + offset) * scale])
    inputs = encoder.numeric["v__x"].standardise((plain + offset) * scale)
    np.testing.assert_allclose(inputs, (plain - plain.mean()) / plain.std(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("values", [[0.0, 0.0], [5.0, None], [None, None]])
def test_without_a_deviation_no_number_is_unusual(tmp_path: Path, values: list[float | None]) -> None:
    """Such as the first values of a column that had none, or only zeros, when the model was trained."""
    encoder = learned(tmp_path, values)
    encoder.save(tmp_path)
    rule = FieldRule(dtype=Dtype.of("Float64"), numeric=FeatureEncoder.load(encoder.spec, tmp_path).numeric["v__x"])
    for number in (0.0, 15_000.0, -1e30, 1.7e308):
        assert rule.of(number) == number


@pytest.mark.parametrize("value", [0.0, 1e-30, -0.1, 1.7e9, 1e30])
def test_values_that_are_all_equal_have_no_deviation(tmp_path: Path, value: float) -> None:
    for values in ([value] * 3, [value, value * (1 + 2**-52), value]):  # equal but for rounding
        assert learned(tmp_path, values).numeric["v__x"].std == 1.0
