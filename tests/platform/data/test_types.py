"""Types of ids and attributes: what is found out, what is declared, what is refused."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rf_platform.data.convert import convert
from rf_platform.data.infer import LoadedTable, settle
from rf_platform.data.raw import EMPTY, TEXT, RawColumn, RawFile
from rf_platform.data.report import ImportReport
from rf_platform.data.specs import Field, InputFile, Kind, TableSpec, TextFormat
from rf_platform.errors import ConfigError, DataError
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_LOG = "name: shop\ninteractions: {file: %s, user: %s, item: i, timestamp: t}\n"
_ITEMS = "items: {undescribed: offer, file: %s, item: %s}\n"
_EVENTS = "u,i,t\n1,10,100\n2,20,200\n"


def _ids(rows: Rows, table: str, column: str) -> list[Any]:
    return [r[column] for r in rows(table)]


@pytest.mark.parametrize(
    ("users", "expected"),
    [
        (["2", "1", "-3"], [-3, 1, 2]),
        (["2", "u1"], ["2", "u1"]),
        (["007", "7"], ["007", "7"]),  # as numbers these two would be one user
        (["+1", "1"], ["+1", "1"]),
        (["9223372036854775807"], [9223372036854775807]),
        (["9223372036854775808"], ["9223372036854775808"]),
        (["1.0", "2.0"], ["1.0", "2.0"]),
        (["Ä", "a"], ["a", "Ä"]),
    ],
)
def test_ids_are_whole_numbers_if_all_of_them_are(
    users: list[str], expected: list[Any], bring: Bring, rows: Rows
) -> None:
    bring(_LOG % ("e.csv", "u"), {"e.csv": "u,i,t\n" + "".join(f"{u},1,1\n" for u in users)})
    assert _ids(rows, "interactions", "user_id") == expected


def test_ids_have_one_type_in_all_tables(bring: Bring, rows: Rows) -> None:
    items = pa.table({"id": [10, 20]})
    bring(_LOG % ("e.csv", "u") + _ITEMS % ("i.parquet", "id"), {"e.csv": _EVENTS, "i.parquet": items})
    assert _ids(rows, "items", "item_id") == [10, 20]
    bring(_LOG % ("e.csv", "u") + _ITEMS % ("i.parquet", "id"), {"e.csv": _EVENTS + "1,x,300\n"})
    assert _ids(rows, "items", "item_id") == ["10", "20"]
    assert _ids(rows, "interactions", "item_id") == ["10", "x", "20"]


def test_declared_ids(bring: Bring, rows: Rows) -> None:
    bring(_LOG % ("e.csv", "{column: u, type: string}"), {"e.csv": _EVENTS})
    assert _ids(rows, "interactions", "user_id") == ["1", "2"]
    bring(_LOG % ("e.csv", "{column: u, type: int}"), {"e.csv": "u,i,t\n007,1,1\n8.0,1,1\n"})
    assert _ids(rows, "interactions", "user_id") == [7, 8]
    users = "users: {file: u.csv, user: {column: u, type: int}}\n"
    with pytest.raises(
        ConfigError, match=r"user ids are declared as int and as string; give them one type in all tables"
    ):
        bring(_LOG % ("e.csv", "{column: u, type: string}") + users, {"u.csv": "u\n1\n"})


def test_whole_floats_of_parquet_are_ids(bring: Bring, rows: Rows) -> None:
    table = pa.table({"u": [1.0, 2.0], "i": ["a", "b"], "t": [1, 2]})
    bring(_LOG % ("e.parquet", "u"), {"e.parquet": table})
    assert _ids(rows, "interactions", "user_id") == [1, 2]
    bring(_LOG % ("e.parquet", "{column: u, type: string}"))
    assert _ids(rows, "interactions", "user_id") == ["1", "2"]


_ATTRIBUTES = """name: shop
interactions: {file: e.csv, user: u, item: i, timestamp: t}
items:
  undescribed: offer
  file: %s
  item: id
  attributes:
