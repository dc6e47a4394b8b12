"""Conditions as they are typed."""

from pathlib import Path

import pytest

from rf_platform.errors import UsageError
from rf_protos.v1.features_pb2 import FeatureValue, StringList
from rf_protos.v1.filter_pb2 import Filter, Predicate
from rf_serving.commands.filter_options import filter_of
from rf_serving.search.written import predicate_of


def texts(*values: str) -> FeatureValue:
    return FeatureValue(string_list=StringList(values=values))


@pytest.mark.parametrize(
    ("text", "operator", "value"),
    [
        ("v__f=Drama", Predicate.ANY_OF, FeatureValue(string_value="Drama")),
        ("v__f = Drama, War ", Predicate.ANY_OF, texts("Drama", "War")),
        ("v__f!=Film Noir,War", Predicate.NONE_OF, texts("Film Noir", "War")),
        ("v__f all Drama,War", Predicate.ALL_OF, texts("Drama", "War")),
        ("v__f>=1990", Predicate.AT_LEAST, FeatureValue(string_value="1990")),
        ("v__f<=-3", Predicate.AT_MOST, FeatureValue(string_value="-3")),
        ("v__f<0.5", Predicate.LESS, FeatureValue(string_value="0.5")),
        ("v__f > 1e3", Predicate.GREATER, FeatureValue(string_value="1e3")),
        ("v__f=1,2", Predicate.ANY_OF, texts("1", "2")),
        ("v__f=1,2.5", Predicate.ANY_OF, texts("1", "2.5")),
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
    assert predicate_of(text, "--where") == Predicate(feature="v__f", operator=operator, value=value)


def test_alternatives_and_what_must_not_hold() -> None:
    cheap, old, new = (predicate_of(text, "--where") for text in ("v__p<10", 'v__t="this or v__f=1"', "not v__y>=1990"))
    assert new == Predicate(
        feature="v__y", operator=Predicate.AT_LEAST, value=FeatureValue(string_value="1990"), negate=True
    )
    written = 'v__p<10 or v__t="this or v__f=1" or not v__y>=1990'
    assert predicate_of(written, "--where") == Predicate(any=[cheap, old, new])
    assert predicate_of("v__t=good or bad", "--where").value == FeatureValue(string_value="good or bad")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v__f", "is no condition; write NAME=VALUE"),
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
        predicate_of(text, "--where")


def test_all_options_hold_together(tmp_path: Path) -> None:
    file = tmp_path / "filter.json"
    file.write_text('{"deny_items": ["9"], "where": [{"feature": "v__g", "operator": "PRESENT"}]}')
    found = filter_of(f"@{file}", "1, 2", "3", ["v__f present"])
    present = [Predicate(feature=f, operator=Predicate.PRESENT) for f in ("v__g", "v__f")]
    assert found == Filter(allow_items=["1", "2"], deny_items=["9", "3"], where=present)
    assert filter_of(None) is None
    with pytest.raises(UsageError, match="--allow has no item id"):
        filter_of(None, allow=" , ")
