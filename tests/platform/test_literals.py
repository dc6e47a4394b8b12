"""One grammar of values: a text is read alike by an import, which does it in SQL, and by requests, items, events and filters."""

import duckdb
import pytest

from rf_platform.conditions import WrittenCondition, parse_condition
from rf_platform.data.convert import scalar
from rf_platform.data.convert_time import iso_sql
from rf_platform.data.specs import Kind
from rf_platform.errors import UsageError
from rf_platform.features.dtype import Dtype
from rf_platform.features.field_rule import FieldRule, UnfitError
from rf_platform.literals import Writing, read_list, read_number, read_time, read_truth, read_whole
from rf_platform.sql import literal

BERLIN = Writing(timezone="Europe/Berlin")
COMMA = Writing(decimal=",")
TIMES = [
    "2024-05-31",
    "2024-5-1",
    "2024-05-31T14:00:00+02:00",
    "2024-05-31 14:00",
    "2024-05-31T12:00:00Z",
    "2024-05-31t12:00z",
    "2024-05-31 12:00:00,5 UTC",
    "2024-05-31 12:00:00.123456 GMT",
    "2024-05-31T17:30:00+0530",
    "2024-05-31T14:00+02",
    "2024-05-31T14:00:00+02:00[Europe/Berlin]",
    "2024-05-31T12:00:00Z[UTC]",
    "2024-05-31 14:00 Europe/Berlin",
    "2024-05-31 14:00 EST",
    "2024-03-31T01:59:59",
    "2024-03-31T02:30:00",  # skipped in Berlin
    "2024-03-31T03:00:00",
    "2024-10-27T02:30:00",  # twice in Berlin
    "2024-10-27T02:30:00+01:00",
    "2016-12-31T23:59:60Z",
    "2024-02-30",
    "2024-05-31T25:00:00",
    "2024-05-31T12",
    "20240531",
    "tomorrow",
    "infinity",
]
NUMBERS = [
    "1",
    "-1.5",
    ".5",
    "1e3",
    "+7",
    "1,5",
    "1.234,56",
    "1 234,5",
    "1.5",
    "12.34",
    "1.234.567",
    "0,5",
    ",",
    "1,2,3",
    "x",
    "€ 5",
]


@pytest.mark.parametrize("text", TIMES)
@pytest.mark.parametrize("writing", [Writing(), BERLIN], ids=["utc", "berlin"])
def test_a_time_is_the_same_in_a_file_and_in_a_request(text: str, writing: Writing) -> None:
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        [(imported,)] = db.execute(f"SELECT epoch_us({iso_sql(literal(text), writing.timezone)})").fetchall()
    assert read_time(text, writing) == imported


@pytest.mark.parametrize("text", NUMBERS)
@pytest.mark.parametrize("writing", [Writing(), COMMA], ids=["point", "comma"])
def test_a_number_is_the_same_in_a_file_and_in_a_request(text: str, writing: Writing) -> None:
    with duckdb.connect() as db:
        read = [scalar(kind, "text", literal(text), writing) for kind in (Kind.FLOAT, Kind.INT, Kind.BOOL)]
        [imported] = db.execute(f"SELECT {', '.join(map(str, read))}").fetchall()
    assert (read_number(text, writing), read_whole(text, writing), read_truth(text)) == imported


def test_decimal_commas_and_local_times_by_hand() -> None:
    assert read_number("1.299,50", COMMA) == 1299.5
    assert read_number("1.5", COMMA) is None  # neither a comma nor a group of three
    assert read_time("1970-01-02T00:00", Writing(timezone="Europe/Berlin")) == 23 * 3600 * 1_000_000
    assert read_time("2024-03-31T02:30", BERLIN) is None
    first = read_time("2024-10-27T00:30Z")
    assert first is not None
    assert read_time("2024-10-27T02:30", BERLIN) == first


def test_lists_have_a_separator_or_are_json() -> None:
    assert read_list("a| b |", Writing(separator="|")) == ["a", "b"]
    assert read_list('["a|b", "c"]', Writing(separator="|")) == ["a|b", "c"]
    assert read_list("a|b") is None


@pytest.mark.parametrize(
    ("dtype", "given", "meant"),
    [
        ("Bool", "true", 1),
        ("Int64", "true", 1),
        ("Int64", " 7 ", 7),
        ("Int64", "7.0", 7),
        ("Float32", "0.5", 0.5),
        ("UnixTimestamp", "1970-01-01T01:00:00+01:00", 0),
        ("String", 42, "42"),
        ("Array(String)", '["a", "b"]', ["a", "b"]),
        ("Array(Int64)", ["1", 2], [1, 2]),
        ("Int64", "  ", None),
    ],
)
def test_a_field_takes_a_text_as_its_type_has_it(dtype: str, given: object, meant: object) -> None:
    assert FieldRule(dtype=Dtype.of(dtype)).of(given) == meant


@pytest.mark.parametrize(
    ("dtype", "given", "said"),
    [
        ("Int64", "1.5", "'1.5' is no Int64: expected a whole number"),
        ("Float64", "1,5", "'1,5' is no Float64: expected a number"),
        ("UnixTimestamp", "31.05.2024", "expected a time such as 2024-05-31T18:00:00"),
        ("Bool", "perhaps", "expected true or false"),
        ("Array(String)", "a|b", "'a|b' is no list"),
    ],
)
def test_a_text_that_is_no_such_value_is_named(dtype: str, given: object, said: str) -> None:
    with pytest.raises(UnfitError, match=said.replace("|", r"\|")):
        FieldRule(dtype=Dtype.of(dtype)).of(given)


def test_conditions_have_one_form() -> None:
    assert parse_condition("stock > 0", "c", "x") == WrittenCondition("stock", ">", ("0",))
    assert parse_condition('"Stock left" = "a, b", c', "c", "x") == WrittenCondition("Stock left", "=", ("a, b", "c"))
    assert parse_condition("until absent", "c", "x") == WrittenCondition("until", "absent", ())
    for wrong in ("stock", "stock >", "until absent 5", '= "a'):
        with pytest.raises(UsageError):
            parse_condition(wrong, "c", "x")
