"""A filter that cannot be applied names its field; one that can is the same however it is written."""

from collections.abc import Callable
from typing import Any

import pytest

from rf_platform.errors import UsageError
from rf_protos.v1.features_pb2 import DoubleList, FeatureValue, Int64List, StringList
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_serving.search import Condition, FilterLimits, FilterReader
from rf_serving.search.condition import Operator

ANY, NONE, ALL = Predicate.ANY_OF, Predicate.NONE_OF, Predicate.ALL_OF

PRESENT = Predicate(feature="item__brand", operator=Predicate.PRESENT)


def where(feature: str, how: Any, **value: Any) -> Filter:
    fine = Predicate(feature="item__brand", operator=Predicate.PRESENT)
    asked = Predicate(feature=feature, operator=how, value=FeatureValue(**value) if value else None)
    return Filter(where=[fine, asked])


@pytest.fixture
def reader(make_spec: Callable[..., Any]) -> FilterReader:
    return FilterReader(make_spec(), FilterLimits(ids=3, conditions=4, values=2))


REFUSED = {
    "unknown feature": (
        where("item__brnd", ANY, string_value="x"),
        "filter.where[1].feature: 'item__brnd' is no feature or display field of items; did you mean item__brand?",
    ),
    "nothing like it": (where("zzz", ANY, string_value="x"), "filter.where[1].feature: 'zzz' is no feature"),
    "endless name": (where("z" * 9000, ANY, string_value="x"), "filter.where[1].feature: 'zzz"),
    "no operator": (
        where("item__tags", 0, string_value="x"),
        "filter.where[1].operator: none is given; item__tags is Array(String): use ANY_OF, NONE_OF, ALL_OF, PRESENT, ABSENT",
    ),
    "operator of the future": (where("item__tags", 77, string_value="x"), "filter.where[1].operator: 77 does not fit;"),
    "texts are not compared": (
        where("item__brand", Predicate.LESS, string_value="x"),
        "filter.where[1].operator: LESS does not fit; item__brand is String: use ANY_OF",
    ),
    "lists are not compared": (
        where("item__codes", Predicate.AT_LEAST, int_value=3),
        "filter.where[1].operator: AT_LEAST does not fit; item__codes is Array(Int64)",
    ),
    "vectors are there or not": (
        where("item__text", ANY, double_value=0.5),
        "filter.where[1].operator: ANY_OF does not fit; item__text is Array(Float32): use PRESENT, ABSENT",
    ),
    "wrong case": (
        where("item__year", ANY, string_value="1990s"),
        "filter.where[1].value: '1990s' is no Int64: expected a whole number",
    ),
    "wrong list": (
        where("item__brand", NONE, double_list=DoubleList(values=[1])),
        "filter.where[1].value: double_list is given, but the feature holds String: set string_value or string_list",
    ),
    "a combination of nothing that is known": (
        Filter(where=[Predicate(any=[PRESENT, Predicate(all=[Predicate(feature="x", operator=ANY)])])]),
        "filter.where[0].any[1].all[0].feature: 'x' is no feature",
    ),
    "both": (
        Filter(where=[Predicate(any=[PRESENT], all=[PRESENT])]),
        "filter.where[0]: set one of `any`, `all`, or a feature with its operator",
    ),
    "a combination with a feature": (
        Filter(where=[Predicate(any=[PRESENT], feature="item__brand")]),
        "filter.where[0]: set one of `any`, `all`, or a feature with its operator",
    ),
    "too many within": (
        Filter(where=[Predicate(any=[PRESENT] * 4)]),
        "filter.where: 5 conditions are given; the limit is 4",
    ),
    "no value": (where("item__tags", ALL), "filter.where[1].value: nothing is given, but the feature holds String"),
    "empty list": (
        where("item__tags", ANY, string_list=StringList()),
        "filter.where[1].value: the list is empty; give at least one value",
    ),
    "list for a comparison": (
        where("item__price", Predicate.LESS, double_list=DoubleList(values=[1.0])),
        "filter.where[1].value: double_list is given, but Float32 is compared with a number: set int_value or double_value",
    ),
    "fraction of a microsecond": (
        where("item__added", Predicate.LESS, double_value=1.5),
        "filter.where[1].value: double_value is given, but UnixTimestamp is compared with a number: set int_value",
    ),
    "not a number": (
        where("item__price", Predicate.LESS, double_value=float("nan")),
        "filter.where[1].value: nan is not a usable number",
    ),
    "not a number among others": (
        where("item__price", ANY, double_list=DoubleList(values=[1.0, float("inf")])),
        "filter.where[1].value: inf is not a usable number",
    ),
    "beyond float32": (where("item__price", Predicate.LESS, double_value=1e39), "filter.where[1].value: 1e+39 "),
    "neither true nor false": (
        where("item__fresh", ANY, int_value=2),
        "filter.where[1].value: 2 is given for a Bool feature; 0 or 1 is meant",
    ),
    "value for presence": (
        where("item__tags", Predicate.ABSENT, int_value=0),
        "filter.where[1].value: ABSENT takes none",
    ),
    "too many values": (
        where("item__codes", ANY, int_list=Int64List(values=[1, 2, 3])),
        "filter.where[1].value: 3 values are given; the limit is 2",
    ),
    "too many conditions": (
        Filter(where=[Predicate(feature="item__brand", operator=Predicate.PRESENT)] * 5),
        "filter.where: 5 conditions are given; the limit is 4",
    ),
    "too many allowed": (Filter(allow_items=["1"] * 4), "filter.allow_items: 4 ids are given; the limit is 3"),
    "too many denied": (Filter(deny_items=["1"] * 4), "filter.deny_items: 4 ids are given; the limit is 3"),
    "no id": (Filter(allow_items=["1", "x"]), "filter.allow_items[1]: 'x' is not an id here"),
    "empty id": (Filter(deny_items=[""]), "filter.deny_items[0]: must not be empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_field_is_named(reader: FilterReader, case: str) -> None:
    asked, message = REFUSED[case]
    with pytest.raises(UsageError) as raised:
        reader.read(asked)
    assert str(raised.value).startswith(message)
    assert len(str(raised.value)) < 500


def test_equal_filters_are_equal_however_they_are_written(reader: FilterReader) -> None:
    a = Predicate(feature="item__tags", operator=ANY, value=FeatureValue(string_list=StringList(values=["x", "y"])))
    b = Predicate(feature="item__tags", operator=ANY, value=FeatureValue(string_list=StringList(values=["y", "x"])))
    c = Predicate(feature="item__year", operator=ANY, value=FeatureValue(int_value=1990))
    one = Predicate(feature="item__year", operator=ANY, value=FeatureValue(int_list=Int64List(values=[1990, 1990])))
    assert reader.read(Filter(where=[a, c])) == reader.read(Filter(where=[one, b, a]))


def test_nothing_set_is_no_filter(reader: FilterReader) -> None:
    read = reader.read(Filter())
    assert (read.allow, read.deny, read.where) == (None, (), frozenset())


@pytest.mark.parametrize(
    ("how", "bound"), [(Operator.LESS, 3), (Operator.AT_MOST, 2), (Operator.GREATER, 2), (Operator.AT_LEAST, 3)]
)
def test_whole_numbers_are_compared_with_the_whole_number_that_means_the_same(
    reader: FilterReader, how: Operator, bound: int
) -> None:
    read = reader.read(where("item__year", Predicate.Operator.Value(how), double_value=2.5))
    assert Condition(feature="item__year", operator=how, values=(bound,)) in read.where


def test_a_number_is_compared_as_the_feature_holds_it(reader: FilterReader) -> None:
    for feature, held in (("item__price", 0.10000000149011612), ("item__weight", 0.1)):
        read = reader.read(where(feature, Predicate.AT_MOST, double_value=0.1))
        assert Condition(feature=feature, operator=Operator.AT_MOST, values=(held,)) in read.where
