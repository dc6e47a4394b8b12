"""Types of ids and attributes: what is found out, what is declared, what is refused."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.report import ImportReport
from rf_platform.errors import ConfigError, DataError
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_LOG = "name: shop\ninteractions: {file: %s, user: %s, item: i, timestamp: t}\n"
_ITEMS = "items: {file: %s, item: %s}\n"
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
        (pa.array(["a"]), "strings", "column 'x' has the type VARCHAR, which cannot be read as strings"),
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
    mapping = _LOG % ("e.csv", "u") + "items: {file: i.csv, item: id, timestamp: at, attributes: [price]}\n"
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
