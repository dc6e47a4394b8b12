"""One rule for values, whatever door they come through."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_platform.features.dtype import Dtype
from rf_platform.features.encode import BOUND, NumericStats, bounded_vectors
from rf_platform.features.field_rule import EXTREME, FieldRule, UnfitError
from rf_platform.text import BLANKS, trimmed

ARROW = {
    "String": pa.string(),
    "Int32": pa.int32(),
    "Int64": pa.int64(),
    "Bool": pa.bool_(),
    "Float32": pa.float32(),
    "Float64": pa.float64(),
    "UnixTimestamp": pa.timestamp("us", tz="UTC"),
}
DTYPES = [*ARROW, *(f"Array({name})" for name in ("String", "Int32", "Int64", "Float32", "Float64"))]
numbers = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.sampled_from(
        [2**31, -(2**31), 2**63 - 1, 2**63, -(2**63), 3.4e38, 1e39, 5e-324, 1_795_996_115, 1_795_996_115_279]
    ),
)
scalars = st.one_of(st.none(), st.booleans(), st.text(max_size=5), numbers)
values = scalars | st.lists(scalars, max_size=4)


@settings(max_examples=400, deadline=None)
@given(dtype=st.sampled_from(DTYPES), value=values, std=st.sampled_from([1e-6, 1.0, 1e6]), bounded=st.booleans())
def test_what_fits_can_be_stored_and_used_and_fits_again(dtype: str, value: Any, std: float, bounded: bool) -> None:
    stats = NumericStats(0.0, std)
    fit = FieldRule(dtype=Dtype.of(dtype), numeric=stats if bounded else None)
    try:
        found = fit.of(value)
    except UnfitError:
        return
    assert fit.of(found) == found
    assert fit.of(json.loads(json.dumps(found, allow_nan=False))) == found  # the journal and the event log
    if found is None:
        return
    element = dtype.removeprefix("Array(").removesuffix(")")
    plain = [bool(found)] if dtype == "Bool" else found if isinstance(found, list) else [found]
    array = pa.array(plain, ARROW[element])  # tables and stores
    assert array.null_count == 0
    assert array.to_pylist() or dtype == "UnixTimestamp"
    if element in ("Int32", "Int64", "Float32", "Float64"):
        encoded = stats.standardise(np.array(plain, np.float64))
        assert np.isfinite(encoded).all()
        assert np.abs(encoded).max() <= BOUND * (1 + 1e-6)
        assert np.isfinite(bounded_vectors(np.array([plain], np.float64))).all()
        if bounded:
            assert max(abs(each) for each in plain) <= EXTREME * std * 1.001


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("Int32", 2**31, "2147483648 does not fit into 32 bits"),
        ("Int64", 2**63, "does not fit into 64 bits"),
        ("Int64", 1.0, "1.0 is no Int64"),
        ("String", 1.5, "1.5 is no String"),
        ("Float32", 1e39, "1e\\+39 is not a usable number"),
        ("Float64", 10**400, "is not a usable number"),
        ("Float64", math.nan, "nan is not a usable number"),
        ("Bool", 2, "0 or 1 is meant"),
        ("Array(Float32)", [1.0, math.inf], "inf is not a usable number"),
        ("Array(Int64)", 5, "5 is no list"),
        ("UnixTimestamp", 10**18, "no time from the year 1 to 9999"),
        ("UnixTimestamp", 1_795_996_115, "looks like seconds since 1970"),
        ("UnixTimestamp", 1_795_996_115_279, "looks like milliseconds since 1970 .* send 1795996115279000"),
    ],
)
def test_what_does_not_fit_is_said(dtype: str, value: Any, message: str) -> None:
    with pytest.raises(UnfitError, match=message):
        FieldRule(dtype=Dtype.of(dtype)).of(value)


def test_vectors_have_their_width_and_a_bound() -> None:
    fit = FieldRule(dtype=Dtype.of("Array(Float32)"), width=2)
    assert fit.of([1, 2.5]) == [1.0, 2.5]
    assert fit.of([]) is None
    for wrong, message in (
        ([1.0], "1 numbers are given"),
        ([1.0, None], "1 numbers"),
        ([1.0, -1.1e6], "-1100000.0 is not"),
    ):
        with pytest.raises(UnfitError, match=message):
            fit.of(wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 1e39, -1e39])
def test_a_vector_with_a_number_that_is_none_is_no_vector(wrong: float) -> None:
    for vector in ([wrong, 1.0], [1.0, wrong], [wrong, -wrong]):
        with pytest.raises(UnfitError, match="is not a usable number; leave out"):
            FieldRule(dtype=Dtype.of("Array(Float32)"), width=2).of(vector)


def test_numbers_are_bounded_by_what_training_saw() -> None:
    usual = FieldRule(dtype=Dtype.of("Float32"), numeric=NumericStats(10.0, 2.0))
    assert usual.of(10.0 + 2 * EXTREME) == 10.0 + 2 * EXTREME
    with pytest.raises(UnfitError, match=r"1e\+30 is not a usable .* more than 10,000 deviations \(2\) from the mean"):
        usual.of(1e30)
    unlimited = FieldRule(dtype=Dtype.of("Int64"), numeric=NumericStats(10.0, 2.0, reach=(2.0**63 - 10) / 2))
    assert unlimited.of(2**63 - 1) == 2**63 - 1


def test_texts_count_without_white_space_around_them() -> None:
    assert {c for c in map(chr, range(0x110000)) if c.isspace()} <= set(BLANKS)
    assert trimmed(f"{BLANKS}a b{BLANKS}") == "a b"
    assert FieldRule(dtype=Dtype.of("String")).of("\ufeff War\u00a0") == "War"
    assert FieldRule(dtype=Dtype.of("String")).of(" \t") is None
    assert FieldRule(dtype=Dtype.of("Array(String)")).of([" a", "", "b\n"]) == ["a", "b"]


def test_a_date_in_the_first_weeks_of_1970_is_no_mistake() -> None:
    for moment in (
        datetime(1970, 1, 21, tzinfo=UTC),
        datetime(1969, 12, 31, tzinfo=UTC),
        datetime(2024, 1, 1, 3, tzinfo=UTC),
    ):
        us = round(moment.timestamp() * 1e6)
        assert FieldRule(dtype=Dtype.of("UnixTimestamp")).of(us) == us
