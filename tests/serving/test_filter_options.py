"""Conditions as they are typed."""

from pathlib import Path

import pytest

from rf_platform.errors import UsageError
from rf_protos.v1.features_pb2 import DoubleList, FeatureValue, Int64List, StringList
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_serving.commands.filter_options import condition, filter_of


def texts(*values: str) -> FeatureValue:
    return FeatureValue(string_list=StringList(values=values))


@pytest.mark.parametrize(
    ("text", "operator", "value"),
    [
        ("v__f=Drama", Predicate.ANY_OF, FeatureValue(string_value="Drama")),
        ("v__f = Drama, War ", Predicate.ANY_OF, texts("Drama", "War")),
        ("v__f!=Film Noir,War", Predicate.NONE_OF, texts("Film Noir", "War")),
        ("v__f all Drama,War", Predicate.ALL_OF, texts("Drama", "War")),
        ("v__f>=1990", Predicate.AT_LEAST, FeatureValue(int_value=1990)),
        ("v__f<=-3", Predicate.AT_MOST, FeatureValue(int_value=-3)),
        ("v__f<0.5", Predicate.LESS, FeatureValue(double_value=0.5)),
        ("v__f > 1e3", Predicate.GREATER, FeatureValue(double_value=1000)),
        ("v__f=1,2", Predicate.ANY_OF, FeatureValue(int_list=Int64List(values=[1, 2]))),
        ("v__f=1,2.5", Predicate.ANY_OF, FeatureValue(double_list=DoubleList(values=[1, 2.5]))),
        ("v__f=1,War", Predicate.ANY_OF, texts("1", "War")),
        ('v__f="94103"', Predicate.ANY_OF, FeatureValue(string_value="94103")),
        ('v__f="a, b",c', Predicate.ANY_OF, texts("a, b", "c")),
        ("v__f=nan", Predicate.ANY_OF, FeatureValue(string_value="nan")),
        ("v__f=a=b", Predicate.ANY_OF, FeatureValue(string_value="a=b")),
        ("v__f present", Predicate.PRESENT, None),
        ("v__f absent ", Predicate.ABSENT, None),
    ],
)
def test_conditions(text: str, operator: "Predicate.Operator", value: FeatureValue | None) -> None:
    assert condition(text) == Predicate(feature="v__f", operator=operator, value=value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v__f", "is no condition; write FEATURE=VALUE"),
        ("=3", "is no condition"),
        ("v__f=", "has no value"),
        ("v__f=a,,b", "is no value"),
        ('v__f="a', "is no value"),
        ('v__f="\\q"', "is no text"),
        ("v__f present 3", "present takes no value"),
    ],
)
def test_what_is_no_condition_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        condition(text)


def test_all_options_hold_together(tmp_path: Path) -> None:
    file = tmp_path / "filter.json"
    file.write_text('{"deny_items": ["9"], "where": [{"feature": "v__g", "operator": "PRESENT"}]}')
    found = filter_of(f"@{file}", "1, 2", "3", ["v__f present"])
    present = [Predicate(feature=f, operator=Predicate.PRESENT) for f in ("v__g", "v__f")]
    assert found == Filter(allow_items=["1", "2"], deny_items=["9", "3"], where=present)
    assert filter_of(None) is None
    with pytest.raises(UsageError, match="--allow has no item id"):
        filter_of(None, allow=" , ")
