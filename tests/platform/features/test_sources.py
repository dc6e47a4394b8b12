"""A view's file against its definition."""

from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.errors import ConfigError, DataError, NotFoundError
from rf_platform.features.dtype import Dtype
from rf_platform.features.read import ViewSource
from rf_platform.features.sources import ViewColumns, view_columns
from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec, IdType


def columns(path: Path, dtype: str, ids: IdType = "int64") -> ViewColumns:
    field = FieldSpec(view="v", field="f", side="item", kind="categorical", role="feature", dtype=dtype)
    spec = FeatureSpec(
        service="s",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type=ids),
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
        return view_columns(db, source, spec)


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
    expression = columns(write(tmp_path / "v.parquet", values), dtype).features["v__f"]
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
    assert not Dtype.of("Float32").fits("DECIMAL(18,3)[]")
    assert not Dtype.of("Array(Float32)").fits("FLOAT[][]")


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


def test_columns_whose_names_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.parquet"
    for columns_ in ({"Col": ["x"]}, {"Col": ["x"], "col": ["a"]}):
        pq.write_table(pa.table({"item_id": [1], "ts": pa.array([0], pa.timestamp("us")), **columns_}), path)
        with pytest.raises(ConfigError, match=r"needs the column 'col', .*no two columns may differ in case only"):
            columns(path, "String")


def test_quotes_in_paths(tmp_path: Path) -> None:
    directory = tmp_path / "it's"
    directory.mkdir()
    assert columns(write(directory / "v.parquet", pa.array(["a"])), "String")


def read_keys(path: Path, keys: pa.Array, ids: IdType) -> list[int | str]:
    """Write a view with these keys, and return them as they are read."""
    times = pa.array([0] * len(keys), pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"item_id": keys, "ts": times, "col": ["a"] * len(keys)}), path)
    return [row[0] for row in duckdb.sql(f"SELECT {columns(path, 'String', ids).key} FROM '{path}'").fetchall()]


@pytest.mark.parametrize(
    ("keys", "ids", "expected"),
    [
        (pa.array([10.0, -3.0]), "string", ["10", "-3"]),  # what pandas makes of whole numbers with gaps
        (pa.array([10.0, 2.0**53 - 1]), "int64", [10, 2**53 - 1]),
        (pa.array([10, 2**63 - 1]), "string", ["10", str(2**63 - 1)]),
        (pa.array([2**64 - 1, 1], pa.uint64()), "string", [str(2**64 - 1), "1"]),
        (pa.array([2**63 - 1, 1], pa.uint64()), "int64", [2**63 - 1, 1]),
        (pa.array([Decimal(2**63 - 1), Decimal(1)], pa.decimal128(38, 0)), "int64", [2**63 - 1, 1]),
        (pa.array([Decimal(2**64), Decimal(1)], pa.decimal128(38, 0)), "string", [str(2**64), "1"]),
        (pa.array([" a", "b\t", "\u00a0c\u3000", "d e"]), "string", ["a", "b", "c", "d e"]),
        (pa.array(["a", "b"]).dictionary_encode(), "string", ["a", "b"]),
    ],
)
def test_keys_are_read_as_an_import_reads_them(
    tmp_path: Path, keys: pa.Array, ids: IdType, expected: list[int | str]
) -> None:
    assert read_keys(tmp_path / "v.parquet", keys, ids) == expected


@pytest.mark.parametrize(
    ("keys", "ids", "said"),
    [
        (pa.array([1, None, None]), "int64", r"column 'item_id' has no id in row 2 of .*v\.parquet, and in 2 rows"),
        (pa.array([1.0, float("nan")]), "int64", "column 'item_id' 'nan' has no id in row 2"),
        (pa.array(["a", "\u200b "]), "string", "has no id in row 2"),
        (pa.array([1.0, 1.5]), "string", "column 'item_id' '1.5' is no whole number id in row 2"),
        (pa.array([1, 2**63], pa.uint64()), "int64", f"column 'item_id' '{2**63}' is no 64-bit id in row 2"),
        (pa.array([1.0, 2.0**53]), "int64", "is an id that a floating-point column does not hold exactly in row 2"),
        (pa.array([1.0, 2.0**24], pa.float32()), "string", "does not hold exactly in row 2"),
    ],
)
def test_a_bad_key_is_refused_by_row(tmp_path: Path, keys: pa.Array, ids: IdType, said: str) -> None:
    with pytest.raises(DataError, match=f"view 'v': {said}|view 'v': column 'item_id'.* {said}"):
        read_keys(tmp_path / "v.parquet", keys, ids)


@pytest.mark.parametrize(
    ("keys", "ids", "held"),
    [
        (pa.array(["1", "2"]), "int64", "VARCHAR"),
        (pa.array([True, False]), "string", "BOOLEAN"),
        (pa.array([0, 1], pa.timestamp("us")), "string", "TIMESTAMP"),
        (pa.array([[1], [2]]), "int64", r"BIGINT\[\]"),
    ],
)
def test_keys_of_another_type_are_refused(tmp_path: Path, keys: pa.Array, ids: IdType, held: str) -> None:
    with pytest.raises(ConfigError, match=f"joined by 'item_id', which holds {held} .* entity 'item' has {ids} ids"):
        read_keys(tmp_path / "v.parquet", keys, ids)


@pytest.mark.parametrize(
    ("times", "error", "said"),
    [
        (pa.array([0, None], pa.timestamp("us")), DataError, "column 'ts' has no time in row 2"),
        (
            pa.array([0, -(2**61)], pa.timestamp("us")),
            DataError,
            "column 'ts' .* is a time outside the years 1 to 9999",
        ),
        (pa.array([0, 2**61], pa.timestamp("us")), DataError, "column 'ts' .* is a time outside the years 1 to 9999"),
        (pa.array([0, 1]), ConfigError, "takes its times from 'ts', which holds BIGINT .* write it as a timestamp"),
        (pa.array(["2024-01-01", "2024-01-02"]), ConfigError, "takes its times from 'ts', which holds VARCHAR"),
    ],
)
def test_bad_times_are_refused(tmp_path: Path, times: pa.Array, error: type[Exception], said: str) -> None:
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"item_id": [1, 2], "ts": times, "col": ["a", "b"]}), path)
    with pytest.raises(error, match=f"view 'v'(:|) {said}"):
        columns(path, "String")


@pytest.mark.parametrize(
    ("dtype", "values", "said"),
    [
        ("Int32", pa.array([1, 2**31]), "column 'col' '2147483648' does not fit the declared Int32 in row 2"),
        ("Float32", pa.array([1.0, -1e300]), "column 'col' '-1e.300' is larger than any 32-bit float in row 2"),
    ],
)
def test_values_that_the_declared_type_cannot_hold(tmp_path: Path, dtype: str, values: pa.Array, said: str) -> None:
    with pytest.raises(DataError, match=said):
        columns(write(tmp_path / "v.parquet", values), dtype)
