"""Every kind of bad row: what is said when it stops the import, and what is kept when it does not."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rf_platform.data.report import ImportReport
from rf_platform.errors import DataError

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_MAPPING = """
name: shop
interactions:
  file: events.csv
  user: {column: who, type: int}
  item: sku
  timestamp: {column: at, format: seconds}
  event_type: what
  rating: {column: stars, min: 1, max: 5}
  context: {price: {column: price, type: float}, at_home: {column: home, type: bool}}
items:
  file: items.csv
  item: sku
  attributes: {stock: {column: stock, type: int}, vector: {column: vector, type: floats, separator: ","}}
"""
_EVENTS = "who,sku,at,what,stars,price,home"
_GOOD = ["1,a,100,buy,5,1.5,yes", "2,b,200,view,,,", "1,b,300,buy,1,2,no"]
_ITEMS = 'sku,stock,vector\na,1,"0.5,1"\nb,,\n'


class Case(NamedTuple):
    bad: str
    column: str | None
    reason: str
    said: str


_CASES = {
    "null user": Case(",a,400,buy,5,1,", "who", "null key", "null key;"),
    "blank item": Case("3,  ,400,buy,5,1,", "sku", "null key", "null key;"),
    "null time": Case("3,a,,buy,5,1,", "at", "null key", "null key;"),
    "null event type": Case("3,a,400,,5,1,", "what", "null key", "null key;"),
    "text as user": Case("x7,a,400,buy,5,1,", "who", "wrong type", "'x7' (expected a whole number)"),
    "fraction as user": Case("1.5,a,400,buy,5,1,", "who", "wrong type", "'1.5' (expected a whole number)"),
    "user beyond 64 bits": Case("9223372036854775808,a,400,buy,5,1,", "who", "wrong type", "'9223372036854775808'"),
    "time as text": Case("3,a,noon,buy,5,1,", "at", "wrong type", "'noon' (expected seconds since 1970)"),
    "NaN time": Case("3,a,nan,buy,5,1,", "at", "wrong type", "'nan' (expected seconds since 1970)"),
    "time before 1970": Case("3,a,-1,buy,5,1,", "at", "time before 1970", "'-1' (is the format right?)"),
    "time in the future": Case("3,a,1735689601,buy,5,1,", "at", "time in the future", "'1735689601' (it lies after"),
    "time in milliseconds": Case("3,a,1735689600000,buy,5,1,", "at", "time in the future", "'1735689600000'"),
    "time beyond any clock": Case("3,a,1e30,buy,5,1,", "at", "time in the future", "'1e30'"),
    "NaN rating": Case("3,a,400,buy,NaN,1,", "stars", "NaN", "'NaN' (expected a number)"),
    "infinite rating": Case("3,a,400,buy,-inf,1,", "stars", "out of range", "'-inf' (infinite)"),
    "text as rating": Case("3,a,400,buy,good,1,", "stars", "wrong type", "'good' (expected a number)"),
    "hexadecimal rating": Case("3,a,400,buy,0x3,1,", "stars", "wrong type", "'0x3' (expected a number)"),
    "rating too low": Case("3,a,400,buy,0.5,1,", "stars", "out of range", "'0.5' (expected at least 1)"),
    "rating too high": Case("3,a,400,buy,6,1,", "stars", "out of range", "'6' (expected at most 5)"),
    "text as price": Case("3,a,400,buy,5,free,", "price", "wrong type", "'free' (expected a number)"),
    "NaN price": Case("3,a,400,buy,5,nan,", "price", "NaN", "'nan' (expected a number)"),
    "text as boolean": Case("3,a,400,buy,5,1,maybe", "home", "wrong type", "'maybe' (expected true or false)"),
    "duplicate event": Case(
        "2,b,200,view,3,,", "sku", "duplicate event", "'b' (the same user_id, item_id, event_timestamp"
    ),
    "too few fields": Case("3,a,400", None, "wrong number of fields", "'3,a,400' (3 instead of 7)"),
    "too many fields": Case("3,a,400,buy,5,1,,", None, "wrong number of fields", "(8 instead of 7)"),
    "bytes of another encoding": Case("3,caf\udce9,400,buy,5,1,", "sku", "not text in the file's encoding", "caf"),
}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("case", _CASES.values(), ids=_CASES)
def test_a_bad_row_stops_the_import_and_is_named(case: Case, bring: Bring) -> None:
    # The bad row stands between good ones, so an error that is off by one shows.
    lines = [_EVENTS, *_GOOD[:2], case.bad, _GOOD[2]]
    with pytest.raises(DataError) as refused:
        bring(_MAPPING, {"events.csv": _encode("\n".join(lines) + "\n"), "items.csv": _ITEMS})
    place = f"events.csv, row 3{f', column {case.column}' if case.column else ''}: {case.reason}"
    assert str(refused.value).startswith(place)
    assert case.said in str(refused.value)
    assert f"1 of 6 rows are bad: 1 {case.reason}. Nothing was imported" in str(refused.value)


def test_bad_rows_are_quarantined_and_good_ones_go_on(bring: Bring, rows: Rows) -> None:
    lines = [*_GOOD[:2], *(c.bad for c in _CASES.values()), _GOOD[2]]
    files = {"events.csv": _encode("\n".join([_EVENTS, *lines])), "items.csv": _ITEMS}
    report = bring(_MAPPING, files, on_error="quarantine")
    events, items = report.inputs
    assert (events.read, events.kept, events.quarantined) == (len(lines), 3, len(_CASES))
    assert events.reasons == Counter(c.reason for c in _CASES.values())
    assert (items.read, items.kept, items.quarantined, items.reasons) == (2, 2, 0, {})
    assert report.counts == {"interactions": 3, "items": 2, "active_users": 2, "quarantined": len(_CASES)}
    assert [r["input_order"] for r in rows("interactions")] == [1, len(lines), 2]
    for row, (case, kept) in enumerate(zip(_CASES.values(), rows("quarantine"), strict=True), 3):
        found = (kept["file"], kept["row"], kept["column"], kept["reason"])
        assert found == ("events.csv", row, case.column, case.reason)
        record = json.loads(kept["record"])
        if case.column is None:
            assert record == {"text": case.bad}
        else:
            values = _encode(case.bad).decode("utf-8", "replace").replace("\ufffd", r"\xe9").split(",")
            assert record == dict(zip(_EVENTS.split(","), values, strict=True))


_BAD_ITEMS = {
    "null key": Case(",1,", "sku", "null key", "null key;"),
    "duplicate key": Case("a,9,", "sku", "duplicate key", "'a' (the same item_id as in row 1)"),
    "text as stock": Case("c,many,", "stock", "wrong type", "'many' (expected a whole number)"),
    "text in a vector": Case('c,1,"0.5,x"', "vector", "wrong type", "'0.5,x' (expected numbers)"),
    "NaN in a vector": Case('c,1,"0.5,nan"', "vector", "NaN", "'0.5,nan' (in a list)"),
    "infinity in a vector": Case('c,1,"0.5,inf"', "vector", "out of range", "'0.5,inf' (infinite)"),
}


@pytest.mark.parametrize("case", _BAD_ITEMS.values(), ids=_BAD_ITEMS)
def test_a_bad_attribute_row_is_named_or_quarantined(case: Case, bring: Bring, rows: Rows) -> None:
    files = {"events.csv": "\n".join([_EVENTS, *_GOOD]), "items.csv": f"{_ITEMS}{case.bad}\n"}
    with pytest.raises(DataError) as refused:
        bring(_MAPPING, files)
    assert str(refused.value).startswith(f"items.csv, row 3, column {case.column}: {case.reason}")
    assert case.said in str(refused.value)
    report = bring(_MAPPING, on_error="quarantine")
    assert (report.inputs[1].read, report.inputs[1].kept, report.inputs[1].reasons) == (3, 2, {case.reason: 1})
    assert [r["item_id"] for r in rows("items")] == ["a", "b"]


def test_the_first_bad_row_comes_with_the_number_of_all(bring: Bring) -> None:
    bad = ["9,a,400,buy,nan,,", "x,a,400,buy,1,,", "9,a,401,buy,nan,,", "1,a"]
    files = {"events.csv": "\n".join([_EVENTS, *_GOOD, *bad]), "items.csv": _ITEMS + "a,1,\n"}
    with pytest.raises(DataError, match=r"events.csv, row 4, column stars: NaN 'nan'") as refused:
        bring(_MAPPING, files)
    assert "5 of 10 rows are bad: 2 NaN, 1 wrong number of fields, 1 wrong type, 1 duplicate key." in str(refused.value)


def test_of_equal_events_the_first_is_kept_and_a_bad_one_does_not_count(bring: Bring, rows: Rows) -> None:
    bad_first = "1,a,100,buy,9,,"  # refused for its rating: the next one with the same key is no duplicate of it
    files = {"events.csv": "\n".join([_EVENTS, bad_first, _GOOD[0], _GOOD[0], _GOOD[0]]), "items.csv": _ITEMS}
    report = bring(_MAPPING, files, on_error="quarantine")
    assert report.inputs[0].reasons == {"duplicate event": 2, "out of range": 1}
    assert [r["input_order"] for r in rows("interactions")] == [2]
    assert [(r["row"], r["reason"]) for r in rows("quarantine")] == [
        (1, "out of range"),
        (3, "duplicate event"),
        (4, "duplicate event"),
    ]


def test_same_user_item_and_time_with_another_event_type_is_no_duplicate(bring: Bring) -> None:
    files = {"events.csv": "\n".join([_EVENTS, "1,a,100,buy,,,", "1,a,100,view,,,"]), "items.csv": _ITEMS}
    assert bring(_MAPPING, files).counts["interactions"] == 2


_ORDERED = """
name: log
interactions: {file: "*.csv", user: u, item: i, timestamp: {column: t, format: iso}, sorted: %s}
"""


def test_unsorted_rows_are_bad_only_where_the_mapping_says_sorted(bring: Bring, rows: Rows) -> None:
    times = ["2024-01-01", "2024-01-05", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-06"]
    files = {"log.csv": "u,i,t\n" + "".join(f"1,{n},{t}\n" for n, t in enumerate(times, 1))}
    assert bring(_ORDERED % "false", files).counts["interactions"] == 6
    assert [r["input_order"] for r in rows("interactions")] == [1, 3, 4, 2, 5, 6]
    said = r"log.csv, row 3, column t: not sorted '2024-01-03T00:00:00Z' \(earlier than 2024-01-05T00:00:00Z in a row before\)"
    with pytest.raises(DataError, match=said):
        bring(_ORDERED % "true", files)
    report = bring(_ORDERED % "true", files, on_error="quarantine")
    assert report.inputs[0].reasons == {"not sorted": 2}
    assert [r["row"] for r in rows("quarantine")] == [3, 4]
    assert [r["input_order"] for r in rows("interactions")] == [1, 2, 5, 6]


def test_sorted_is_about_each_file_and_duplicates_about_all(bring: Bring, rows: Rows) -> None:
    files = {"a.csv": "u,i,t\n1,1,2024-01-05\n", "b.csv": "u,i,t\n1,2,2024-01-01\n1,1,2024-01-05\n"}
    report = bring(_ORDERED % "true", files, on_error="quarantine")
    assert [(f.file, f.read, f.kept, f.reasons) for f in report.inputs] == [
        ("a.csv", 1, 1, {}),
        ("b.csv", 2, 1, {"duplicate event": 1}),
    ]
    (kept,) = rows("quarantine")
    assert (kept["file"], kept["row"]) == ("b.csv", 2)
    assert kept["detail"] == "the same user_id, item_id, event_timestamp as in another file, row 1"
    assert [r["input_order"] for r in rows("interactions")] == [2, 1]


def test_bad_rows_of_parquet_are_named_too(bring: Bring, rows: Rows) -> None:
    table = pa.table(
        {
            "row": [1, 2, None, 4],
            "i": [1.0, 2.0, 3.0, float("nan")],
            "t": pa.array([10, 20, 30, 40], pa.timestamp("s")),
            "r": [1.0, float("nan"), 1.0, 1.0],
            "tags": [["a"], [], None, ["b", None]],
        }
    )
    mapping = """
