"""Text files as people really have them: line ends, quotes, encodings, compression, blocks."""

import bz2
import codecs
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pyarrow as pa
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


_NEVER = "a quote is opened and never closed"
_FOLLOWED = "the quote that ends it is followed by 'r', not by a delimiter or a line end"


@pytest.mark.parametrize(
    ("broken", "column", "said"),
    [
        ('1,2,3,"open', "n", _NEVER),
        ('1,2,"open,x', "t", _NEVER),
        ('1,2,3,"17 inch\n4,5,6,x\n7,8,9,"red', "n", _FOLLOWED),
        ('"1"r,2,3,x', "u", _FOLLOWED),
    ],
)
def test_a_stray_quote_costs_its_own_line_and_no_other(
    broken: str, column: str, said: str, bring: Bring, rows: Rows
) -> None:
    first, *others = broken.split("\n")
    good = [line for line in ["9,9,9,x", "8,8,8,y", *others] if not line.endswith("red")]
    content = f'u,i,t,n\n9,9,9,x\n{broken}" hat\n8,8,8,y\n' if others else f"u,i,t,n\n9,9,9,x\n{broken}\n8,8,8,y\n"
    with pytest.raises(DataError) as caught:
        bring(_MAPPING % "e.csv", {"e.csv": content})
    assert f"e.csv, row 2, column {column}: stray quote {first!r} ({said})" in str(caught.value)
    report = bring(_MAPPING % "e.csv", on_error="quarantine")
    assert report.inputs[0].read == report.inputs[0].kept + report.inputs[0].quarantined
    kept = {r["user_id"] for r in rows("interactions")}
    assert {int(line.split(",")[0]) for line in good} <= kept
    (bad, *_) = rows("quarantine")
    assert (bad["row"], bad["column"], bad["record"]) == (2, column, json.dumps({"text": first}, separators=(",", ":")))


def test_two_stray_quotes_that_look_like_a_pair_are_warned_of(bring: Bring, rows: Rows) -> None:
    content = 'u,i,t,n\n1,2,3,"17 inch\n4,5,6,hat\n7,8,9,15"\n5,5,5,"a text, of\ntwo, lines"\n'
    report = bring(_MAPPING % "e.csv", {"e.csv": content})
    assert report.inputs[0].kept == 2
    (warning,) = [w for w in report.warnings if "quoted field" in w]
    assert warning.startswith("e.csv: in 1 rows, the first is row 1, a quoted field holds lines that look like rows")
    bring(_MAPPING % "e.csv" + "  csv: {quote: null}\n", on_error="quarantine")
    assert {r["user_id"] for r in rows("interactions")} >= {1, 4, 7}


