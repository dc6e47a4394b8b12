"""Text files as people really have them: line ends, quotes, encodings, compression, blocks."""

import gzip
from collections.abc import Callable
from typing import Any

import pytest

from rf_platform.data import text_reader
from rf_platform.data.report import ImportReport
from rf_platform.errors import ConfigError, DataError

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_MAPPING = """
name: shop
interactions:
  file: %s
  user: u
  item: i
  timestamp: t
  context: {note: {column: n, type: string}}
"""


def _notes(rows: Rows) -> list[str | None]:
    return [r["note"] for r in sorted(rows("interactions"), key=lambda r: r["input_order"])]


@pytest.mark.parametrize(
    "content",
    [
        "u,i,t,n\n1,2,3,x\n4,5,6,y\n",
        "u,i,t,n\r\n1,2,3,x\r\n4,5,6,y",
        "\ufeffu,i,t,n\n1,2,3,x\r\n4,5,6,y\n",
        '\n\nu,i,t,n\n\n1,2,3,x\n\n"4","5","6","y"\n\n',
        "u , i,t, n\n1, 2 ,3, x\n 4,5,6,y  \n",
        "n,extra,t,i,u\nx,,3,2,1\ny,,6,5,4\n",
    ],
    ids=["plain", "crlf", "bom", "empty lines", "spaces", "other order"],
)
def test_the_same_rows_however_they_are_written(content: str, bring: Bring, rows: Rows) -> None:
    report = bring(_MAPPING % "e.csv", {"e.csv": content})
    assert (report.inputs[0].read, report.inputs[0].kept) == (2, 2)
    assert [(r["user_id"], r["item_id"], r["note"], r["input_order"]) for r in rows("interactions")] == [
        (1, 2, "x", 1),
        (4, 5, "y", 2),
    ]


def test_quotes_hold_delimiters_line_breaks_and_quotes(bring: Bring, rows: Rows) -> None:
    content = 'u,i,t,n\n1,2,3,"a, ""b""\nc"\n1,2\n4,5,6,\n7,8,x,5"\n'
    report = bring(_MAPPING % "e.csv", {"e.csv": content}, on_error="quarantine")
    assert _notes(rows) == ['a, "b"\nc', None]
    assert [(r["row"], r["reason"]) for r in rows("quarantine")] == [(2, "wrong number of fields"), (4, "wrong type")]
    assert report.inputs[0].read == 4


@pytest.mark.parametrize("tail", ['1,2,3,"open\n4,5,6,x\n', '1,2,"open\n4,5,6,x\n'], ids=["last column", "in between"])
def test_a_quote_that_is_never_closed_is_refused_not_swallowed(tail: str, bring: Bring) -> None:
    for on_error in ("fail", "quarantine"):
        with pytest.raises(DataError, match=r"e.csv, row 2: a quote is opened and never closed"):
            bring(_MAPPING % "e.csv", {"e.csv": f"u,i,t,n\n9,9,9,x\n{tail}"}, on_error=on_error)


def test_a_record_longer_than_a_block_is_refused(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "_BLOCK_BYTES", 1 << 10)
    content = "u,i,t,n\n9,9,9,x\n1,2,3," + "x" * 5000 + "\n"
    with pytest.raises(DataError, match=r"e.csv, row 2 or soon after: a record is longer than .* is a quote left open"):
        bring(_MAPPING % "e.csv", {"e.csv": content})


def test_a_header_with_an_open_quote_is_refused(bring: Bring) -> None:
    with pytest.raises(DataError, match=r"e.csv: the header line cannot be read: field larger than field limit"):
        bring(_MAPPING % "e.csv", {"e.csv": 'u,i,t,"n\n' + "1,2,3,x\n" * 50_000})


def test_row_numbers_hold_across_blocks(bring: Bring, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "_BLOCK_BYTES", 256)
    lines = [f"{n},{n},{n},n{n}" if n % 7 else f"{n},broken" for n in range(1, 500)]
    lines[100] = 'x,101,101,"two\nlines"'
    report = bring(_MAPPING % "e.csv", {"e.csv": "\n".join(["u,i,t,n", *lines])}, on_error="quarantine")
    assert report.settled["interactions.user_id"] == "string"  # for the x in row 101
    assert [r["row"] for r in rows("quarantine")] == list(range(7, 500, 7))
    for row in rows("interactions"):
        expected = "two\nlines" if row["input_order"] == 101 else f"n{row['input_order']}"
        assert row["note"] == expected


def test_too_many_broken_records_are_not_collected(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_reader, "_MOST_MALFORMED", 10)
    content = "u,i,t,n\n1,2,3,x\n" + "1;2;3;x\n" * 20
    with pytest.raises(
        DataError, match=r"e.csv, row 12: 10 rows before have a wrong number of fields; is the delimiter right"
    ):
        bring(_MAPPING % "e.csv", {"e.csv": content}, on_error="quarantine")


