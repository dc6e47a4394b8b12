"""Which items pass a condition, against the plain meaning of the words on values that hypothesis chooses."""

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rf_platform.features.dtype import Dtype
from rf_serving.search import Condition
from rf_serving.search.columns import FeatureColumn, ItemColumns
from rf_serving.search.condition import COMPARISONS, PRESENCE, SETS, Clause, Combination, Operator

COMPARE: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.LESS: operator.lt,
    Operator.AT_MOST: operator.le,
    Operator.GREATER: operator.gt,
    Operator.AT_LEAST: operator.ge,
}
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "String": (pa.string(), st.sampled_from(["a", "b", "ab", "é", ""])),
    "Int64": (pa.int64(), st.sampled_from([0, 1, -1, 2**62, -(2**62), 2**53 + 1])),
    "Bool": (pa.bool_(), st.booleans()),
    "Float32": (pa.float32(), st.sampled_from([0.0, -0.0, 0.5, -1.5, math.nan])),
    "Float64": (pa.float64(), st.sampled_from([0.1, -0.0, 0.0, 1e300, math.nan])),
    "UnixTimestamp": (pa.timestamp("us", tz="UTC"), st.sampled_from([0, 1, 10**15])),
    "Array(String)": (pa.list_(pa.string()), st.lists(st.sampled_from(["a", "b", "", None]), max_size=3)),
    "Array(Int64)": (pa.list_(pa.int64()), st.lists(st.sampled_from([1, 2, 2**60, None]), max_size=3)),
}


def held(value: Any) -> list[Any]:
    """Return the values an item has, by the words of filter.proto."""
    values = value if isinstance(value, list) else [value]
    return [v for v in values if v is not None and v != "" and not (isinstance(v, float) and math.isnan(v))]


def passes(value: Any, how: Operator, asked: tuple[Any, ...]) -> bool:
    have = held(value)
    if how in COMPARISONS:
        return bool(have) and COMPARE[how](have[0], asked[0])
    return {
        Operator.ANY_OF: any(v in asked for v in have),
        Operator.NONE_OF: not any(v in asked for v in have),
        Operator.ALL_OF: bool(have) and all(a in have for a in asked),
        Operator.PRESENT: bool(have),
        Operator.ABSENT: not have,
    }[how]


@pytest.mark.parametrize("dtype", TYPES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_condition_means_what_the_contract_says(dtype: str, data: st.DataObject) -> None:
    arrow, value = TYPES[dtype]
    rows = data.draw(st.lists(st.none() | value, max_size=12))
    ordered = not dtype.startswith("Array") and dtype not in ("String", "Bool")
    how = data.draw(st.sampled_from([*SETS, *PRESENCE, *(COMPARISONS if ordered else ())]))
    single = (
        value
        if not dtype.startswith("Array")
        else value.flatmap(lambda v: st.sampled_from([*held(v), *held([1, "a"])]))
    )
    known = single.filter(lambda v: bool(held(v)))
    size = 0 if how in PRESENCE else 1 if how in COMPARISONS else data.draw(st.integers(1, 3))
    asked = tuple(data.draw(st.lists(known, min_size=size, max_size=size)))
    column = pa.chunked_array([pa.array(rows[:5], arrow), pa.array(rows[5:], arrow)])
    found = FeatureColumn(lambda: column, Dtype.of(dtype), True).passes(
        Condition(feature="f", operator=how, values=asked)
    )
    assert found.tolist() == [passes(row, how, asked) for row in rows]


@example(2**53 + 1)
@given(st.integers(-(2**63), 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_large_integers_are_compared_exactly(value: int) -> None:
    column = FeatureColumn(lambda: pa.chunked_array([pa.array([value], pa.int64())]), Dtype("Int64"), False)
    for bound, expected in ((value, [False, True]), (value + 1, [True, True]), (value - 1, [False, False])):
        less = [
            column.passes(Condition(feature="f", operator=how, values=(bound,))).item()
            for how in (Operator.LESS, Operator.AT_MOST)
        ]
        assert less == expected


def test_a_feature_that_is_not_there_is_missing_everywhere() -> None:
    column = FeatureColumn(lambda: pa.chunked_array([pa.nulls(3)]), Dtype.of("Array(String)"), True)
    how = {o: column.passes(Condition(feature="f", operator=o, values=("a",))).tolist() for o in (*SETS, *PRESENCE)}
    assert how == {
        Operator.ANY_OF: [False] * 3,
        Operator.NONE_OF: [True] * 3,
        Operator.ALL_OF: [False] * 3,
        Operator.PRESENT: [False] * 3,
        Operator.ABSENT: [True] * 3,
    }


def test_without_markers_an_empty_text_is_a_value() -> None:
    column = FeatureColumn(lambda: pa.chunked_array([pa.array(["", None])]), Dtype("String"), False)
    assert column.passes(Condition(feature="f", operator=Operator.PRESENT)).tolist() == [True, False]
    assert column.passes(Condition(feature="f", operator=Operator.ANY_OF, values=("",))).tolist() == [True, False]


def test_a_million_items_take_milliseconds() -> None:
    from time import thread_time

    rng = np.random.default_rng(0)
    codes = rng.integers(0, 1000, 1_000_000)
    column = FeatureColumn(lambda: pa.chunked_array([pa.array(codes)]), Dtype("Int64"), False)
    asked = Condition(feature="f", operator=Operator.ANY_OF, values=(3, 5, 999))
    assert np.array_equal(column.passes(asked), np.isin(codes, [3, 5, 999]))
    begin = thread_time()
    column.passes(asked)
    assert thread_time() - begin < 0.02


ROWS = {"brand": [None, *"aabbcccccccccccccccc"], "price": [None, *range(20)]}
SINGLE = st.sampled_from(
    [
        Condition(feature="brand", operator=Operator.ANY_OF, values=("a",)),
        Condition(feature="brand", operator=Operator.NONE_OF, values=("b", "c")),
        Condition(feature="price", operator=Operator.LESS, values=(3,)),
        Condition(feature="price", operator=Operator.ABSENT),
    ]
)
CLAUSES: st.SearchStrategy[Clause] = st.recursive(
    SINGLE,
    lambda within: st.builds(
        Combination, parts=st.frozensets(within, min_size=1, max_size=3), any=st.booleans(), negated=st.booleans()
    ),
    max_leaves=5,
)


def holds(clause: Clause, row: int) -> bool:
    if isinstance(clause, Condition):
        return passes(ROWS[clause.feature][row], clause.operator, clause.values)
    found = [holds(part, row) for part in clause.parts]
    return (any(found) if clause.any else all(found)) != clause.negated


@settings(max_examples=100, deadline=None)
@given(clauses=st.frozensets(CLAUSES, min_size=1, max_size=3))
def test_combinations_hold_as_the_words_say(clauses: frozenset[Clause]) -> None:
    arrays = {"brand": pa.chunked_array([ROWS["brand"]]), "price": pa.chunked_array([ROWS["price"]])}
    dtypes = {"brand": Dtype.of("String"), "price": Dtype.of("Int64")}
    columns = ItemColumns(len(ROWS["brand"]), arrays.__getitem__, dtypes, frozenset())
    expected = [row for row in range(len(ROWS["brand"])) if all(holds(clause, row) for clause in clauses)]
    few = columns.few(clauses)  # a list where one of them leaves few rows
    assert np.flatnonzero(columns.all_pass(clauses)).tolist() == expected
    assert few is None or few.tolist() == expected