name: p
interactions: {file: e.parquet, user: row, item: i, timestamp: t, rating: r, context: {tags: tags}}
"""
    with pytest.raises(DataError, match=r"e.parquet, row 2, column r: NaN 'nan'"):
        bring(mapping, {"e.parquet": table})
    bring(mapping, on_error="quarantine")
    found = rows("quarantine")
    assert [(r["row"], r["column"], r["reason"]) for r in found] == [
        (2, "r", "NaN"),
        (3, "row", "null key"),
        (4, "i", "null key"),
    ]
    assert json.loads(found[2]["record"])["tags"] == ["b", None]
    assert json.loads(found[0]["record"])["r"] == "nan"
    (kept,) = rows("interactions")
    assert (kept["user_id"], kept["item_id"], kept["tags"], kept["input_order"]) == (1, 1, ["a"], 1)


def test_parquet_that_is_damaged_inside_is_refused(bring: Bring, inbox: Path) -> None:
    mapping = "name: p\ninteractions: {file: e.parquet, user: u, item: i, timestamp: t}\n"
    texts = pa.array([f"text {n}" for n in range(5000)])
    pq.write_table(pa.table({"u": texts, "i": texts, "t": range(5000)}), inbox / "e.parquet")
    content = bytearray((inbox / "e.parquet").read_bytes())
    content[1000:1100] = bytes(100)
    with pytest.raises(DataError, match=r"the import of p: .*e\.parquet.*; restore the file"):
        bring(mapping, {"e.parquet": bytes(content)})


def test_no_good_row_left_is_an_error_even_with_quarantine(bring: Bring) -> None:
    files = {"events.csv": f"{_EVENTS}\nx,a,100,buy,,,\n", "items.csv": _ITEMS}
    with pytest.raises(
        DataError, match=r"1 wrong type. Nothing was imported: .* no good row is left for the table interactions"
    ):
        bring(_MAPPING, files, on_error="quarantine")


_line = st.sampled_from([*_GOOD, *(c.bad for c in _CASES.values() if "\udce9" not in c.bad)])


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(_line, max_size=40), good=st.integers(1, 10**6), ends=st.sampled_from(["\n", "\r\n"]))
def test_counts_add_up_and_every_row_is_somewhere(
    lines: list[str], good: int, ends: str, bring: Bring, rows: Rows
) -> None:
    lines = [f"{good},a,5,first,,,", *lines]
    files = {"events.csv": ends.join([_EVENTS, *lines]), "items.csv": _ITEMS}
    report = bring(_MAPPING, files, on_error="quarantine")
    counts = report.inputs[0]
    assert counts.read == len(lines) == counts.kept + counts.quarantined
    assert counts.quarantined == sum(counts.reasons.values())
    refused = [r["row"] for r in rows("quarantine")] if counts.quarantined else []
    assert sorted([*refused, *(r["input_order"] for r in rows("interactions"))]) == list(range(1, len(lines) + 1))
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        key = ",".join(line.split(",")[:4])
        expected = number == 1 or line in (*_GOOD, _CASES["duplicate event"].bad)
        assert (number not in refused) == (expected and key not in seen), line
        seen |= {key} if expected else set()
