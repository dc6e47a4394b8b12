"""Times: every form, found out or declared, to microseconds in UTC."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rf_platform.data.convert_time import time_value
from rf_platform.data.raw import TEXT, RawColumn
from rf_platform.data.report import ImportReport
from rf_platform.data.specs import Field, Kind, TimeFormat
from rf_platform.errors import ConfigError, DataError
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_MAPPING = "name: shop\ninteractions: {file: %s, user: u, item: i, timestamp: {column: t, format: %s}}\n"
_NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)
_SECONDS = int(_NOON.timestamp())


def _csv(*times: object) -> dict[str, str]:
    return {"e.csv": "u,i,t\n" + "".join(f'{n},1,"{t}"\n' for n, t in enumerate(times, 1))}


def _times(rows: Rows) -> list[datetime]:
    return [r["event_timestamp"] for r in rows("interactions")]


def test_a_finer_unit_than_that_of_the_others_is_named(bring: Bring) -> None:
    times = [*(_SECONDS * 1000 + n for n in range(9)), _SECONDS * 1_000_000]
    with pytest.raises(DataError, match=r"row 10, .* \(microseconds where milliseconds are due, it seems\)"):
        bring(_MAPPING % ("e.csv", "auto"), _csv(*times))


@pytest.mark.parametrize(
    ("written", "form"),
    [
        (_SECONDS, "seconds"),
        (f"{_SECONDS}.0", "seconds"),
        (f"{_SECONDS / 1e9}e9", "seconds"),
        (_SECONDS * 1000, "ms"),
        (_SECONDS * 1_000_000, "us"),
        ("2024-05-31T12:00:00Z", "iso"),
        ("2024-05-31T12:00:00", "iso"),  # without a zone: UTC
        ("2024-05-31 12:00:00.000", "iso"),
        ("2024-05-31T14:00:00+02:00", "iso"),
        ("2024-05-31T07:30:00-04:30", "iso"),
        (_SECONDS * 1_000_000_000, "ns"),
        ("2024-05-31t12:00z", "iso"),
        ("2024-05-31 12:00:00,000 UTC", "iso"),
        ("2024-05-31 12:00:00 GMT", "iso"),
        ("2024-05-31T17:30:00+0530", "iso"),
        ("2024-05-31 17:30:00 +05:30", "iso"),
        ("2024-05-31T14:00+02", "iso"),
        ("2024-05-31T14:00:00+02:00[Europe/Berlin]", "iso"),
        ("2024-05-31T12:00:00Z[UTC]", "iso"),
        ("2024-05-31 14:00:00 Europe/Berlin", "iso"),
        ("2024-05-31T08:00:00[America/New_York]", "iso"),
        ("2024-05-31 21:00:00 Japan", "iso"),
        ("2024-05-31 07:00:00 Etc/GMT+5", "iso"),
        ("2024-05-31 11:59:60", "iso"),
    ],
)
def test_forms_of_one_moment(written: object, form: str, bring: Bring, rows: Rows) -> None:
    for declared in (form, "auto"):
        report = bring(_MAPPING % ("e.csv", declared), _csv(written))
        assert _times(rows) == [_NOON]
        assert report.settled.get("interactions.event_timestamp") == (form if declared == "auto" else None)
    (row,) = rows("interactions")
    assert (row["hour"], row["weekday"]) == (12, 4)  # a Friday
    assert (report.first_event, report.last_event) == ("2024-05-31T12:00:00Z",) * 2


def test_hour_and_weekday_are_those_of_utc(bring: Bring, rows: Rows) -> None:
    bring(_MAPPING % ("e.csv", "ISO"), _csv("2024-01-01T00:30:00+01:00", "2024-01-01", "2024-01-07T23:59:59Z"))
    assert [(r["hour"], r["weekday"]) for r in rows("interactions")] == [(23, 6), (0, 0), (23, 6)]


def test_microseconds_survive(bring: Bring, rows: Rows) -> None:
    moment = _NOON + timedelta(microseconds=123456)
    bring(_MAPPING % ("e.csv", "seconds"), _csv(f"{_SECONDS}.123456"))
    assert _times(rows) == [moment]
    bring(_MAPPING % ("e.csv", "iso"), _csv("2024-05-31T12:00:00.123456Z"))
    assert _times(rows) == [moment]


def test_sizes_tell_seconds_milliseconds_and_microseconds_apart(bring: Bring, rows: Rows) -> None:
    spring_1973 = datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC)
    for first, form in ((10**11, "ms"), (10**14, "us")):
        report = bring(_MAPPING % ("e.csv", "auto"), _csv(first))
        assert (report.settled["interactions.event_timestamp"], _times(rows)) == (form, [spring_1973])
        with pytest.raises(DataError, match=r"row 1, column t: time in the future"):
            bring(_MAPPING % ("e.csv", "auto"), _csv(first - 1))


def test_the_form_is_that_of_most_rows(bring: Bring, rows: Rows) -> None:
    report = bring(_MAPPING % ("e.csv", "auto"), _csv(1, _SECONDS, _SECONDS * 1000, "noon"), on_error="quarantine")
    assert report.settled["interactions.event_timestamp"] == "seconds"
    assert report.inputs[0].reasons == {"time in the future": 1, "wrong type": 1}


@pytest.mark.parametrize(
    "text",
    [
        *("infinity", "epoch", "2024-13-01", "31.05.2024", "20240531", "2024", "12:00", "today", "2024-02-30"),
        "2024-05-31 18:00:00 Nowhere/Land",
        "2024-05-31 18:00:00 EST",  # -5 hours in one place, +10 in another
        "2024-05-31 18:00:00 IST",
        "2024-05-31T18:00:00+25:00",
        "2024-05-31T18:00:00+02:60",
        "2024-05-31 Europe/Berlin",
        "2024-05-31T18:00:60Z",
        "2024-05-31T18:61:00Z",
        "2024-05-31T25:00:00Z",
        "2024-03-31 02:30:00 Europe/Berlin",  # the clocks skipped it
    ],
)
def test_what_is_no_iso_time(text: str, bring: Bring) -> None:
    with pytest.raises(DataError, match=r"row 1, column t: wrong type .*expected an ISO 8601 time"):
        bring(_MAPPING % ("e.csv", "iso"), _csv(text))


_MOMENTS = {
    "seconds without a zone": pa.array([_NOON.replace(tzinfo=None)], pa.timestamp("s")),
    "milliseconds in UTC": pa.array([_NOON], pa.timestamp("ms", tz="UTC")),
    "another zone": pa.array([_NOON.astimezone(timezone(timedelta(hours=5)))], pa.timestamp("us", tz="+05:00")),
    "nanoseconds": pa.array([_NOON], pa.timestamp("ns", tz="UTC")),
    "integers": pa.array([_SECONDS], pa.int64()),
    "floats": pa.array([float(_SECONDS * 1000)], pa.float64()),
    "text": pa.array(["2024-05-31 12:00:00"]),
}


@pytest.mark.parametrize("times", _MOMENTS.values(), ids=_MOMENTS)
def test_times_of_parquet(times: pa.Array, bring: Bring, rows: Rows) -> None:
    bring(_MAPPING % ("e.parquet", "auto"), {"e.parquet": pa.table({"u": [1], "i": [1], "t": times})})
    assert _times(rows) == [_NOON]


def test_dates_of_parquet_are_midnight(bring: Bring, rows: Rows) -> None:
    table = pa.table({"u": [1], "i": [1], "t": pa.array([date(2024, 5, 31)], pa.date32())})
    bring(_MAPPING % ("e.parquet", "auto"), {"e.parquet": table})
    assert _times(rows) == [_NOON.replace(hour=0)]


def test_what_parquet_times_cannot_be(bring: Bring) -> None:
    def table(times: pa.Array) -> dict[str, pa.Table]:
        return {"e.parquet": pa.table({"u": [1], "i": [1], "t": times})}

    with pytest.raises(DataError, match=r"e.parquet: column 't' holds times as 32-bit floats, which reorder events"):
        bring(_MAPPING % ("e.parquet", "seconds"), table(pa.array([1.0], pa.float32())))
    with pytest.raises(
        ConfigError, match=r"column 't' has the type TIMESTAMP, so its format cannot be ms; leave the format out"
    ):
        bring(_MAPPING % ("e.parquet", "ms"), table(pa.array([_NOON.replace(tzinfo=None)], pa.timestamp("us"))))
    with pytest.raises(DataError, match=r"column 't' has the type BOOLEAN, which cannot be read as time"):
        bring(_MAPPING % ("e.parquet", "auto"), table(pa.array([True])))


def test_times_that_are_attributes_may_lie_in_the_future_or_long_ago(bring: Bring, rows: Rows) -> None:
    items = "items: {file: i.csv, item: i, attributes: {since: {column: s, type: time, format: %s}}}\n"
    files = _csv(1) | {"i.csv": "i,s\n1,1937-12-21\n2,2099-01-01\n3,\n"}
    bring(_MAPPING % ("e.csv", "seconds") + items % "iso", files)
    assert [r["since"] and r["since"].year for r in rows("items")] == [1937, 2099, None]
    for far in (-(10**12), 10**12):
        with pytest.raises(DataError, match=r"column s: out of range .* \(expected a year from 1 to 9999\)"):
            bring(_MAPPING % ("e.csv", "seconds") + items % "seconds", {"i.csv": f"i,s\n1,{far}\n"})


def test_an_attribute_table_valid_from_the_future_is_refused(bring: Bring) -> None:
    items = "items: {file: i.csv, item: i, timestamp: s}\n"
    with pytest.raises(DataError, match=r"i.csv, row 1, column s: time in the future"):
        bring(_MAPPING % ("e.csv", "seconds") + items, _csv(1) | {"i.csv": "i,s\n1,2099-01-01\n"})


def test_positions_stand_in_for_times_and_it_is_said(bring: Bring, rows: Rows) -> None:
    report = bring(_MAPPING % ("e.csv", "position"), _csv(0, 2, "3.0"))
    start = datetime(2000, 1, 1, tzinfo=UTC)
    assert _times(rows) == [start, start + timedelta(hours=2), start + timedelta(hours=3)]
    assert [(r["hour"], r["weekday"]) for r in rows("interactions")] == [(None, None)] * 3
    assert report.time == "position"
    assert "event times are made" in report.notes[0]
    for bad, said in {
        "-1": "out of range .*counts from 0",
        "1.5": "wrong type",
        "x": "wrong type",
        "1e12": "future",
    }.items():
        with pytest.raises(DataError, match=f"row 1, column t: .*{said}"):
            bring(_MAPPING % ("e.csv", "position"), _csv(bad))


def test_rows_are_sorted_by_user_time_and_input(bring: Bring, rows: Rows) -> None:
    lines = ["2,1,30", "1,7,20", "10,1,5", "1,3,20", "1,5,10", "2,1,5"]
    bring(_MAPPING % ("e.csv", "seconds"), {"e.csv": "\n".join(["u,i,t", *lines])})
    assert [(r["user_id"], r["item_id"], r["input_order"]) for r in rows("interactions")] == [
        (1, 5, 5),
        (1, 7, 2),
        (1, 3, 4),
        (2, 1, 6),
        (2, 1, 1),
        (10, 1, 3),
    ]


def test_the_written_types_are_those_every_reader_counts_on(bring: Bring, workspace: Workspace, tmp_path: Path) -> None:
    bring(_MAPPING % ("e.csv", "seconds"), _csv(1))
    schema = pq.read_schema(workspace.tables / "interactions.parquet")
    assert {f.name: str(f.type) for f in schema} == {
        "user_id": "int64",
        "item_id": "int64",
        "event_timestamp": "timestamp[us, tz=UTC]",
        "event_type": "string",
        "rating": "float",
        "hour": "int64",
        "weekday": "int64",
        "input_order": "int64",
    }


_ZONES = ("", "Z", "+05:30", " -0800", " America/New_York", "[Europe/Berlin]", " UTC", " Asia/Kolkata", " Nowhere/Land")
_WALLS = st.datetimes(datetime(1971, 1, 1), datetime(2024, 12, 30)).map(lambda t: t.replace(microsecond=0))


def _moment(wall: datetime, zone: str) -> datetime | None:
    """Return the moment of a local time by Python's own rules, None if there is none."""
    name = zone.strip(" []")
    if name == "Nowhere/Land":
        return None
    if name in ("", "Z", "UTC"):
        return wall.replace(tzinfo=UTC)
    if name[0] in "+-":
        return datetime.strptime(f"{wall.isoformat()}{name}", "%Y-%m-%dT%H:%M:%S%z").astimezone(UTC)
    moment = wall.replace(tzinfo=ZoneInfo(name)).astimezone(UTC)
    return moment if moment.astimezone(ZoneInfo(name)).replace(tzinfo=None) == wall else None


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.tuples(_WALLS, st.sampled_from(_ZONES)), min_size=1, max_size=12))
@example(times=[(datetime(2024, 10, 27, 2, 30), "[Europe/Berlin]"), (datetime(2024, 3, 31, 2, 30), "[Europe/Berlin]")])
@example(
    times=[
        (datetime(2024, 4, 7, 1, 45), " Australia/Lord_Howe"),
        (datetime(2024, 10, 6, 2, 15), "[Australia/Lord_Howe]"),
    ]
)
@example(
    times=[(datetime(2024, 10, 27, 1, 30), " Antarctica/Troll"), (datetime(2024, 10, 27, 3), "[Antarctica/Troll]")]
)
@example(times=[(datetime(2024, 5, 31, 18), " America/New_York"), (datetime(2024, 5, 31, 18), "")])
def test_no_time_depends_on_those_before_it(times: list[tuple[datetime, str]]) -> None:
    texts = [f"{wall.isoformat(' ')}{zone}" for wall, zone in times]
    field = Field(name="t", column="t", kind=Kind.TIME, time_format=TimeFormat.ISO)
    sql = time_value(field, RawColumn(sql="t", type=TEXT), "text", "t", "e.csv")
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        db.register("written", pa.table({"t": texts}))
        found = [row[0] for row in db.execute(f"SELECT {sql} FROM written").fetchall()]
    assert found == [_moment(wall, zone) for wall, zone in times]


