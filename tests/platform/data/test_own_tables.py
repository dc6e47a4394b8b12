"""Exports as they come: decimal commas, local times, null users, attributes in several files, JSON lines, items not offered."""

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from rf_platform.data.report import ImportReport
from rf_platform.errors import ConfigError, DataError, RfError

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_LOG = "name: shop\ninteractions: {file: e.csv, user: u, item: i, timestamp: t}\n"
_EVENTS = "u,i,t\n1,A,2024-05-31\n2,B,2024-05-31\n2,X,2024-05-31\n"


def test_a_german_export(bring: Bring, rows: Rows) -> None:
    report = bring(
        "name: laden\ntimezone: Europe/Berlin\ndecimal: ','\n"
        "interactions: {file: e.csv, csv: {delimiter: ';'}, user: Kunde, item: Artikel,\n"
        "  timestamp: {column: Zeit, format: '%d.%m.%Y %H:%M'}, context: {betrag: Betrag}}\n",
        {
            "e.csv": "Kunde;Artikel;Zeit;Betrag\n1;7;31.03.2024 01:59;12,90\n1;8;31.03.2024 03:00;1.234,56\n"
            "1;9;27.10.2024 02:30;5\n"
        },
    )
    found = rows("interactions")
    assert [r["betrag"] for r in found] == [12.9, 1234.56, 5.0]
    assert [r["event_timestamp"] for r in found] == [
        datetime(2024, 3, 31, 0, 59, tzinfo=UTC),
        datetime(2024, 3, 31, 1, 0, tzinfo=UTC),
        datetime(2024, 10, 27, 0, 30, tzinfo=UTC),  # the first of two
    ]
    assert any("1 events lie in an hour that the clocks of Europe/Berlin showed twice" in w for w in report.warnings)
    assert report.writing["interactions.betrag"] == {"decimal": ","}


def test_a_local_time_that_clocks_skipped_is_bad(bring: Bring) -> None:
    with pytest.raises(DataError, match=r"row 1, column t: wrong type '31.03.2024 02:30'.*Europe/Berlin did not skip"):
        bring(
            "name: a\ntimezone: Europe/Berlin\ninteractions: {file: e.csv, user: u, item: i,\n"
            "  timestamp: {column: t, format: '%d.%m.%Y %H:%M'}}\n",
            {"e.csv": "u,i,t\n1,2,31.03.2024 02:30\n"},
        )


def test_a_parquet_time_without_zone_is_local(bring: Bring, rows: Rows) -> None:
    times = pa.array([datetime(2024, 7, 1, 12)], pa.timestamp("us"))
    bring(
        "name: a\ntimezone: Europe/Berlin\ninteractions: {file: e.parquet, user: u, item: i, timestamp: t}\n",
        {"e.parquet": pa.table({"u": [1], "i": [2], "t": times})},
    )
    assert rows("interactions")[0]["event_timestamp"] == datetime(2024, 7, 1, 10, tzinfo=UTC)


def test_events_without_a_user_go_by_session(bring: Bring, rows: Rows) -> None:
    mapping = _LOG.replace("user: u", "user: {column: u, fallback: s}")
    report = bring(mapping, {"e.csv": "u,s,i,t\n7,x,A,2024-05-31\n,y,B,2024-05-31\n,y,A,2024-06-01\n"})
    assert [r["user_id"] for r in rows("interactions")] == ["7", "y", "y"]
    assert report.notes == ("2 events without u make 1 histories by s",)


def test_a_session_that_is_also_a_user_is_told_apart(bring: Bring, rows: Rows) -> None:
    files = {"e.csv": "u,s,i,t\n7,1,A,2024-05-31\n,7,B,2024-05-31\n"}
    with pytest.raises(DataError, match="1 ids of the column 's' are also ids of users in 'u', for example '7'"):
        bring(_LOG.replace("user: u", "user: {column: u, fallback: s}"), files)
    bring(_LOG.replace("user: u", "user: {column: u, fallback: s, prefix: 'session:'}"), files)
    assert [r["user_id"] for r in rows("interactions")] == ["7", "session:7"]


