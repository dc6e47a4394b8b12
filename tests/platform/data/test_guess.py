"""Files that nobody has described: a drafted mapping that imports, what it is unsure of, and columns that look wrong."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.guess import guess_mapping
from rf_platform.data.report import ImportReport
from rf_platform.data.scaffold import init_repo
from rf_platform.data.suspicions import find_suspicions
from rf_platform.errors import ConfigError, DataError, NotFoundError, UsageError
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

EVENTS = "Kunde;Sitzung;Artikel;Zeit;Aktion\n" + "".join(
    f"{'' if n % 5 == 0 else n % 7};s{n};A{n % 6};{1 + n % 28:02d}.03.2024 {n % 24:02d}:30;{('klick', 'kauf')[n % 2]}\n"
    for n in range(60)
)
PRODUCTS = "sku;Titel;Preis;Pfad\n" + "".join(f"A{n};Stück Nr {n};{n + 1},90;Damen > Hosen {n}\n" for n in range(6))


def put(inbox: Path) -> list[Path]:
    (inbox / "events.csv").write_text(EVENTS)
    (inbox / "products.csv").write_bytes(PRODUCTS.encode("cp1252"))
    vectors = "".join(json.dumps({"sku": f"A{n}", "vec": [n, 0.5]}) + "\n" for n in range(5))
    (inbox / "vectors.jsonl.gz").write_bytes(gzip.compress(vectors.encode()))
    return [Path(name) for name in ("vectors.jsonl.gz", "products.csv", "events.csv")]


def test_the_draft_imports(inbox: Path, bring: Bring, rows: Rows) -> None:
    text, unsure = guess_mapping(put(inbox), "laden", inbox)
    report = bring(text)
    assert report.counts["interactions"] == 60
    assert [i.file for i in report.inputs] == ["events.csv", "products.csv", "vectors.jsonl.gz"]
    first = rows("items")[0]
    assert (first["titel"], first["preis"], first["pfad"], first["vec"]) == (
        "Stück Nr 0",
        1.9,
        ["Damen", "Hosen 0"],
        [0.0, 0.5],
    )
    assert report.display == ("titel",)
    assert {r["user_id"] for r in rows("interactions") if r["user_id"].startswith("session:")} >= {
        "session:s0",
        "session:s5",
    }
    assert any("12 events have no Kunde" in each for each in unsure)
    assert any("have no zone" in each for each in unsure)


def test_what_is_no_log_is_said(inbox: Path) -> None:
    put(inbox)
    with pytest.raises(UsageError, match=r"products\.csv has no user, the item sku, no time"):
        guess_mapping([Path("products.csv")], "a", inbox)
    (inbox / "short.csv").write_text("user,item,ts,event\n" + "1,2,1700000000\n" * 9)
    with pytest.raises(UsageError, match=r"no time, 9 rows that cannot be read \(row 1: wrong number of fields"):
        guess_mapping([Path("short.csv")], "a", inbox)
    with pytest.raises(NotFoundError, match=r"absent\.csv is no file"):
        guess_mapping([Path("absent.csv")], "a", inbox)


def test_what_spreadsheets_and_programs_make_of_columns(inbox: Path, bring: Bring, rows: Rows) -> None:
    """Twelve hours with am and pm, ids with a point, and values of several lines."""
    (inbox / "log.csv").write_text(
        "user;item;when\n"
        + "".join(f"{n % 9}.0;B{n % 8};{1 + n % 12}/{13 + n % 9}/2023 {1 + n % 12}:05 PM\n" for n in range(40))
    )
    texts = ('"one\nand ""two"""', "plain", '"x; y"')
    (inbox / "items.csv").write_text("item;text;n\n" + "".join(f"B{n};{texts[n % 3]};{n}\n" for n in range(8)))
    draft, unsure = guess_mapping([Path("log.csv"), Path("items.csv")], "shop", inbox)
    assert any("user of the log has ids like 0.0" in each for each in unsure)
    bring(draft.replace(', separator: ";"', ""))
    assert rows("interactions")[0]["event_timestamp"].hour == 13
    assert rows("items")[0]["text"] == 'one\nand "two"'


