"""A view's file against its definition."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.errors import ConfigError, DataError, NotFoundError
from rf_platform.features.read import ViewSource
from rf_platform.features.sources import feature_columns, fits
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec


def columns(path: Path, dtype: str) -> dict[str, str]:
    field = FieldSpec(view="v", field="f", side="item", kind="categorical", role="feature", dtype=dtype)
    spec = FeatureSpec(
        service="s",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=(field,),
        domains=(),
        history_length=5,
    )
    source = ViewSource(
        view="v",
        side="item",
        path=str(path),
        join_key="item_id",
        timestamp="ts",
        created=None,
        ttl=None,
        columns={"f": "col"},
    )
    with duckdb.connect() as db:
        return feature_columns(db, source, spec)


def write(path: Path, values: pa.Array, **more: pa.Array) -> Path:
    times = pa.array([0] * len(values), pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"item_id": list(range(len(values))), "ts": times, "col": values, **more}), path)
    return path


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("String", pa.array(["a", None])),
        ("Int64", pa.array([1, 2], pa.int16())),
        ("Int32", pa.array([1, 2], pa.uint8())),
        ("Bool", pa.array([True, None])),
        ("Float32", pa.array([1.5, 2.5], pa.float64())),
        ("Float64", pa.array([1, 2], pa.int64())),
        ("UnixTimestamp", pa.array([0, 1], pa.timestamp("ns", tz="UTC"))),
        ("Array(String)", pa.array([["a"], None])),
        ("Array(Float32)", pa.array([[0.5], []], pa.list_(pa.float64()))),
        ("Array(Float32)", pa.array([[0.5, 1.0], [1.0, 2.0]], pa.list_(pa.float32(), 2))),
        ("Array(Int64)", pa.nulls(2)),  # a column of nothing but nulls has no type of its own
        ("String", pa.nulls(2)),
    ],
)
def test_what_may_stand_for_a_dtype(tmp_path: Path, dtype: str, values: pa.Array) -> None:
    expression = columns(write(tmp_path / "v.parquet", values), dtype)["v__f"]
    read = duckdb.sql(f"SELECT {expression} AS f FROM read_parquet('{tmp_path}/v.parquet')").fetchall()
    assert len(read) == 2


@pytest.mark.parametrize(
    ("dtype", "values", "held"),
    [
        ("String", pa.array([1.0, 2.5]), "DOUBLE"),
        ("String", pa.array([0, 1], pa.timestamp("us")), "TIMESTAMP"),
        ("Int64", pa.array(["1", "x"]), "VARCHAR"),
        ("Int64", pa.array([2**64 - 1, 0], pa.uint64()), "UBIGINT"),
        ("UnixTimestamp", pa.array([1, 2]), "BIGINT"),
        ("Array(String)", pa.array(["a", "b"]), "VARCHAR"),
        ("Array(String)", pa.array([[1.0], None]), "DOUBLE[]"),
        ("Float32", pa.array([[1.0], None]), "DOUBLE[]"),
    ],
)
def test_another_type_is_refused_naming_view_field_and_both_types(
    tmp_path: Path, dtype: str, values: pa.Array, held: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        columns(write(tmp_path / "v.parquet", values), dtype)
    for part in ("v.f", dtype, "'col'", held, "v.parquet"):
        assert part in str(caught.value)


def test_decimals_and_depth_are_not_numbers() -> None:
    assert not fits("Float32", "DECIMAL(18,3)[]")
    assert not fits("Array(Float32)", "FLOAT[][]")


def test_a_missing_file_column_or_another_format_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"view 'v' reads .*nowhere\.parquet"):
        columns(tmp_path / "nowhere.parquet", "String")
    text = tmp_path / "v.csv"
    text.write_text("item_id,ts,col\n1,2,3\n")
    with pytest.raises(DataError, match=r"view 'v' reads .*v\.csv, which cannot be read as Parquet"):
        columns(text, "String")
    path = tmp_path / "short.parquet"
    pq.write_table(pa.table({"item_id": [1], "col": ["a"]}), path)
    with pytest.raises(ConfigError, match=r"view 'v' needs the column 'ts'.*it has: item_id, col"):
        columns(path, "String")


def test_quotes_in_paths(tmp_path: Path) -> None:
    directory = tmp_path / "it's"
    directory.mkdir()
    assert columns(write(directory / "v.parquet", pa.array(["a"])), "String")
