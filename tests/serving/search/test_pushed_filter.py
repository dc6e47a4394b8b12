"""Filters that an engine applies: what passes there is what passes here, for every operator."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from rf_platform.features.compared import compared_values, filterable, marked
from rf_serving.index import MilvusIndex
from rf_serving.index.points import Points, pushed_fields
from rf_serving.search.columns import ItemColumns
from rf_serving.search.condition import Clause, Combination, Condition, ItemFilter, Operator
from rf_serving.search.costs import SearchCosts
from rf_serving.search.eligibility import NO_ROWS, Eligibility
from rf_serving.search.pushed_filter import expression_of
from rf_serving.search.searcher import Search, Searcher

COLUMNS: dict[str, list[Any]] = {
    "item__brand": ["acme", None, "", 'o"neil', "acme", "ümlaut"],
    "item__tags": [["a", "b"], [], None, ["b"], ["a", "a", "c"], [""]],
    "item__codes": [[1, 2**40], [2], [], None, [-5], [1]],
    "item__year": [1990, None, 2000, -(2**31), 2**53 + 1, 0],
    "item__fresh": [True, False, None, True, False, True],
    "item__price": [1.5, float("nan"), None, -0.0, 2.25, 1e9],
    "item__weight": [0.1, 0.2, None, 3.0, -1.0, 0.0],
}
CONDITIONS = [
    Condition(feature="item__brand", operator=Operator.ANY_OF, values=("acme", 'o"neil')),
    Condition(feature="item__brand", operator=Operator.NONE_OF, values=("acme",)),
    Condition(feature="item__brand", operator=Operator.ALL_OF, values=("acme", "ümlaut")),
    Condition(feature="item__brand", operator=Operator.PRESENT),
    Condition(feature="item__brand", operator=Operator.ABSENT),
    Condition(feature="item__tags", operator=Operator.ANY_OF, values=("a", "c")),
    Condition(feature="item__tags", operator=Operator.ALL_OF, values=("a", "b")),
    Condition(feature="item__tags", operator=Operator.NONE_OF, values=("b",)),
    Condition(feature="item__tags", operator=Operator.PRESENT),
    Condition(feature="item__tags", operator=Operator.ABSENT),
    Condition(feature="item__codes", operator=Operator.ANY_OF, values=(1, 2**40)),
    Condition(feature="item__codes", operator=Operator.ALL_OF, values=(1, 2**40)),
    Condition(feature="item__year", operator=Operator.LESS, values=(2000,)),
    Condition(feature="item__year", operator=Operator.AT_MOST, values=(2000,)),
    Condition(feature="item__year", operator=Operator.GREATER, values=(2**53,)),
    Condition(feature="item__year", operator=Operator.AT_LEAST, values=(0,)),
    Condition(feature="item__year", operator=Operator.ANY_OF, values=(0, 1990)),
    Condition(feature="item__fresh", operator=Operator.ANY_OF, values=(1,)),
    Condition(feature="item__price", operator=Operator.ANY_OF, values=(0.0, 2.25)),
    Condition(feature="item__price", operator=Operator.LESS, values=(1.5,)),
    Condition(feature="item__weight", operator=Operator.GREATER, values=(-0.5,)),
    Condition(feature="item__weight", operator=Operator.ABSENT),
]
COMBINED = Combination(
    parts=frozenset({CONDITIONS[0], Combination(parts=frozenset({CONDITIONS[5], CONDITIONS[12]}), negated=True)}),
    any=True,
)


@pytest.fixture
def spec(make_spec: Callable[..., Any]) -> Any:
    return make_spec(*COLUMNS)


@pytest.fixture
def stored(spec: Any) -> Points:
    dtypes, markers = filterable(spec), marked(spec)
    fields = pushed_fields(dtypes)
    columns = {
        each.feature: compared_values(
            pa.chunked_array([pa.array(COLUMNS[each.feature], each.dtype.arrow)]),
            each.dtype,
            markers=each.feature in markers,
        )
        for each in fields
    }
    return Points(ids=range(6), fields=fields, columns=columns)


def passing(spec: Any, clause: Clause) -> list[int]:
    dtypes = filterable(spec)
    columns = ItemColumns(
        6,
        lambda name: pa.chunked_array([pa.array(COLUMNS[name], dtypes[name].arrow)]),
        dtypes,
        marked(spec),
    )
    return np.flatnonzero(columns.passes(clause)).tolist()


def test_the_engine_passes_what_the_server_passes(milvus: Any, spec: Any, stored: Points) -> None:
    vectors = np.eye(6, 8, dtype=np.float32)
    index = MilvusIndex.build_points(vectors, stored)
    clauses: list[Clause] = [*CONDITIONS, COMBINED, Combination(parts=frozenset(CONDITIONS[12:14]))]
    for clause in clauses:
        expression = expression_of([clause], index.fields)
        assert expression is not None
        rows = index.search_where(vectors[:1], 6, expression).rows[0]
        assert sorted(rows[rows >= 0].tolist()) == passing(spec, clause), expression


def test_what_the_engine_has_not_stored_is_not_pushed(stored: Points) -> None:
    unknown = Condition(feature="item__other", operator=Operator.PRESENT)
    assert expression_of([CONDITIONS[0], unknown], stored.fields) is None
    assert expression_of([Combination(parts=frozenset({CONDITIONS[0], unknown}), any=True)], stored.fields) is None
    assert expression_of([], stored.fields) is None


def test_dense_vectors_are_not_stored(make_spec: Callable[..., Any]) -> None:
    assert [each.feature for each in pushed_fields(filterable(make_spec("item__text", "item__year")))] == ["item__year"]


def test_answers_are_full_and_right_whatever_the_engine_finds(
    milvus: Any,
    make_spec: Callable[..., Any],
    make_base: Callable[..., Any],
    make_snapshot: Callable[..., Any],
) -> None:
    """With dead and live rows, in one batch with searches that have another filter or none."""
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((200, 8)).astype(np.float32)
    years = draw.integers(0, 10, 200).tolist()
    spec = make_spec("item__year")
    fields = pushed_fields(filterable(spec))
    stored = Points(ids=range(200), fields=fields, columns={"item__year": pa.array(years, pa.int64())})
    base = make_base(vectors, {"item__year": years}, MilvusIndex.build_points(vectors, stored))
    dead = list(range(0, 200, 7))
    fresh = 0.9 * vectors[3:5]
    added = {200: (fresh[0], {"item__year": 1}), 201: (fresh[1], {"item__year": 9})}
    catalog = make_snapshot(base, dead, added)
    every, year = np.concatenate([vectors, fresh]), np.array([*years, 1, 9])
    eligibility = Eligibility(spec)
    # So that the engine is asked for all.
    searcher = Searcher(SearchCosts(gathered=1.0, scanned=1.0, index=((100, 1e-9),)))
    searches, expected = [], []
    for bound in (3, 7, None):
        where = (
            frozenset()
            if bound is None
            else frozenset({Condition(feature="item__year", operator=Operator.LESS, values=(bound,))})
        )
        asked = ItemFilter(where=where)
        for query in vectors[:2]:
            searches.append(
                Search(
                    query_D=query,
                    k=15,
                    eligible=eligibility.of(catalog, asked),
                    seen=NO_ROWS,
                    filtered=bound is not None,
                    where=where,
                )
            )
            allowed = catalog.live_mask_N & (True if bound is None else year < bound)
            scores = np.where(allowed, every @ query, -np.inf)
            expected.append(np.argsort(-scores)[:15].tolist())
    found = [result.found.rows.tolist() for result in searcher.find(catalog, searches)]
    assert found == expected