def test_columns_of_any_script_have_names_of_their_own(inbox: Path, bring: Bring) -> None:
    (inbox / "log.csv").write_text("user,item,ts\n" + "".join(f"{n % 9},{n % 8},{1700000000 + n}\n" for n in range(40)))
    rows = [
        {"item": n, "名称": f"x{n % 2}", "цена": n % 3, "été": n % 2, "ete": n % 2, "more": {"a": n}} for n in range(8)
    ]
    pq.write_table(pa.Table.from_pylist(rows), inbox / "items.parquet")
    draft, _ = guess_mapping([Path("log.csv"), Path("items.parquet")], "shop", inbox)
    assert "more: more  # unsure: of the type STRUCT" in draft
    assert {"column", "column_2", "ete", "ete_2"} < set(bring(draft).columns["items"])


def test_suspicious_columns(bring: Bring, workspace: Workspace, tmp_path: Path) -> None:
    columns = "i,price,paid,day,live,same,text,code,seen,brand"
    lines = [
        f'{n},"{n},5",{n}.5 EUR,{1 + n % 28:02d}.03.2024,{("ja", "nein")[n % 2]},x,text no {n},0{n % 9},170000{n:04d},b{n % 3}'
        for n in range(40)
    ]
    report = bring(
        "name: shop\ninteractions: {file: e.csv, user: u, item: i, timestamp: t}\n"
        "items: {file: i.csv, item: i, attributes: [price, paid, day, live, same, text, code, brand]}\n",
        {"e.csv": "u,i,t\n1,1,2024-05-31\n", "i.csv": "\n".join([columns, *lines]) + "\n"},
    )
    found = {each.column: str(each) for each in find_suspicions(workspace, report)}
    assert found.keys() == {"price", "paid", "day", "live", "same", "text"}
    assert "decimal: ','" in found["price"]
    assert "numbers with a unit" in found["paid"]
    assert "type: time, format: '%d.%m.%Y'" in found["day"]
    assert "type: bool" in found["live"]
    assert "the same value, 'x'" in found["same"]
    assert "display: true" in found["text"]
    init_repo(workspace, tmp_path / "repo")
    written = (tmp_path / "repo" / "definitions.py").read_text()
    assert '        # truth values read as text; say `type: bool` in the mapping\n        Field(name="live"' in written


def log(item: Callable[[int], str], user: Callable[[int], str] = str, time: Callable[[int], str] | None = None) -> str:
    when = time or (lambda n: f"2024-03-{1 + n % 28:02d}T08:{n % 60:02d}:00")
    return "user_id,sku,ts\n" + "".join(f"{user(n % 9)},{item(n % 8)},{when(n)}\n" for n in range(60))


@pytest.mark.parametrize(
    ("in_log", "in_table"),
    [("0000{}", "{}"), ("SKU-{}", "sku-{}"), ("{}.0", "{}")],
    ids=["leading zeros", "case", "floats"],
)
def test_ids_that_are_written_otherwise_are_named(inbox: Path, bring: Bring, in_log: str, in_table: str) -> None:
    (inbox / "log.csv").write_text(log(in_log.format))
    (inbox / "items.csv").write_text("sku,kind\n" + "".join(f"{in_table.format(n)},k{n % 3}\n" for n in range(8)))
    draft, unsure = guess_mapping([Path("log.csv"), Path("items.csv")], "shop", inbox)
    assert "items:\n  - file: items.csv\n    item: sku" in draft
    said = f"items.csv writes ids otherwise than the log ({in_table.format(0)!r} and {in_log.format(0)!r}"
    assert any(said in each for each in unsure)
    (warning,) = (each for each in bring(draft).warnings if "lacks" in each)
    assert "8 of them are there, written otherwise" in warning


