"""Records of a text file: blocks cut at the ends of records, with a stand-in for every record with broken quotes.

A CSV reader that meets a stray quote takes all up to the next quote for one field, and rows are gone in silence. So quotes are
looked at here first: a field that starts with a quote must end with one, and a delimiter or a line end must follow. Else its
line is broken, and reading goes on with the next line.

Blocks are checked as arrays, under the assumption that quotes come in pairs; only records that break it are read one by one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.data.specs import TextFormat

STAND_IN = "\x02"
"""First character of the line that stands for a broken record, before its number in :attr:`Records.broken`. Such a line has one
field too many, so that the reader sets it aside under its row number."""
NO_DELIMITER = b"\x01"
_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class Broken:
    """A record with broken quotes."""

    field: int
    """Index of the field at fault."""
    detail: str
    text: str
    """Its line."""


@dataclass(frozen=True)
class _Record:
    """A record that was read on its own."""

    end: int
    """Start of the next one."""
    fields: tuple[bytes, ...] = ()
    """As they are written, without blanks around quotes."""
    ending: bytes = b""
    broken: Broken | None = None


class TooLongError(Exception):
    """A record is longer than any may be."""


class Records:
    """Cuts a text into chunks of whole records, with fields quoted properly or not at all."""

    def __init__(self, blocks: Iterator[bytes], layout: TextFormat, longest: int) -> None:
        """Read blocks of UTF-8; a record is at most ``longest`` bytes or so."""
        self._blocks, self._longest = blocks, longest
        self._text, self._ended = b"", False
        self._quote = (layout.quote or "").encode()
        self._escape = (layout.escape or "").encode() if layout.escape != layout.quote else b""
        self._delimiter = NO_DELIMITER if layout.splits_lines else layout.delimiter.encode()
        self.broken: list[Broken] = []
        """The broken records so far, in order."""
        q, e, d = (re.escape(c) for c in (self._quote, self._escape, self._delimiter))
        blank = rb" " if self._delimiter == b"\t" else rb"[ \t]"
        escaped = rb"|" + e + rb"(?s:.)" if e else b""
        self._blanks = re.compile(blank + rb"*+")
        self._opening = re.compile(blank + rb"*+" + q)
        self._quoted = re.compile(rb"(?:[^" + q + e + rb"]++|" + q + q + escaped + rb")*+" + q) if q else self._opening
        self._plain = re.compile(rb"(?:[^\r\n" + d + e + rb"]++" + escaped + rb")*+")
        self._ends_field = np.zeros(256, bool)
        self._ends_field[list(self._delimiter + b"\r\n")] = True

    def first(self, *, drop: bool) -> list[str] | None:
        """Return the values of the first record, or None if there is none; only before :meth:`chunks`.

        Raises:
            ValueError: its quotes are broken.
        """
        record = None
        while record is None and not self._ended:
            self._more()
            record = self._record(0) if self._text else None
        if record is None:
            return None
        if record.broken:
            raise ValueError(record.broken.detail)
        self._text = self._text[record.end :] if drop else self._text
        return [self._value(field) for field in record.fields]

    def chunks(self, width: int) -> Iterator[bytes]:
        """Return the records of a file with ``width`` columns, many at a time.

        Raises:
            TooLongError: a line is longer than a record may be.
        """
        while True:
            chunk, taken = self._whole(width)
            self._text = self._text[taken:]
            if chunk.strip(b"\r\n"):
                yield chunk
            if self._ended:
                return
            if not taken and len(self._text) > 2 * self._longest:
                raise TooLongError
            self._more()

    def _more(self) -> None:
        block = next(self._blocks, None)
        self._ended = block is None
        self._text += block or b""

    def _whole(self, width: int) -> tuple[bytes, int]:
        """Return the whole records at hand, and how many bytes of the text they take."""
        marks, faults = self._quotes()
        pieces: list[bytes] = []
        start = mark = 0
        while True:
            found = faults[mark % 2]
            index = int(np.searchsorted(found, mark))
            fault = int(found[index]) if index < len(found) else len(marks)
            at = self._record_start(marks, mark, fault, start)
            pieces.append(self._text[start:at])
            if fault == len(marks):  # up to the end nothing is wrong, but a quote may be open
                open_quote = (fault - mark) % 2 == 1
                if self._ended and not open_quote:
                    return b"".join((*pieces, self._text[at:])), len(self._text)
                if not self._ended and not (open_quote and len(self._text) - at > self._longest):
                    return b"".join(pieces), at
            record = self._record(at)
            if record is None:
                return b"".join(pieces), at
            if record.broken:
                pieces.append(f"{STAND_IN}{len(self.broken)}".encode() + self._delimiter * width + b"\n")
                self.broken.append(record.broken)
            else:
                pieces += [self._delimiter.join(record.fields), record.ending]
            start = record.end
            mark = int(np.searchsorted(marks, start))

    def _quotes(self) -> tuple[npt.NDArray[np.int64], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Return where quotes are, and which of them are out of place if those of even, or of odd, number open a field."""
        text = np.frombuffer(self._text, np.uint8)
        marks = (
            np.flatnonzero(text == self._quote[0])
            if self._quote in self._text and self._quote
            else np.zeros(0, np.int64)
        )
        if not len(marks):
            return marks, (marks, marks)
        ends = self._ends_field
        before = np.where(marks > 0, ends[text[marks - 1]], True)
        after = np.where(marks + 1 < len(text), ends[text[np.minimum(marks + 1, len(text) - 1)]], True)
        if self._escape and self._escape in self._text:
            escaped = self._escaped(text)
            before &= ~escaped[marks - 1] | (marks == 0)
            before, after, marks = (part[~escaped[marks]] for part in (before, after, marks))
        doubled = np.diff(marks) == 1
        before[1:] |= doubled
        after[:-1] |= doubled
        even = np.arange(len(marks)) % 2 == 0
        return marks, (
            np.flatnonzero(np.where(even, ~before, ~after)),
            np.flatnonzero(np.where(even, ~after, ~before)),
        )

    def _escaped(self, text: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Return which bytes follow an odd number of escapes."""
        place = np.arange(len(text))
        plain = np.maximum.accumulate(np.where(text != self._escape[0], place, -1))
        escapes = np.concatenate([[0], (place - plain)[:-1]])
        odd: npt.NDArray[np.bool_] = escapes % 2 == 1
        return odd

    def _record_start(self, marks: npt.NDArray[np.int64], mark: int, fault: int, start: int) -> int:
        """Return where the record with a quote starts, if quotes come in pairs from number ``mark`` to it."""
        opening = fault - (fault - mark) % 2
        end = int(marks[opening]) if opening < len(marks) else len(self._text)
        while True:
            begin = int(marks[opening - 1]) + 1 if opening > mark else start
            at = self._last_line_end(begin, end)
            if at or opening <= mark:
                return at or start
            opening -= 2
            end = int(marks[opening])

    def _last_line_end(self, begin: int, end: int) -> int:
        """Return the place after the last line end, or 0."""
        while True:
            at = max(self._text.rfind(b"\n", begin, end), self._text.rfind(b"\r", begin, end))
            escapes = len(self._text[begin:at]) - len(self._text[begin:at].rstrip(self._escape)) if self._escape else 0
            if at < 0 or escapes % 2 == 0:
                return at + 1
            end = at

    def _record(self, start: int) -> _Record | None:
        """Read the record at a place byte by byte; None if it does not end in the text at hand."""
        text, fields, at = self._text, [], start
        while True:
            opened = self._opening.match(text, at) if self._quote else None
            end = -1
            if opened:
                indented = opened.end() - at > 1  # such a quote may also be one of an unquoted field
                closed = self._quoted.match(text, opened.end())
                end = self._blanks.match(text, closed.end()).end() if closed else -1  # type: ignore[union-attr]
                open_end = end in (-1, len(text)) and not self._ended
                if open_end and len(text) - start <= self._longest:
                    return None
                if closed and (end == len(text) or self._ends_field[text[end]]):
                    fields.append(text[opened.end() - 1 : closed.end()])
                elif indented:
                    end = -1
                else:
                    return self._broken(start, len(fields), self._stray(closed.end()) if closed else _NEVER_CLOSED)
            if end < 0:
                end = self._plain.match(text, at).end()  # type: ignore[union-attr]
                end += self._escape != b"" and text[end : end + 1] == self._escape  # the last byte of the text
                fields.append(text[at:end])
            if end == len(text):
                return _Record(end, tuple(fields)) if self._ended else None
            ending = _LINE_END.match(text, end)
            if ending:
                return _Record(ending.end(), tuple(fields), ending[0])
            at = end + 1

    def _broken(self, start: int, field: int, detail: str) -> _Record | None:
        ending = _LINE_END.search(self._text, start)
        if ending is None and not self._ended:
            return None
        line = self._text[start : ending.start() if ending else len(self._text)]
        broken = Broken(field, detail, line.decode("utf-8", "replace"))
        return _Record(ending.end() if ending else len(self._text), broken=broken)

    def _stray(self, after: int) -> str:
        follows = self._text[after : after + 4].decode("utf-8", "ignore")[:1]
        said = f"the quote that ends it is followed by {follows!r}, not by a delimiter or a line end"
        if not self._escape and self._text[after - 2 : after - 1] == b"\\":
            said += "; if quotes are escaped, say `csv: {escape: '\\'}`"
        return said

    def _value(self, field: bytes) -> str:
        if self._quote and field.startswith(self._quote):
            field = field[1:-1].replace(self._quote * 2, self._quote)
        if self._escape:
            field = re.sub(re.escape(self._escape) + rb"(?s:(.))", rb"\1", field)
        return field.decode("utf-8", "replace")


_NEVER_CLOSED = "a quote is opened and never closed"
