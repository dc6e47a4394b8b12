"""Records and fields of any text, whatever the dialect and wherever blocks end, against a plain reading of the rules."""

from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rf_platform.data import text_reader
from rf_platform.data.bad_rows import BadRows
from rf_platform.data.specs import InputFile, TextFormat
from rf_platform.data.text_reader import load_text

Row = tuple[str, ...]


def read(path: Path, layout: TextFormat, block: int = 8 << 20) -> tuple[Row, dict[int, Row], dict[int, str]]:
    """Return the header, the good rows and the reasons of bad ones by row number, after checking that none is missing."""
    with duckdb.connect() as db, pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_reader, "_BLOCK_BYTES", block)
        bad = BadRows(db)
        loaded = load_text(db, "raw", InputFile(path=path, name=path.name), 0, layout, bad, lambda _: None)
        good = {number: tuple(row) for number, *row in db.execute("FROM raw").fetchall()}
        broken = dict(db.execute('SELECT "row", reason FROM bad').fetchall())
    assert sorted([*good, *broken]) == list(range(1, loaded.rows + 1))
    return loaded.header, good, broken


def plainly(text: str, layout: TextFormat, width: int) -> list[Row | str]:
    """Return rows, or reasons of bad ones: the rules written down once more, one character after the other."""
    quote, escape, blanks = layout.quote, layout.escape, " " if layout.delimiter == "\t" else " \t"
    found: list[Row | str] = []
    at = 0
    while at < len(text):
        if text[at] in "\r\n":
            at += 1
            continue
        start, fields, broken = at, [], False
        while True:
            first = at
            while first < len(text) and text[first] in blanks:
                first += 1
            value, end = None, first
            if quote and text[first : first + 1] == quote:
                value, end = _quoted(text, first + 1, quote, escape)
                while value is not None and end < len(text) and text[end] in blanks:
                    end += 1
                if value is None or (end < len(text) and text[end] not in layout.delimiter + "\r\n"):
                    value, broken = None, first == at
            if broken:
                break
            if value is None:
                value, end = "", at
                while end < len(text) and text[end] not in layout.delimiter + "\r\n":
                    if text[end] == escape:
                        end += 1
                    value, end = value + text[end : end + 1], end + 1
            fields.append(value)
            if text[end : end + 1] == layout.delimiter:
                at = end + 1
                continue
            at = end
            break
        if broken:
            at = min((e for e in (text.find("\n", start), text.find("\r", start)) if e >= 0), default=len(text))
            found.append("stray quote")
        else:
            found.append(tuple(fields) if len(fields) == width else "wrong number of fields")
    return found


def _quoted(text: str, at: int, quote: str, escape: str | None) -> tuple[str | None, int]:
    value = ""
    while at < len(text):
        if text[at] == escape and at + 1 < len(text):
            value, at = value + text[at + 1], at + 2
        elif text[at : at + 2] == quote * 2:
            value, at = value + quote, at + 2
        elif text[at] == quote:
            return value, at + 1
        else:
            value, at = value + text[at], at + 1
    return None, at


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.sampled_from('ab",\n\r \\'), max_size=60),
    escape=st.sampled_from([None, "\\"]),
    quote=st.sampled_from(['"', None]),
    block=st.integers(1, 70),
)
@example(text='a,"b\n""",b\na,b', escape=None, quote='"', block=3)
@example(text='a,"b\nc,d\n"e",f\n', escape=None, quote='"', block=70)
def test_any_text_is_read_by_the_rules(
    text: str, escape: str | None, quote: str | None, block: int, tmp_path: Path
) -> None:
    layout = TextFormat(quote=quote, escape=escape, header=("x", "y"))
    path = tmp_path / "e.csv"
    path.write_bytes(text.encode())
    expected = plainly(text.lstrip("\r\n"), layout, 2)
    if not expected:
        return
    _, good, broken = read(path, layout, block)
    assert [good.get(n, broken.get(n)) for n in range(1, len(expected) + 1)] == expected
    assert len(good) + len(broken) == len(expected)