def test_a_record_longer_than_a_block_is_refused(bring: Bring, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("_BLOCK_BYTES", "_LONGEST_RECORD"):
        monkeypatch.setattr(text_reader, limit, 1 << 10)
    content = "u,i,t,n\n9,9,9,x\n1,2,3," + "x" * 5000 + "\n"
    with pytest.raises(DataError, match=r"e.csv, row 2 or soon after: a record is longer than"):
        bring(_MAPPING % "e.csv", {"e.csv": content})


def test_a_header_with_an_open_quote_is_refused(bring: Bring) -> None:
    with pytest.raises(DataError, match=r"e.csv: the header line cannot be read: a quote is opened and never closed"):
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
    with pytest.raises(DataError, match=r"e.csv, row 12: 10 rows before are broken; is the delimiter right"):
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


def _arrow(codec: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        packed = pa.BufferOutputStream()
        with pa.CompressedOutputStream(packed, codec) as stream:
            stream.write(content)
        return bytes(packed.getvalue())

    return pack


def _zip(content: bytes) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("__MACOSX/._e.csv", ".DS_Store", "data/e.csv"):
            archive.writestr(name, content if name == "data/e.csv" else b"\0\1")
    return packed.getvalue()


_PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": _arrow("zstd"),
    "lz4": _arrow("lz4"),
    "zip": _zip,
}


@pytest.mark.parametrize("kind", _PACKED)
def test_compressed_files_are_told_by_their_content(kind: str, bring: Bring, rows: Rows) -> None:
    content = "u,i,t,n\n" + "".join(f"{n},2,3,x\n" for n in range(1, 3000))
    packed = _PACKED[kind](content.encode())
    for name, written in ((f"e.csv.{kind}", packed), ("e.csv", packed), (f"e.csv.{kind}", content.encode())):
        assert bring(_MAPPING % name, {name: written}).inputs[0].kept == 2999
    with pytest.raises(DataError, match=r"e.csv cannot be read"):
        bring(_MAPPING % "e.csv", {"e.csv": packed[: len(packed) // 2]})
    if kind != "zip":  # members of gzip, frames of zstd: many tools write more than one
        assert bring(_MAPPING % "e.csv", {"e.csv": _PACKED[kind](b"u,i,t,n\n") + packed}, on_error="quarantine")
        assert len(rows("interactions")) == 2999


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PAR1....", "e.csv is a Parquet file: say `format: parquet`"),
        (b"7z\xbc\xaf\x27\x1c..", "e.csv is a 7z archive: unpack it"),
        (b"x" * 257 + b"ustar", "e.csv is a tar archive: unpack it"),
        (gzip.compress(b"x" * 257 + b"ustar", mtime=0), "e.csv is a tar archive: unpack it"),
        ("u,i,t,n\n1,2,3,x\n".encode("utf-16-le"), "e.csv holds NUL characters.*encoding: utf-16-le"),
    ],
    ids=["parquet", "7z", "tar", "tar.gz", "utf-16"],
)
def test_what_is_no_text_is_named(content: bytes, said: str, bring: Bring) -> None:
    with pytest.raises(DataError, match=said):
        bring(_MAPPING % "e.csv", {"e.csv": content})


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_tells_the_encoding(mark: bytes, encoding: str, bring: Bring, rows: Rows) -> None:
    for declared in ("utf-8", "latin-1"):
        layout = f"csv: {{encoding: {declared}}}"
        bring(f"{_MAPPING % 'e.csv'}  {layout}\n", {"e.csv": mark + "u,i,t,n\n1,2,3,né\n".encode(encoding)})
        assert _notes(rows) == ["né"]


def test_a_byte_of_another_encoding_is_named(bring: Bring) -> None:
    with pytest.raises(
        DataError, match=r"row 1, column n: not text in the file's encoding 'caf\\\\xe9' .*encoding: cp1252"
    ):
        bring(_MAPPING % "e.csv", {"e.csv": b"u,i,t,n\n1,2,3,caf\xe9\n"})


@pytest.mark.parametrize(
    ("layout", "columns"),
    [("header: false", ("1", "2", "3", "4")), ("header: [who, what, when, note]", ("who", "what", "when", "note"))],
)
def test_files_without_a_header_line(layout: str, columns: tuple[str, ...], bring: Bring, rows: Rows) -> None:
    user, item, time, note = columns
    mapping = f"""name: shop
interactions:
  file: e.csv
  csv: {{{layout}}}
  user: {user}
  item: {item}
  timestamp: {{column: {time}, format: seconds}}
  context: {{note: {note}}}
"""
    report = bring(mapping, {"e.csv": "1,2,3,x\n4,5,6,y\n"})
    assert (report.inputs[0].read, _notes(rows)) == (2, ["x", "y"])
    bring(mapping, {"e.csv": "1,2,3,x\n4,5,6\n"}, on_error="quarantine")
    assert [(r["row"], r["reason"]) for r in rows("quarantine")] == [(2, "wrong number of fields")]
    with pytest.raises(DataError, match=r"e.csv is empty: it has not even a first line|it has no data rows"):
        bring(mapping, {"e.csv": ""})


def test_escapes_if_they_are_declared(bring: Bring, rows: Rows) -> None:
    content = 'u,i,t,n\n1,2,3,"a \\"b\\", c"\n1,2,4,d\\, e\n1,2,5,"""f"" \\\\"\n'
    bring(_MAPPING % "e.csv" + "  csv: {escape: '\\'}\n", {"e.csv": content})
    assert _notes(rows) == ['a "b", c', "d, e", '"f" \\']
    with pytest.raises(
        DataError, match=r"row 1, column n: stray quote .*if quotes are escaped, say `csv: {escape: '\\'}`"
    ):
        bring(_MAPPING % "e.csv")


@pytest.mark.parametrize("blank", ["\t", "\u00a0", "\u3000", "\u200b", "\ufeff", "\x0b", "\u2028", " \t\u00a0 "])
def test_white_space_of_any_kind_is_no_part_of_a_value(blank: str, bring: Bring, rows: Rows) -> None:
    bring(
        _MAPPING % "e.csv",
        {"e.csv": f"u{blank},i,t,{blank}n\n1{blank},{blank}2,3,{blank}a{blank}b\n{blank}1,2,{blank}4,{blank}\n"},
    )
    assert [(r["user_id"], r["item_id"], r["note"]) for r in rows("interactions")] == [
        (1, 2, f"a{blank}b"),
        (1, 2, None),
    ]


def test_blanks_around_quotes(bring: Bring, rows: Rows) -> None:
    bring(_MAPPING % "e.csv", {"e.csv": 'u, "i" ,t,n\n1, "2",3, "a, b" \n4,5,6, "big" shoe\n7,8,9,5" pipe\n'})
    assert _notes(rows) == ["a, b", '"big" shoe', '5" pipe']


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