def test_texts_for_no_value_are_none(inbox: Path, bring: Bring, rows: Rows) -> None:
    none = ("NULL", "None", "N/A")
    (inbox / "log.csv").write_text(log(str, lambda n: none[n] if n < 3 else f"u{n}"))
    (inbox / "items.csv").write_text("sku,price\n" + "".join(f"{n},{'n/a' if n == 1 else n}\n" for n in range(8)))
    draft, unsure = guess_mapping([Path("log.csv"), Path("items.csv")], "shop", inbox)
    assert "'N/A', 'NULL', 'None' in log.csv are taken for no value (null_values)" in unsure
    undeclared = draft.replace('csv: {null_values: ["N/A", "NULL", "None"]}', "")
    (warning,) = (each for each in bring(undeclared).warnings if "look like" in each)
    assert "users called 'N/A' (7 events), 'NULL' (7 events), 'None' (7 events) look like none" in warning
    assert rows("items")[1]["price"] is None
    assert rows("items")[2]["price"] == 2


def test_one_user_for_all_that_are_not_known_is_named(bring: Bring) -> None:
    events = "".join(f"{0 if n % 5 else n},{n % 8},{1700000000 + n}\n" for n in range(200))
    report = bring(
        "name: shop\ninteractions: {file: e.csv, user: u, item: i, timestamp: t}\n", {"e.csv": f"u,i,t\n{events}"}
    )
    assert any("user '0' has 161 of 200 events; if it stands for visitors" in each for each in report.warnings)


def test_odd_files_of_spreadsheets(inbox: Path, bring: Bring) -> None:
    """A line that tells the delimiter, names with umlauts, years of two digits, an attribute called on, thousands."""
    times = "".join(f"K{n % 9};A{n % 8};{1 + n % 28:02d}.03.24 08:{n % 60:02d}\r\n" for n in range(60))
    (inbox / "log.csv").write_bytes(f"sep=;\r\nKäufer ID;Artikel;Zeit\r\n{times}".encode("utf-8-sig"))
    lines = "".join(f"A{n};{('on', 'off')[n % 2]};{n + 1},{n:03d}\n" for n in range(8))
    (inbox / "items.csv").write_text(f"Artikel;on;views\n{lines}")
    draft, unsure = guess_mapping([Path("log.csv"), Path("items.csv")], "shop", inbox)
    assert 'timestamp: {column: Zeit, format: "%d.%m.%y %H:%M"}' in draft
    assert any(each.startswith("views: '1,000' may be thousands or a fraction") for each in unsure)
    report = bring(draft)
    assert (report.first_event or "").startswith("2024-03-01")
    assert report.columns["items"]["views"] == "string"  # not 1.0
    assert "on" in report.columns["items"]


def test_times_that_differ_from_the_others_are_named(inbox: Path) -> None:
    (inbox / "log.csv").write_text(
        log(str, time=lambda n: "01.03.2024" if n % 20 == 7 else f"2024-03-02T08:{n:02d}:00")
    )
    _, unsure = guess_mapping([Path("log.csv")], "shop", inbox)
    assert any("3 of 60 times of ts are written otherwise than the others, such as '01.03.2024'" in e for e in unsure)


def test_times_of_parquet_with_a_zone_have_one(inbox: Path) -> None:
    times = pa.array([1_700_000_000_000_000 + n for n in range(40)], pa.timestamp("us", "Europe/Berlin"))
    ids = [f"{n % 8}" for n in range(40)]
    pq.write_table(pa.table({"user_id": ids, "item_id": ids, "at": times}), inbox / "log.parquet")
    draft, _ = guess_mapping([Path("log.parquet")], "shop", inbox)
    assert "timezone" not in draft