"""


def _attribute_types(workspace: Workspace) -> dict[str, str]:
    schema = pq.read_schema(workspace.tables / "items.parquet")
    return {
        f.name: str(f.type).replace("element: ", "") for f in schema if f.name not in ("item_id", "event_timestamp")
    }


def test_attribute_types_of_text_are_found_out(bring: Bring, rows: Rows, workspace: Workspace) -> None:
    header = ["id", "whole", "number", "text", "zip", "none", "mixed", "tags", "ints", "flag", "vector", "since"]
    first = ["10", "1", "1.5", "a", "02134", "", "1", "x|y| |x", "3;4", "yes", "[0.5, 1]", "2024-01-01"]
    second = ["20", "", "2", "b", "90210", "", "b", "", "[5]", "", "", ""]
    mapping = _ATTRIBUTES % "i.csv" + "".join(f"    {n}: {n}\n" for n in header[1:7])
    mapping += '    tags: {column: tags, separator: "|"}\n    ints: {column: ints, type: ints, separator: ";"}\n'
    mapping += "    flag: {column: flag, type: bool}\n    vector: {column: vector, type: floats, separator: ','}\n"
    mapping += "    since: {column: since, type: time}\n"
    lines = "\n".join(",".join(f'"{v}"' for v in line) for line in (header, first, second))
    report = bring(mapping, {"e.csv": _EVENTS, "i.csv": lines})
    assert _attribute_types(workspace) == {
        "whole": "int64",
        "number": "double",
        "text": "string",
        "zip": "string",
        "none": "string",
        "mixed": "string",
        "tags": "list<string>",
        "ints": "list<int64>",
        "flag": "int64",
        "vector": "list<float>",
        "since": "timestamp[us, tz=UTC]",
    }
    assert (report.settled["items.whole"], report.settled["items.since"]) == ("int", "iso")
    first_row, second_row = rows("items")
    assert first_row["tags"] == ["x", "y", "x"]
    assert (first_row["ints"], first_row["flag"], first_row["vector"]) == ([3, 4], 1, [0.5, 1.0])
    assert (second_row["whole"], second_row["tags"], second_row["ints"], second_row["vector"]) == (
        None,
        None,
        [5],
        None,
    )


def test_attribute_types_of_parquet_are_kept(bring: Bring, rows: Rows, workspace: Workspace) -> None:
    table = pa.table(
        {
            "id": [10, 20],
            "small": pa.array([1, None], pa.int8()),
            "price": [Decimal("1.50"), None],
            "on": [True, None],
            "digits": ["1", "2"],
            "kind": pa.array(["a", "b"]).dictionary_encode(),
            "vector": pa.array([[0.5, 1.0], None], pa.list_(pa.float32(), 2)),
            "tags": pa.array([["a", None], []], pa.large_list(pa.string())),
        }
    )
    names = table.column_names[1:]
    mapping = _ATTRIBUTES % "i.parquet" + "".join(f"    '{n}': '{n}'\n" for n in names)
    bring(mapping, {"e.csv": _EVENTS, "i.parquet": table})
    assert list(_attribute_types(workspace).values()) == [
        "int64",
        "double",
        "int64",
        "string",
        "string",
        "list<float>",
        "list<string>",
    ]
    first, second = rows("items")
    assert [first[n] for n in names] == [1, 1.5, 1, "1", "a", [0.5, 1.0], ["a"]]
    assert [second[n] for n in names] == [None, None, None, "2", "b", None, []]


@pytest.mark.parametrize(
    ("values", "declared", "said"),
    [
        (pa.array([{"a": 1}]), "auto", r"column 'x' has the type STRUCT\(a BIGINT\), which cannot be read as string"),
        (pa.array(["a"]), "strings", "row 1, column x: wrong type .*expected a list in JSON"),
        (pa.array([[1]]), "int", r"column 'x' has the type BIGINT\[\], which cannot be read as int"),
        (pa.array([["a"]]), "floats", "row 1, column x: wrong type .*expected numbers"),
        (pa.array([[0.5, None]]), "floats", "row 1, column x: wrong type .*expected numbers"),
    ],
)
def test_types_that_do_not_fit_are_refused(values: pa.Array, declared: str, said: str, bring: Bring) -> None:
    mapping = _ATTRIBUTES % "i.parquet" + f"    x: {{column: x, type: {declared}}}\n"
    with pytest.raises(DataError, match=f"i.parquet[:,] {said}"):
        bring(mapping, {"e.csv": _EVENTS, "i.parquet": pa.table({"id": [10], "x": values})})


def test_attributes_with_times_may_describe_an_item_more_than_once(bring: Bring, rows: Rows) -> None:
    mapping = (
        _LOG % ("e.csv", "u")
        + "items: {undescribed: offer, file: i.csv, item: id, timestamp: at, attributes: [price]}\n"
    )
    content = "id,at,price\n10,2024-02-01,2\n10,2024-01-01,1\n20,2024-01-01,5\n"
    bring(mapping, {"e.csv": _EVENTS, "i.csv": content})
    assert [(r["item_id"], r["event_timestamp"].month, r["price"]) for r in rows("items")] == [
        (10, 1, 1),
        (10, 2, 2),
        (20, 1, 5),
    ]
    with pytest.raises(
        DataError, match=r"i.csv, row 4, column id: duplicate key '10' \(the same item_id, event_timestamp as in row 2"
    ):
        bring(mapping, {"i.csv": content + "10,2024-01-01,1\n"})


_COLUMN = _ATTRIBUTES + "    x: x\n"


def _items(values: dict[str, list[str] | pa.Array]) -> dict[str, str | pa.Table]:
    """Return files of items with one attribute each, text or Parquet by the name."""
    files: dict[str, str | pa.Table] = {}
    for n, (name, column) in enumerate(values.items()):
        ids = [100 * n + k for k in range(len(column))]
        lines = "".join(f"{i},{v}\n" for i, v in zip(ids, column, strict=True))
        files[name] = pa.table({"id": ids, "x": column}) if isinstance(column, pa.Array) else f"id,x\n{lines}"
    return files


@pytest.mark.parametrize(
    ("files", "kind", "expected"),
    [
        ({"a.csv": ["", ""], "b.csv": ["3.5", "4"]}, "double", [None, None, 3.5, 4.0]),
        ({"a.csv": ["", ""], "b.csv": ["3", "4"]}, "int64", [None, None, 3, 4]),
        ({"a.csv": ["1"], "b.csv": ["1.5"]}, "double", [1.0, 1.5]),
        ({"a.csv": ["007"], "b.csv": ["1"]}, "string", ["007", "1"]),
        ({"a.csv": [""], "b.csv": [""]}, "string", [None, None]),
        ({"a.csv": [str(2**64 - 1)], "b.csv": ["1"]}, "string", [str(2**64 - 1), "1"]),
        ({"a.csv": [str(2**63 - 1), str(-(2**63)), ""]}, "int64", [2**63 - 1, -(2**63), None]),
        ({"a.parquet": pa.nulls(1), "b.parquet": pa.array(["x"])}, "string", [None, "x"]),
        ({"a.parquet": pa.array([None], pa.float64()), "b.parquet": pa.array(["x"])}, "string", [None, "x"]),
        ({"a.parquet": pa.nulls(1), "b.parquet": pa.array([[0.5, 1.0]])}, "list<float>", [None, [0.5, 1.0]]),
        ({"a.parquet": pa.array([None], pa.float64()), "b.parquet": pa.array([["t"]])}, "list<string>", [None, ["t"]]),
        ({"a.parquet": pa.array([[1]]), "b.parquet": pa.array([[0.5]])}, "list<float>", [[1.0], [0.5]]),
        ({"a.parquet": pa.array([2**53 + 1]), "b.parquet": pa.array([5.0, None])}, "int64", [2**53 + 1, 5, None]),
        ({"a.parquet": pa.array([3]), "b.parquet": pa.array([5.0, None])}, "double", [3.0, 5.0, None]),
        ({"a.parquet": pa.array([1, 2**63 - 1], pa.uint64())}, "int64", [1, 2**63 - 1]),
        ({"a.parquet": pa.array([1, 2**64 - 1], pa.uint64())}, "string", ["1", str(2**64 - 1)]),
        ({"a.parquet": pa.array([Decimal(2**63 - 1), None], pa.decimal128(38, 0))}, "int64", [2**63 - 1, None]),
        ({"a.parquet": pa.array([Decimal(2**64)], pa.decimal128(38, 0))}, "string", [str(2**64)]),
    ],
)
def test_only_files_with_values_have_a_say(
    files: dict[str, list[str] | pa.Array],
    kind: str,
    expected: list[Any],
    bring: Bring,
    rows: Rows,
    workspace: Workspace,
) -> None:
    pattern = "'[ab].parquet'" if "a.parquet" in files else "'[ab].csv'"
    bring(_COLUMN % pattern, {"e.csv": _EVENTS, **_items(files)})
    assert _attribute_types(workspace) == {"x": kind}
    assert [r["x"] for r in rows("items")] == expected


@given(numbers=st.lists(st.none() | st.integers(-(2**64), 2**64 - 1), min_size=1, max_size=6))
@example(numbers=[2**53 + 1, None])
@settings(max_examples=40, deadline=None)
def test_whole_numbers_are_exact_or_text(numbers: list[int | None]) -> None:
    """As text, and as the narrowest Parquet column that holds them; what is beyond 64 bits is a code and stays text."""
    field = Field(name="x", column="x", kind=Kind.AUTO)
    some = any(n is not None for n in numbers)
    fits = some and all(n is None or -(2**63) <= n < 2**63 for n in numbers)
    for column in (pa.array([None if n is None else str(n) for n in numbers]), _whole_column(numbers)):
        with duckdb.connect() as db:
            db.register("given", pa.table({"c0": column}))
            db.execute("CREATE TABLE raw AS FROM given")
            held = db.execute("DESCRIBE raw").fetchall()[0][1]
            raw = RawFile(
                number=0,
                file=InputFile(path=Path("x"), name="x"),
                relation="raw",
                columns={"x": RawColumn(sql="c0", type=TEXT if held == "VARCHAR" else held if some else EMPTY)},
                rows=len(numbers),
                undecodable=False,
                null_values=(),
            )
            spec = TableSpec(table="items", files=(), format=TextFormat(), fields=(field,), outputs={})
            (table,) = settle(db, [LoadedTable(spec, (raw,))])
            settled = table.spec.fields[0]
            conversion = convert(raw, settled, "b", "v", "now()")
            found = db.execute(f"SELECT {conversion.value} FROM (SELECT {conversion.base} AS b FROM raw)").fetchall()
        assert settled.kind is (Kind.INT if fits else Kind.STRING)
        assert [row[0] for row in found] == (numbers if fits else [n if n is None else str(n) for n in numbers])


def _whole_column(numbers: list[int | None]) -> pa.Array:
    for kind in (pa.int64(), pa.uint64()):
        try:
            return pa.array(numbers, kind)
        except (OverflowError, pa.ArrowInvalid):
            continue
    return pa.array([None if n is None else Decimal(n) for n in numbers], pa.decimal128(38, 0))


def test_unsigned_ids_are_text_whatever_the_file(bring: Bring, rows: Rows) -> None:
    ids = [2**64 - 5, 2**63 + 1, 12]
    table = pa.table({"u": pa.array(ids, pa.uint64()), "i": [1, 2, 3], "t": [100] * 3})
    bring(_LOG % ("e.parquet", "u"), {"e.parquet": table})
    assert sorted(_ids(rows, "interactions", "user_id")) == sorted(map(str, ids))
    bring(_LOG % ("e.csv", "u"), {"e.csv": "u,i,t\n" + "".join(f"{u},1,1\n" for u in ids)})
    assert sorted(_ids(rows, "interactions", "user_id")) == sorted(map(str, ids))


def test_ids_that_a_float_may_have_rounded_are_bad(bring: Bring) -> None:
    for kind, first in ((pa.float64(), 2**53), (pa.float32(), 2**24)):
        table = pa.table({"u": pa.array([1.0, first], kind), "i": [1, 2], "t": [100] * 2})
        for declared in ("u", "{column: u, type: string}"):
            with pytest.raises(DataError, match=r"row 2, column u: out of range .* does not hold such whole numbers"):
                bring(_LOG % ("e.parquet", declared), {"e.parquet": table})


@pytest.mark.parametrize("number", ["1e300", "-3.5e38", "1e39"])
def test_a_number_that_no_32_bit_float_holds_is_bad(number: str, bring: Bring, rows: Rows) -> None:
    mapping = """name: shop
