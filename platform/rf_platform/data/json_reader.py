"""Files of JSON objects, one a line, into DuckDB: the wanted values as JSON, every line with its number, broken ones set aside.

Members of objects inside are columns too, called by their path: ``price.net``.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from rf_platform.data.bad_rows import BadRows, Malformed, Reason
from rf_platform.data.specs import InputFile, JsonFormat
from rf_platform.data.text_stream import TextStream, shown_bytes
from rf_platform.errors import DataError
from rf_platform.sql import identifier

_BLOCK_BYTES = 8 << 20
_ROWS_AT_ONCE = 50_000
_MOST_MALFORMED = 1_000_000
_INT64 = range(-(2**63), 2**63)


@dataclass
class _Kinds:
    """Kinds of values that a column was found to have."""

    single: set[str] = field(default_factory=set)
    elements: set[str] = field(default_factory=set)

    def add(self, value: Any) -> None:
        if isinstance(value, list):
            self.elements.update("null" if each is None else _kind(each) for each in value)
            self.elements.add("list")
        else:
            self.single.add(_kind(value))


@dataclass(frozen=True, kw_only=True)
class LoadedJson:
    """Rows of a file as a DuckDB relation with the columns ``row``, ``line`` and those of the wanted values."""

    columns: dict[str, tuple[str, str | None]]
    """Name in the file -> SQL and DuckDB type of its value; None for one without values. TEXT where a text may be a number."""
    rows: int
    undecodable: bool


def load_json(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    file: InputFile,
    number: int,
    layout: JsonFormat,
    wanted: set[str] | None,
    bad: BadRows,
    consumed: Callable[[int], None],
) -> LoadedJson:
    """Create ``relation`` with the values of the wanted columns as JSON, None for all; broken lines go to ``bad``.

    Raises:
        DataError: the file is empty, or cannot be read at all.
    """
    names = sorted(_columns_of(file, layout) if wanted is None else wanted)
    kinds = {name: _Kinds() for name in names}
    seen: dict[str, None] = {}
    listed = ", ".join(f"c{i} VARCHAR" for i in range(len(names)))
    connection.execute(f'CREATE TABLE {identifier(relation)} ("row" BIGINT, line VARCHAR, {listed})')
    rows, waiting, malformed = 0, [], list[Malformed]()
    with TextStream(file.path, file.name, layout.encoding, consumed) as stream:
        for line in _lines(stream.blocks(_BLOCK_BYTES)):
            if not line.strip():
                continue
            rows += 1
            try:
                given = json.loads(line, parse_constant=str)
            except ValueError as error:
                given, said = None, str(error)
            else:
                said = f"it is {type(given).__name__}"
            if not isinstance(given, dict):
                malformed.append(
                    Malformed(row=rows, reason=Reason.JSON, column=None, detail=said, text=shown_bytes(line[:10_000]))
                )
                if len(malformed) == _MOST_MALFORMED or (rows == 1 and line.lstrip().startswith("[")):
                    raise DataError(
                        f"{file.name}, row {rows}: not a JSON object ({said}); write one object a line, as `jq -c '.[]'` does"
                    )
                continue
            values = dict(_flat(given, ""))
            seen.update(dict.fromkeys(values))
            for name in names:
                if values.get(name) is not None:
                    kinds[name].add(values[name])
            waiting.append((rows, line, *(_json(values.get(name)) for name in names)))
            if len(waiting) == _ROWS_AT_ONCE:
                _insert(connection, relation, names, waiting)
                waiting = []
        _insert(connection, relation, names, waiting)
        undecodable = stream.undecodable
    if rows == 0:
        raise DataError(f"{file.name} is empty: it has no data rows")
    bad.add_malformed(number, malformed)
    columns: dict[str, tuple[str, str | None]] = dict.fromkeys(seen, ("NULL", None))
    columns |= {n: _column(f"c{i}", kinds[n]) for i, n in enumerate(names) if n in seen}
    return LoadedJson(columns=columns, rows=rows, undecodable=undecodable)


def _columns_of(file: InputFile, layout: JsonFormat) -> set[str]:
    names: set[str] = set()
    with TextStream(file.path, file.name, layout.encoding, lambda _: None) as stream:
        for line in _lines(stream.blocks(_BLOCK_BYTES)):
            try:
                given = json.loads(line) if line.strip() else None
            except ValueError:
                continue
            if isinstance(given, dict):
                names.update(name for name, _ in _flat(given, ""))
    return names


def _lines(blocks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for block in blocks:
        *whole, rest = (rest + block).split(b"\n")
        for line in whole:
            yield line.decode()
    yield rest.decode()


def _flat(given: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in given.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _insert(
    connection: duckdb.DuckDBPyConnection, relation: str, names: list[str], rows: list[tuple[Any, ...]]
) -> None:
    if not rows:
        return
    columns = [pa.array([row[0] for row in rows], pa.int64())]
    columns += [pa.array([row[i] for row in rows], pa.string()) for i in range(1, 2 + len(names))]
    batch = pa.table(columns, names=["row", "line", *(f"c{i}" for i in range(len(names)))])
    connection.register("batch", batch)
    connection.execute(f"INSERT INTO {identifier(relation)} SELECT * FROM batch")
    connection.unregister("batch")


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if value in _INT64 else "text"
    return "float" if isinstance(value, float) else "text"


def _column(json_text: str, kinds: _Kinds) -> tuple[str, str | None]:
    """Return SQL and type of a column: truth values, numbers or lists where all values are, else texts, as in a text file."""
    if kinds.elements:
        types = {
            frozenset(): "VARCHAR",
            frozenset({"int"}): "BIGINT",
            frozenset({"float"}): "DOUBLE",
            frozenset({"int", "float"}): "DOUBLE",
        }
        element = types.get(frozenset((kinds.elements | kinds.single) - {"list", "null"}), "VARCHAR")
        whole = f"CASE WHEN json_type({json_text}) = 'ARRAY' THEN {json_text} ELSE json_array(CAST({json_text} AS JSON)) END"
        return f"from_json({whole}, '[\"{element}\"]')", f"{element}[]"
    if not kinds.single:
        return json_text, None
    if kinds.single == {"bool"}:
        return f"CAST({json_text} AS BOOLEAN)", "BOOLEAN"
    if kinds.single <= {"int", "float"}:
        number = "BIGINT" if kinds.single == {"int"} else "DOUBLE"
        return f"CAST({json_text} AS {number})", number
    return f"({json_text} ->> '$')", "TEXT"
