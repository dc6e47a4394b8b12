"""Mapping files: what they may say, and what is said when they are wrong."""

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.mapping import Mapping, load_mapping
from rf_platform.data.report import ImportReport
from rf_platform.errors import ConfigError, DataError, NotFoundError, UsageError

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_LOG = "interactions: {file: e.csv, user: u, item: i, timestamp: t"


def _load(tmp_path: Path, text: str) -> Mapping:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    return load_mapping(path)


def test_short_and_long_forms_mean_the_same(tmp_path: Path) -> None:
    short = _load(tmp_path, f"name: a\n{_LOG}, event_type: k, rating: r, context: [d]}}\n")
    long = _load(
        tmp_path,
        """
name: a
interactions:
  file: e.csv
  user: {column: u, type: auto}
  item: {column: i}
  timestamp: {column: t, format: AUTO}
  event_type: {column: k}
  rating: {column: r, min: null}
  context: {d: {column: d}}
  sorted: false
""",
    )
    assert short == long


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"name: a\n{_LOG}, usr: x}}\n", "unknown key 'interactions.usr'; did you mean 'user'?"),
        (
            f"name: a\n{_LOG}, zzz: x}}\n",
            "unknown key 'interactions.zzz'; known keys: file, format, csv, timezone, decimal, user, item",
        ),
        (f"nam: a\n{_LOG}}}\n", "name is missing; unknown key 'nam'; did you mean 'name'?"),
        (
            f"name: a\n{_LOG}, rating: {{column: r, maximum: 5}}}}\n",
            "unknown key 'interactions.rating.maximum'; did you mean 'max'?",
        ),
        (f"name: a\n{_LOG}, csv: {{sep: x}}}}\n", "unknown key 'interactions.csv.sep'; known keys: delimiter, quote"),
        (
            f"name: a\n{_LOG}, context: {{d: {{column: d, typ: int}}}}}}\n",
            "unknown key 'interactions.context.d.typ'; did you mean 'type'?",
        ),
        (
            "name: a\ninteractions: {file: e.csv, user: u}\n",
            "interactions.item is missing; interactions.timestamp is missing",
        ),
        (f"name: a b\n{_LOG}}}\n", "name: String should match pattern"),
        (f"name: a\n{_LOG}, rating: {{column: r, min: 5, max: 1}}}}\n", "interactions.rating: min 5 is above max 1"),
        (
            f"name: a\n{_LOG}, rating: {{column: r, min: .inf}}}}\n",
            "interactions.rating.min: Input should be a finite number",
        ),
        (f"name: a\n{_LOG}, csv: {{quote: '\u00a7'}}}}\n", "interactions.csv.quote: String should match pattern"),
        (f"name: a\n{_LOG}, event_type: {{}}}}\n", "interactions.event_type: give either 'column' or 'value'"),
        (f"name: a\n{_LOG}, sorted: perhaps}}\n", "interactions.sorted: Input should be a valid boolean"),
        (
            "name: a\ninteractions: {file: e, user: u, item: i, timestamp: {column: t, format: minutes}}\n",
            "interactions.timestamp.format: Input should be 'auto', 'seconds', 'ms', 'us', 'ns', 'iso', 'excel' or 'position', "
            "or a pattern such as '%d.%m.%Y %H:%M' (given: 'minutes')",
        ),
        (f"name: a\n{_LOG}, context: [rating]}}\n", "interactions: 'rating' is taken"),
        (f"name: a\n{_LOG}, context: {{d: d, D: e}}}}\n", "interactions: 'D' is taken"),
        (f"name: a\n{_LOG}, context: [a__b]}}\n", "interactions: 'a__b' cannot name a feature"),
        (f"name: a\n{_LOG}, context: ['unit price']}}\n", "write `my_name: {column: 'unit price'}`"),
        (
            f"name: a\n{_LOG}, context: {{d: {{column: d, type: int, separator: ';'}}}}}}\n",
            "interactions.context.d: 'separator' is for multi-valued types (strings, ints, floats), not for 'int'",
        ),
        (f"name: a\n{_LOG}, context: {{d: {{column: d, format: ms}}}}}}\n", "'format' is for columns of type 'time'"),
        (
            f"name: a\n{_LOG}}}\nitems: {{file: i.csv, item: i, timestamp: {{column: t, format: position}}}}\n",
            "items.timestamp: 'position' is an order of events",
        ),
        (f"name: a\nname: b\n{_LOG}}}\n", "is not valid YAML: the key 'name' is given twice"),
        ("name: [", "is not valid YAML"),
        ("- name", "must be a mapping with the keys name, timezone, decimal, interactions, items, users"),
    ],
)
def test_what_is_wrong_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        _load(tmp_path, text)
    assert "m.yaml" in str(refused.value)
    assert said in str(refused.value)