def test_days_and_prices_of_spreadsheets_are_doubted_and_read(inbox: Path, bring: Bring, rows: Rows) -> None:
    """2024-01-01 is day 45292; prices have a unit and a decimal comma."""
    (inbox / "log.csv").write_text(
        "user;item;Datum\n" + "".join(f"{n % 9};B{n % 8};{45292 + n},{25 if n % 2 else 5}\n" for n in range(40))
    )
    (inbox / "items.csv").write_text(
        "item;Preis;Gewicht;angelegt_date\n" + "".join(f"B{n};{n + 1},90 €;{n} kg;{45000 + n}\n" for n in range(8))
    )
    draft, unsure = guess_mapping([Path("log.csv"), Path("items.csv")], "shop", inbox)
    assert "Datum: '45292,5' is taken for days as spreadsheets count them (45292 is 2024-01-01)" in unsure
    assert "Preis: the unit '€' is taken off, and '1,90 €' becomes a number" in unsure
    assert any("the times of Datum (log.csv) have no zone" in each for each in unsure)
    bring(draft.replace("timezone: UTC", "timezone: Europe/Berlin"))
    times = [row["event_timestamp"].isoformat() for row in rows("interactions")]
    assert (min(times), times[0]) == ("2024-01-01T11:00:00+00:00", "2024-01-01T11:00:00+00:00")
    first = rows("items")[0]
    assert (first["preis"], first["gewicht"]) == (1.9, 0.0)
    assert first["angelegt_date"].isoformat().startswith("2023-03-14T23:00")


def test_prices_in_two_currencies_do_not_compare(inbox: Path, bring: Bring) -> None:
    (inbox / "log.csv").write_text(log(str))
    (inbox / "items.csv").write_text(
        "sku,price\n" + "".join(f"{n},{f'$ {n}.50' if n % 2 else f'{n}.50 EUR'}\n" for n in range(8))
    )
    draft, unsure = guess_mapping([Path("log.csv"), Path("items.csv")], "shop", inbox)
    (doubt,) = (each for each in unsure if each.startswith("price: "))
    assert doubt == "price: numbers in $, EUR do not compare: bring them to one unit, or leave the column out"
    assert 'price: {column: price, unit: ["$", "EUR"], decimal: "."}  # unsure' in draft
    # A unit that the mapping does not name is refused, with the row.
    with pytest.raises(DataError, match=r"items\.csv, row 2, column price: wrong type '\$ 1\.50'"):
        bring(draft.replace('["$", "EUR"]', "EUR"))


def test_spreadsheet_days_that_nobody_declared_are_named(bring: Bring, workspace: Workspace) -> None:
    mapping = "name: shop\ninteractions: {file: e.csv, user: u, item: i, timestamp: t}\n"
    events = "u,i,t\n" + "".join(f"{n % 5},{n % 4},{45292 + n}\n" for n in range(30))
    report = bring(mapping, {"e.csv": events})
    (warning,) = (each for each in report.warnings if "spreadsheets" in each)
    assert "45292 may be a day as spreadsheets count them: is `format: excel` meant?" in warning
    items = "items: {file: i.csv, item: i, attributes: [launch_date]}\n"
    table = "i,launch_date\n" + "".join(f"{n},{45000 + n}\n" for n in range(30))
    right = mapping.replace("timestamp: t", "timestamp: {column: t, format: excel}")
    report = bring(right + items, {"e.csv": events, "i.csv": table})
    assert not any("spreadsheets" in each for each in report.warnings)
    (found,) = find_suspicions(workspace, report)
    assert "say `type: time, format: excel` in the mapping" in str(found)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{column: p, unit: EUR, type: string}", "'unit' is for numbers"),
        ("{column: p, unit: EUR, separator: '|'}", "'unit' is for single numbers"),
        ("{column: p, unit: ''}", "unit"),
    ],
)
def test_units_of_what_is_no_number(bring: Bring, wrong: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        bring(
            "name: shop\ninteractions: {file: e.csv, user: u, item: i, timestamp: t}\n"
            f"items: {{file: i.csv, item: i, attributes: {{price: {wrong}}}}}\n",
            {"e.csv": "u,i,t\n1,1,2024-05-31\n", "i.csv": "i,p\n1,2 EUR\n"},
        )