def test_a_row_without_user_and_session_is_bad(bring: Bring) -> None:
    with pytest.raises(DataError, match="row 1, column u: null key"):
        bring(_LOG.replace("user: u", "user: {column: u, fallback: s}"), {"e.csv": "u,s,i,t\n,,A,2024-05-31\n"})


def test_attributes_in_three_files(bring: Bring, rows: Rows) -> None:
    embeddings = "".join(json.dumps({"sku": s, "vec": [1, 0.5]}) + "\n" for s in "AC")
    report = bring(
        _LOG + "items:\n  - {file: p.csv, item: i, attributes: [brand]}\n"
        "  - {file: v.jsonl.gz, item: sku, attributes: {vector: vec}}\n  - {file: s.csv, item: i, attributes: [stars]}\n",
        {
            "e.csv": _EVENTS,
            "p.csv": "i,brand\nA,x\nB,y\n",
            "v.jsonl.gz": gzip.compress(embeddings.encode()),
            "s.csv": "i,stars\nB,4\n",
        },
    )
    found = {r["item_id"]: (r["brand"], r["vector"], r["stars"], r["recommendable"]) for r in rows("items")}
    assert found == {"A": ("x", [1.0, 0.5], None, 1), "B": ("y", None, 4, 1), "X": (None, None, None, 0)}
    assert any(w.startswith("v.jsonl.gz: 1 items are left out, for example 'C'") for w in report.warnings)
    assert any(
        "1 interactions name 1 items that the items table lacks, for example 'X'; they stay" in w
        for w in report.warnings
    )


def test_parts_with_times_are_joined_as_of(bring: Bring, rows: Rows) -> None:
    bring(
        _LOG + "items:\n  - {file: p.csv, item: i, attributes: [brand]}\n"
        "  - {file: c.csv, item: i, timestamp: since, attributes: [price]}\n",
        {
            "e.csv": "u,i,t\n1,A,2024-05-31\n",
            "p.csv": "i,brand\nA,x\n",
            "c.csv": "i,since,price\nA,2024-01-01,5\nA,2024-03-01,6\n",
        },
    )
    found = [(r["event_timestamp"].month, r["event_timestamp"].year, r["brand"], r["price"]) for r in rows("items")]
    assert found == [(1, 1970, "x", None), (1, 2024, "x", 5), (3, 2024, "x", 6)]


def test_a_further_part_without_times_adds_no_rows(bring: Bring, rows: Rows) -> None:
    bring(
        _LOG + "items:\n  - {file: p.csv, item: i, timestamp: since, attributes: [brand]}\n"
        "  - {file: v.csv, item: i, attributes: [stars]}\n",
        {
            "e.csv": "u,i,t\n1,A,2024-05-31\n",
            "p.csv": "i,since,brand\nA,2024-01-01,x\nA,2024-03-01,y\n",
            "v.csv": "i,stars\nA,4\n",
        },
    )
    found = [(r["event_timestamp"].month, r["brand"], r["stars"]) for r in rows("items")]
    assert found == [(1, "x", 4), (3, "y", 4)]


def test_clocks_may_differ_by_a_day(bring: Bring, rows: Rows) -> None:
    bring(_LOG, {"e.csv": "u,i,t\n1,A,2024-05-31\n1,A,2024-12-31T23:59:59Z\n"})
    assert len(rows("interactions")) == 2
    with pytest.raises(DataError, match="time in the future"):
        bring(_LOG, {"e.csv": "u,i,t\n1,A,2024-05-31\n1,A,2025-01-01T00:00:01Z\n"})


def test_an_attribute_of_two_parts_is_refused(bring: Bring) -> None:
    with pytest.raises(ConfigError, match="items: 'brand' is taken"):
        bring(
            _LOG
            + "items:\n  - {file: p.csv, item: i, attributes: [brand]}\n  - {file: q.csv, item: i, attributes: [brand]}\n",
            {"e.csv": _EVENTS},
        )