def test_a_mapping_is_needed_and_must_exist(bring: Bring, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"custom needs --mapping FILE"):
        bring()
    with pytest.raises(NotFoundError, match=r"no mapping file .*nowhere.yaml"):
        load_mapping(tmp_path / "nowhere.yaml")
    with pytest.raises(UsageError, match=r"--mapping is for the source 'custom'; movielens-100k has its own columns"):
        bring("name: a", source="movielens-100k")
    with pytest.raises(
        NotFoundError, match=r"no source 'netflix'; known are movielens-100k, movielens-1m, amazon-beauty"
    ):
        bring(source="netflix")
    with pytest.raises(ConfigError, match=r"the name 'movielens-1m' belongs to a source of its own"):
        bring(f"name: movielens-1m\n{_LOG}}}\n", {"e.csv": "u,i,t\n1,2,3\n"})


@pytest.mark.parametrize(
    ("mapping", "files", "said"),
    [
        (f"name: a\n{_LOG}}}\n", {}, "interactions.file: nothing in .* is called 'e.csv'"),
        (
            f"name: a\n{_LOG.replace('e.csv', 'e.bin')}}}\n",
            {"e.bin": "x"},
            "'e.bin' does not tell its format; add `format: csv`",
        ),
        (
            f"name: a\n{_LOG.replace('e.csv', 'e.*')}}}\n",
            {"e.csv": "x", "e.tsv": "x"},
            "matches files of different formats",
        ),
        (f"name: a\n{_LOG}, csv: {{delimiter: '::'}}}}\n", {"e.csv": "x"}, "is more than one byte; set `quote: null`"),
        (
            f"name: a\n{_LOG}, format: parquet, csv: {{}}}}\n",
            {"e.csv": "x"},
            "says how text is written, but 'e.csv' is Parquet",
        ),
    ],
)
def test_what_files_and_mapping_disagree_about(mapping: str, files: dict[str, str], said: str, bring: Bring) -> None:
    with pytest.raises((ConfigError, NotFoundError), match=said):
        bring(mapping, files)


def test_a_missing_column_names_the_file_and_a_likely_one(bring: Bring) -> None:
    with pytest.raises(
        DataError, match=r"e.csv: missing column 'rating', .*\(the file has: u, i, t, ratings\); did you mean 'ratings'"
    ):
        bring(f"name: a\n{_LOG}, rating: rating}}\n", {"e.csv": "u,i,t,ratings\n1,2,3,4\n"})


def test_many_files_make_one_table_in_the_order_of_their_names(bring: Bring, rows: Rows, inbox: Path) -> None:
    (inbox / "parts [1]").mkdir()
    for name, user in (("ab", 2), ("a?", 1)):
        pq.write_table(pa.table({"u": [user], "i": [1], "t": [5]}), inbox / "parts [1]" / f"{name}.parquet")
    report = bring("name: a\ninteractions: {file: 'parts [[]1]/*.parquet', user: u, item: i, timestamp: t}\n")
    assert [f.file for f in report.inputs] == ["parts [1]/a?.parquet", "parts [1]/ab.parquet"]
    assert [(r["user_id"], r["input_order"]) for r in rows("interactions")] == [(1, 1), (2, 2)]