interactions: {file: e.csv, user: u, item: i, timestamp: t, rating: r, context: {p: {column: p, type: float}}}
items: {undescribed: offer, file: i.csv, item: id, attributes: {v: {column: v, type: floats, separator: ";"}}}
"""
    events = f"u,i,t,r,p\n1,10,100,4,3.4e38\n2,10,100,{number},1\n3,10,100,1,{number}\n"
    bring(mapping, {"e.csv": events, "i.csv": f"id,v\n10,1;3.4e38\n11,1;{number}\n"}, on_error="quarantine")
    assert [r["user_id"] for r in rows("interactions")] == [1]
    assert [r["item_id"] for r in rows("items")] == [10]
    assert [(r["file"], r["row"], r["column"], r["reason"]) for r in rows("quarantine")] == [
        ("e.csv", 2, "r", "out of range"),
        ("e.csv", 3, "p", "out of range"),
        ("i.csv", 2, "v", "out of range"),
    ]


def test_ids_that_change_their_type_between_deliveries_are_explained(bring: Bring) -> None:
    def warned(more: str) -> list[str]:
        report = bring(_LOG % ("e.csv", "u"), {"e.csv": _EVENTS + more})
        return [w for w in report.warnings if "ids were" in w]

    assert not warned("")
    (warning,) = warned("2,X1,300\n")
    assert "item ids were whole numbers in the import before and are text now" in warning
    assert "(the first that is no whole number: 'X1' in e.csv, row 3)" in warning
    assert not warned("2,X1,300\n")
    (warning,) = warned("")
    assert "item ids were text in the import before and are whole numbers now: " in warning


def test_parquet_columns_whose_names_differ_in_case_only(bring: Bring, rows: Rows) -> None:
    table = pa.table({"ID": [10], "id": [7], "Price": [1.5], "price": [2.5], "PRICE": [3.5], "file_row_number": ["a"]})
    mapping = _ATTRIBUTES % "i.parquet" + "    low: price\n    high: PRICE\n    mark: file_row_number\n"
    bring(mapping.replace("item: id", "item: ID"), {"e.csv": _EVENTS, "i.parquet": table})
    assert [{k: r[k] for k in ("item_id", "low", "high", "mark")} for r in rows("items")] == [
        {"item_id": 10, "low": 2.5, "high": 3.5, "mark": "a"}
    ]