def test_files_of_one_table_may_write_their_times_differently(bring: Bring, rows: Rows) -> None:
    forms = {"a": "2024-05-31T14:00:00+02:00", "b": _SECONDS, "c": _SECONDS * 1000, "d": _SECONDS * 10**9}
    report = bring(
        _MAPPING % ("'*.csv'", "auto"),
        {f"{name}.csv": f"u,i,t\n{n},1,{time}\n" for n, (name, time) in enumerate(forms.items())},
    )
    assert (_times(rows), [f.kept for f in report.inputs]) == ([_NOON] * 4, [1] * 4)


def test_parquet_times_beside_numbers(bring: Bring, rows: Rows) -> None:
    tables = {"a": pa.array([_SECONDS], pa.int64()), "b": pa.array([_NOON], pa.timestamp("us", tz="UTC"))}
    files = {f"{name}.parquet": pa.table({"u": [n], "i": [1], "t": t}) for n, (name, t) in enumerate(tables.items())}
    bring(_MAPPING % ("'*.parquet'", "auto"), files)
    assert _times(rows) == [_NOON] * 2


def test_a_number_in_another_unit_than_most_is_bad_and_not_1970(bring: Bring, rows: Rows) -> None:
    for scale, said in ((1000, "milliseconds"), (10**6, "microseconds"), (10**9, "nanoseconds")):
        times = (_SECONDS * scale, 0, _SECONDS * scale + 1, _SECONDS)
        expected = f"row 4, column t: out of range '{_SECONDS}' .*expected {said} since 1970, as most"
        with pytest.raises(DataError, match=expected):
            bring(_MAPPING % ("e.csv", "auto"), _csv(*times))
        bring(_MAPPING % ("e.csv", "auto"), on_error="quarantine")
        assert len(rows("interactions")) == 3