def test_files_of_one_table_may_differ_in_column_order_and_type(bring: Bring, rows: Rows) -> None:
    mapping = "name: a\ninteractions: {file: '*.parquet', user: u, item: i, timestamp: t, context: [price]}\n"
    first = pa.table({"u": [1], "i": [1], "t": [5], "price": [1]})
    second = pa.table({"price": [2.5], "t": [6], "i": ["x"], "u": [1]})
    report = bring(mapping, {"a.parquet": first, "b.parquet": second})
    assert [(r["item_id"], r["price"]) for r in rows("interactions")] == [("1", 1.0), ("x", 2.5)]
    assert report.columns["interactions"]["price"] == "double"


def test_files_are_looked_for_below_path_beside_the_mapping_or_where_it_says(
    bring: Bring, rows: Rows, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "e.csv").write_text("u,i,t\n7,2,3\n")
    bring(f"name: a\n{_LOG}}}\n", {"e.csv": "u,i,t\n1,2,3\n"})
    assert rows("interactions")[0]["user_id"] == 1
    bring(f"name: a\n{_LOG}}}\n", path=elsewhere)
    assert rows("interactions")[0]["user_id"] == 7
    report = bring(f"name: a\n{_LOG.replace('e.csv', str(elsewhere / '*.csv'))}}}\n")
    assert rows("interactions")[0]["user_id"] == 7
    assert report.inputs[0].file == str(elsewhere / "e.csv")


def test_files_inside_an_archive_may_have_any_name(bring: Bring, rows: Rows, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("data/log [1].csv", "u,i,t\n1,2,3\n")
        archive.writestr("data/log 1.csv", "u,i,t\n4,5,6\n")
    log = "name: a\ninteractions: {file: '%s', user: u, item: i, timestamp: t}\n"
    report = bring(log % "data/log [1].csv", path=tmp_path / "all.zip")
    assert [f.file for f in report.inputs] == ["all.zip/data/log [1].csv"]
    assert rows("interactions")[0]["user_id"] == 1
    report = bring(log % "*/log*.csv", path=tmp_path / "all.zip")
    assert [f.file for f in report.inputs] == ["all.zip/data/log 1.csv", "all.zip/data/log [1].csv"]


def test_one_event_type_for_all(bring: Bring, rows: Rows) -> None:
    bring(f'name: a\n{_LOG}, event_type: {{value: "it\'s"}}}}\n', {"e.csv": "u,i,t\n1,2,3\n"})
    assert rows("interactions")[0]["event_type"] == "it's"
    bring(f"name: a\n{_LOG}}}\n")
    assert rows("interactions")[0]["event_type"] == "interaction"


def test_the_example_in_the_documentation_works(bring: Bring, rows: Rows, inbox: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    (inbox / "events").mkdir()
    events = "customer,session,sku,at,action,stars,device,channel\n7,s1,00a,31.05.2024 18:00,buy,5,ios,app\n"
    (inbox / "events" / "1.csv").write_text(events)
    products = {"sku": ["00a"], "valid_from": ["2024-01-01"], "product_name": ["A thing"], "price": [1.5], "stock": [3]}
    products["shipping"] = ["4,90 €"]
    products |= {"tags": ["x|y"], "vector": ["0.5,1"], "released": [1_700_000_000]}
    pq.write_table(pa.table(products), inbox / "products.parquet")
    products["path"] = ["Shoes > Boots"]
    pq.write_table(pa.table(products), inbox / "products.parquet")
    (inbox / "image_vectors.jsonl.gz").write_bytes(gzip.compress(b'{"sku": "00a", "vector": [0.5, 1.0]}\n', mtime=0))
    report = bring(example, {"customers.csv": "id,segment,country\n7,gold,FR\n"})
    assert report.counts == {"interactions": 1, "items": 1, "users": 1, "active_users": 1, "quarantined": 0}
    assert report.display == ("title",)
    (item,) = rows("items")  # the part without a time adds none
    assert item["shipping"] == 4.9
    assert (item["title"], item["category"], item["image"], item["stock"]) == (
        "A thing",
        ["Shoes", "Boots"],
        [0.5, 1.0],
        3,
    )