@pytest.mark.parametrize(
    ("said", "offered"),
    [
        ("live", ["A"]),
        ("stock > 0", ["A", "C"]),
        ("stock = 3, 7", ["A", "C"]),
        ("stock != 0", ["A", "C"]),
        ("live = true", ["A"]),
        ("code = 7", ["B"]),
        ("status = active, preorder", ["A", "B"]),
        ("status != gone", ["A", "B"]),
        ("until >= 2024-06-01", ["B"]),
        ("until absent", ["C"]),
    ],
)
def test_what_is_recommendable(bring: Bring, rows: Rows, said: str, offered: list[str]) -> None:
    bring(
        _LOG + f"items: {{file: p.csv, item: i, recommendable: '{said}'}}\n",
        {
            "e.csv": "u,i,t\n1,A,2024-05-31\n",
            "p.csv": "i,live,stock,status,until,code\nA,yes,3.0,active,2024-05-01,007\nB,no,0.0,preorder,2024-07-01,7\n"
            "C,,7.0,gone,,\n",
        },
    )
    assert [r["item_id"] for r in rows("items") if r["recommendable"]] == offered


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("stock > ten", "> compares with one number or time"),
        ("stock > 1, 2", "> compares with one number or time"),
        ("stock = 1 or live = yes", "'or' and 'not' are for filters"),
        ("not live = yes", "'or' and 'not' are for filters"),
        ("live = perhaps", "none of the 1 items is recommended, by 'live = perhaps'"),
    ],
)
def test_a_condition_that_would_offer_nothing_is_refused(bring: Bring, said: str, why: str) -> None:
    with pytest.raises(RfError, match=why):
        bring(
            _LOG + f"items: {{file: p.csv, item: i, recommendable: '{said}'}}\n",
            {"e.csv": "u,i,t\n1,A,2024-05-31\n", "p.csv": "i,live,stock\nA,yes,3\n"},
        )


def test_items_of_the_log_alone_are_offered_if_asked(bring: Bring, rows: Rows) -> None:
    report = bring(
        _LOG + "items: {file: p.csv, item: i, undescribed: offer, attributes: [brand]}\n",
        {"e.csv": _EVENTS, "p.csv": "i,brand\nA,x\n"},
    )
    assert [r["item_id"] for r in rows("items")] == ["A"]
    assert "recommendable" not in report.columns["items"]


def test_json_lines_of_mixed_types(bring: Bring, rows: Rows) -> None:
    events = [
        {"u": 1, "i": "A", "t": "2024-05-31T10:00:00Z", "ctx": {"device": "app"}, "tags": ["x", "y"], "n": "5"},
        {"u": "2", "i": "B", "t": "2024-05-31T12:00:00+02:00", "tags": "z", "n": 6},
    ]
    bring(
        "name: a\ninteractions: {file: e.jsonl, user: u, item: i, timestamp: t,\n"
        "  context: {device: ctx.device, tags: tags, n: n}}\n",
        {"e.jsonl": "".join(json.dumps(e) + "\n" for e in events)},
    )
    found = [(r["user_id"], r["device"], r["tags"], r["n"], r["event_timestamp"].hour) for r in rows("interactions")]
    assert found == [(1, "app", ["x", "y"], 5, 10), (2, None, ["z"], 6, 10)]


def test_a_line_that_is_no_object_is_a_bad_row(bring: Bring) -> None:
    with pytest.raises(DataError, match=r"e\.jsonl, row 2: not a JSON object 'oops'"):
        bring(
            "name: a\ninteractions: {file: e.jsonl, user: u, item: i, timestamp: t}\n",
            {"e.jsonl": '{"u": 1, "i": 2, "t": "2024-05-31"}\noops\n'},
        )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("timezone: Europe/Berln", "did you mean 'Europe/Berlin'"),
        ("timezone: EST", "timezone: no such time zone"),
        ("decimal: ';'", "decimal: Input should be '.' or ','"),
    ],
)
def test_wrong_ways_of_writing_are_named(bring: Bring, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bring(f"{line}\n{_LOG}", {"e.csv": _EVENTS})


def test_milliseconds_that_are_read_as_microseconds_are_named(bring: Bring) -> None:
    report = bring(
        _LOG.replace("timestamp: t", "timestamp: {column: t, format: us}"), {"e.csv": "u,i,t\n1,A,1711961999000\n"}
    )
    assert any("1711961999000 looks like milliseconds since 1970 (2024-04-01T08:59:59Z)" in w for w in report.warnings)