@pytest.mark.parametrize(
    ("layout", "encoding"),
    [("", "utf-8"), ("csv: {encoding: latin-1}", "latin-1"), ("csv: {encoding: utf-16}", "utf-16")],
)
def test_encodings(layout: str, encoding: str, bring: Bring, rows: Rows) -> None:
    bring(f"{_MAPPING % 'e.csv'}  {layout}\n", {"e.csv": "u,i,t,n\n1,2,3,né\n".encode(encoding)})
    assert _notes(rows) == ["né"]


def test_an_unknown_encoding_is_named(bring: Bring) -> None:
    for encoding in ("utf-9", "base64"):
        with pytest.raises(ConfigError, match=f"unknown encoding '{encoding}' for e.csv"):
            bring(f"{_MAPPING % 'e.csv'}  csv: {{encoding: {encoding}}}\n", {"e.csv": "u,i,t,n\n1,2,3,x\n"})


@pytest.mark.parametrize(
    ("name", "layout", "content"),
    [
        ("e.tsv", "", "u\ti\tt\tn\n1\t2\t3\tx, y\n"),
        ("e.csv", 'csv: {delimiter: ";"}', "u;i;t;n\n1;2;3;x, y\n"),
        ("e.dat", 'csv: {delimiter: "::", quote: null}', "u::i::t::n\n1::2::3::x, y\n"),
        ("e.dat", 'csv: {delimiter: "\u00a7", quote: null}', "u\u00a7i\u00a7t\u00a7n\n1\u00a72\u00a73\u00a7x, y\n"),
        ("e.data", 'format: csv\n  csv: {delimiter: "|"}', "u|i|t|n\n1|2|3|x, y\n"),
        ("e.csv", 'csv: {quote: "\'"}', "u,i,t,n\n1,2,3,'x, y'\n"),
    ],
)
def test_delimiters_and_quotes(name: str, layout: str, content: str, bring: Bring, rows: Rows) -> None:
    bring(f"{_MAPPING % name}  {layout}\n", {name: content})
    assert _notes(rows) == ["x, y"]


def test_a_wrong_delimiter_is_guessed(bring: Bring) -> None:
    with pytest.raises(DataError, match=r"e.csv: missing column 'u'.*looks as if its delimiter were ';'"):
        bring(_MAPPING % "e.csv", {"e.csv": "u;i;t;n\n1;2;3;x\n"})


def test_gzip(bring: Bring, rows: Rows) -> None:
    bring(_MAPPING % "e.csv.gz", {"e.csv.gz": gzip.compress(b"u,i,t,n\n1,2,3,x\n")})
    assert _notes(rows) == ["x"]
    with pytest.raises(DataError, match=r"e.csv.gz cannot be read"):
        bring(_MAPPING % "e.csv.gz", {"e.csv.gz": b"u,i,t,n\n1,2,3,x\n"})
    with pytest.raises(DataError, match=r"e.csv.gz cannot be read"):
        bring(_MAPPING % "e.csv.gz", {"e.csv.gz": gzip.compress(b"u,i,t,n\n" + b"1,2,3,x\n" * 1000)[:-12]})


def test_texts_that_mean_no_value(bring: Bring, rows: Rows) -> None:
    bring(
        _MAPPING % "e.csv" + "  csv: {null_values: [NA, '-']}\n", {"e.csv": "u,i,t,n\n1,2,3,NA\n1,2,4,-\n1,2,5,NAN\n"}
    )
    assert _notes(rows) == [None, None, "NAN"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "e.csv is empty: it has not even a header line"),
        ("\n\n", "e.csv is empty: it has not even a header line"),
        ("u,i,t,n\n", "e.csv is empty: it has a header line and no data rows"),
        ("u,i,t,n", "e.csv is empty: it has a header line and no data rows"),
        (
            "u,i,when,n\n1,2,3,4\n",
            r"e.csv: missing column 't', from which event_timestamp is read \(the file has: u, i, when, n\)",
        ),
        ("u,u,i,t,n\n1,1,2,3,4\n", "e.csv: two columns are called 'u'; rename one of them"),
    ],
    ids=["nothing", "empty lines", "header", "header without line end", "missing column", "column twice"],
)
def test_unusable_files_are_refused_even_with_quarantine(content: str, said: str, bring: Bring) -> None:
    for on_error in ("fail", "quarantine"):
        with pytest.raises(DataError, match=said):
            bring(_MAPPING % "e.csv", {"e.csv": content}, on_error=on_error)
