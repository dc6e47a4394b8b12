from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec
from rf_platform.serving_log import RECORD, ServingParts, moment_column, record_schema, value_column

DAY_US = 86_400_000_000
SPEC = FeatureSpec(
    service="retrieval",
    user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
    item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
    fields=(
        FieldSpec(
            view="h",
            field="ids",
            side="context",
            kind="categorical",
            role="history",
            dtype="Array(Int64)",
            of="item_id",
        ),
        FieldSpec(view="u", field="age", side="user", kind="numeric", role="feature", dtype="Int64"),
    ),
    domains=(),
    history_length=5,
)


def records(*times_us: int, spec_hash: str = "ab" * 32) -> pa.Table:
    rows = [
        {
            "request_id": f"r{t}",
            "time": datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=t),
            "spec_hash": spec_hash,
        }
        for t in times_us
    ]
    return pa.Table.from_pylist(rows, record_schema(SPEC))


def test_every_spec_has_columns_of_its_own_behind_the_common_ones() -> None:
    schema = record_schema(SPEC)
    assert schema.names[: len(RECORD)] == RECORD.names
    assert schema.names[len(RECORD) :] == [
        value_column("u__age"),
        value_column("h__ids"),
        moment_column("h"),
        moment_column("u"),
    ]
    assert schema.field(value_column("h__ids")).type == pa.list_(pa.int64())


def test_files_are_found_by_time_and_spec_without_being_opened(tmp_path: Path) -> None:
    parts = ServingParts(tmp_path / "log")
    assert parts.parts() == []
    parts.add(records(30 * DAY_US, 10 * DAY_US))
    parts.add(records(40 * DAY_US, spec_hash="cd" * 32))
    first, second = parts.parts()
    assert (first.first_us, first.last_us, second.first_us) == (10 * DAY_US, 30 * DAY_US, 40 * DAY_US)
    assert parts.parts(since_us=30 * DAY_US + 1) == [second]
    assert parts.parts(until_us=40 * DAY_US) == [first]
    assert parts.parts(spec_hash="cd" * 32) == [second]


def test_files_of_several_specs_are_one_table_in_duckdb(tmp_path: Path) -> None:
    parts = ServingParts(tmp_path)
    parts.add(records(DAY_US))
    parts.add(records(2 * DAY_US).drop_columns([value_column("u__age")]))
    found = duckdb.sql(f"SELECT request_id FROM read_parquet('{tmp_path}/*.parquet', union_by_name=true) ORDER BY time")
    assert [row[0] for row in found.fetchall()] == [f"r{DAY_US}", f"r{2 * DAY_US}"]


def test_retention_removes_what_is_old_and_the_oldest_beyond_a_size(tmp_path: Path) -> None:
    parts = ServingParts(tmp_path)
    for day in (1, 2, 3):
        parts.add(records(day * DAY_US))
    now = 4 * DAY_US
    assert [p.first_us for p in parts.expired(days=2.0, megabytes=None, now_us=now)] == [DAY_US]
    assert [p.first_us for p in parts.expired(days=None, megabytes=0, now_us=now)] == [DAY_US, 2 * DAY_US, 3 * DAY_US]
    assert parts.expired(days=10, megabytes=1, now_us=now) == []
    parts.remove(parts.expired(days=2.0, megabytes=None, now_us=now))
    assert [p.first_us for p in parts.parts()] == [2 * DAY_US, 3 * DAY_US]
