"""Draft of a mapping for files that nobody has described yet, with what it is unsure of.

Roles are told by values first: a column with the values of the log's items is the item's id, whatever its name.
"""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from unicodedata import combining, normalize

import duckdb

from rf_platform.data.bad_rows import BadRows
from rf_platform.data.convert import base_value, family, scalar
from rf_platform.data.custom import text_suffix
from rf_platform.data.doubtful_ids import alike_sql, missing_sql
from rf_platform.data.draft import write_draft
from rf_platform.data.guessed import GuessedColumn, GuessedFile
from rf_platform.data.profile import UNIT, condition, profile
from rf_platform.data.raw import EMPTY, TEXT, RawFile, load_file
from rf_platform.data.specs import InputFile, JsonFormat, Kind, ParquetFormat, TableSpec, TextFormat
from rf_platform.data.text_stream import TextStream
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.sql import identifier, literal
from rf_platform.text import trimmed_sql

_NAMES = {
    "user": "user customer kunde kunden kaufer kaeufer besteller benutzer client member visitor account person buyer uid "
    "utilisateur acheteur usuario cliente comprador nutzer reader",
    "item": "item product sku article artikel produkt asin movie film track song book video listing offer content pid produit "
    "producto docid news recipe",
    "session": "session sitzung visit sid cookie anonymous device_id",
    "time": "time timestamp date datum zeit at created ts when day moment datetime occurred uhrzeit fecha",
    "event_type": "event action type aktion kind activity behavior behaviour verb",
    "rating": "rating stars score grade bewertung note",
}
_OVERLAP = 0.3
"""Share of a file's ids that the log has, from which on it describes them."""
_SAMPLE = 1 << 20
_DELIMITERS = (";", "\t", "|", ",")
_LOOKED_AT = 1 << 16
_QUOTED = re.compile(r'(?:(?<=[;\t|,\r\n])|^)"(?:[^"]|"")*"')


def guess_mapping(files: Sequence[Path], name: str, base: Path) -> tuple[str, list[str]]:
    """Return a mapping file as text for the given files, paths from ``base``, and what it is unsure of, a sentence each.

    Raises:
        NotFoundError: a file is not there.
        DataError: one cannot be read.
        UsageError: none of them looks like a log of interactions; the message says what a log has.
    """
    if missing := next((file for file in files if not (base / file).is_file()), None):
        raise NotFoundError(f"{missing} is no file")
    with closing(duckdb.connect()) as db:
        db.execute("SET TimeZone = 'UTC'")
        found = [_read(db, base, file, number) for number, file in enumerate(files)]
        log = _log(found)
        unsure = _roles(log)
        items, users = list[GuessedFile](), list[GuessedFile]()
        for file in found:
            if file is not log:
                unsure += _place(db, log, file, items, users)
        unsure += [*_better_log(log), *_odd_times(db, log)]
        unsure += [
            f"{', '.join(map(repr, file.raw.null_values))} in {file.raw.file.name} are taken for no value (null_values)"
            for file in found
            if file.raw.null_values
        ]
        unsure += [f"{file.raw.file.name} has {file.refused}" for file in found if file.refused]
        return write_draft(name, log, items, users, unsure), unsure


def _read(db: duckdb.DuckDBPyConnection, base: Path, file: Path, number: int) -> GuessedFile:
    path, suffix = base / file, text_suffix(file.name)
    encoding = "utf-8"
    written: TextFormat | JsonFormat | ParquetFormat
    if suffix in (".parquet", ".pq"):
        written = ParquetFormat()
    else:
        text, encoding = _start(path)
        is_json = suffix in (".jsonl", ".ndjson", ".json") or text.lstrip().startswith("{")
        written = (
            JsonFormat(encoding=encoding) if is_json else TextFormat(delimiter=_delimiter(text), encoding=encoding)
        )
    spec = TableSpec(
        table="items", files=(InputFile(path=path, name=str(file)),), format=written, fields=(), outputs={}
    )
    bad = BadRows(db) if number == 0 else _bad(db)
    raw = load_file(db, spec, spec.files[0], number, bad, lambda _: None, everything=True)
    raw = replace(raw, null_values=_missing(db, raw))
    columns = []
    for column, at in raw.columns.items():
        of_raw = family(at.type)
        text_sql = None if at.type == EMPTY else scalar(Kind.STRING, of_raw, base_value(raw, at, Kind.STRING))
        shown = text_sql or ("CAST(NULL AS VARCHAR)" if at.type == EMPTY else f"CAST({at.sql} AS VARCHAR)")
        columns.append(_column(db, raw, column, at.type, shown))
    return GuessedFile(raw=raw, format=written, columns=columns, encoding=encoding, refused=_refused(bad))


def _column(db: duckdb.DuckDBPyConnection, raw: RawFile, name: str, kind: str, text: str) -> GuessedColumn:
    relation = identifier(raw.relation)
    found = GuessedColumn(name=name, type=kind, text=text, profile=profile(db, relation, text))
    if not found.profile.measured:
        return found
    units = db.execute(
        f"SELECT regexp_extract(v, {literal(UNIT)}) AS unit FROM (SELECT {text} AS v FROM {relation}) WHERE v IS NOT NULL "
        f"GROUP BY unit HAVING unit <> '' ORDER BY count(*) DESC, unit"
    ).fetchall()
    bare = profile(db, relation, f"trim(regexp_replace({text}, {literal(UNIT)}, ''))")
    return replace(
        found, units=tuple(row[0] for row in units), comma=bare.counts["decimal_comma"] > bare.counts["thousands"]
    )


def _missing(db: duckdb.DuckDBPyConnection, raw: RawFile) -> tuple[str, ...]:
    """Return the texts of a file that say that there is no value."""
    texts = [trimmed_sql(column.sql) for column in raw.columns.values() if column.type == TEXT]
    if not texts:
        return ()
    each = " UNION ".join(
        f"SELECT {text} AS v FROM {identifier(raw.relation)} WHERE {missing_sql(text)}" for text in texts
    )
    return tuple(row[0] for row in db.execute(f"SELECT v FROM ({each}) ORDER BY v").fetchall())


def _refused(bad: BadRows) -> str:
    first = bad.first()
    if first is None:
        return ""
    number = sum(sum(counts.values()) for counts in bad.counts().values())
    return f"{number:,} rows that cannot be read (row {first.row}: {first.reason}, {first.detail})"


def _bad(db: duckdb.DuckDBPyConnection) -> BadRows:
    db.execute("DROP TABLE bad")
    return BadRows(db)


def _start(path: Path) -> tuple[str, str]:
    """Return the first lines of a text file and its encoding: UTF-8, or Windows' where that cannot be."""
    with TextStream(path, path.name, "utf-8", lambda _: None) as stream:
        text = next(stream.blocks(_SAMPLE), b"").decode()
        if not stream.undecodable:
            return text, "utf-8"
    with TextStream(path, path.name, "cp1252", lambda _: None) as stream:
        return next(stream.blocks(_SAMPLE), b"").decode(), "cp1252"


def _delimiter(text: str) -> str:
    """Return the delimiter that parts the first lines alike, and most often."""
    plain = _QUOTED.sub("", text[:_LOOKED_AT])  # as a whole: a quoted value may have several lines
    lines = [line for line in plain.splitlines()[:50] if line.strip()]
    counts = {d: [line.count(d) for line in lines] for d in _DELIMITERS}
    steady = {d: c[0] for d, c in counts.items() if c and c[0] and sum(n == c[0] for n in c) >= 0.8 * len(c)}
    return max(steady, key=lambda d: steady[d]) if steady else ","


def _log(files: Sequence[GuessedFile]) -> GuessedFile:
    """Return the log: of the files with a user, an item and a time the one with the most rows."""
    fitting = []
    for file in files:
        roles = {role: _named(file, role) for role in ("user", "session", "item")}
        if (roles["user"] or roles["session"]) and roles["item"] and _time_columns(file):
            fitting.append(file)
    if not fitting:
        seen = "; ".join(f"{file.raw.file.name} has {_has(file)}" for file in files)
        raise UsageError(
            "none of the files looks like a log of interactions, which has a user (or a session), an item and a time in each "
            f"row ({seen}); name the columns so that they can be told, or write the mapping by hand (docs/data.md)"
        )
    return max(fitting, key=lambda file: file.raw.rows)


def _has(file: GuessedFile) -> str:
    """Return which parts of a log a file has, in words."""
    user = _named(file, "user") or _named(file, "session")
    time = next(iter(_time_columns(file)), None)
    found = (("user", user), ("item", _named(file, "item")), ("time", time))
    said = [f"no {role}" if name is None else f"the {role} {name}" for role, name in found]
    return ", ".join([*said, *([file.refused] if file.refused else [])])


def _roles(log: GuessedFile) -> list[str]:
    unsure: list[str] = []
    user, session = _named(log, "user"), _named(log, "session")
    log.roles["user"] = user or session or ""
    if user and session and user != session:
        gaps = log.column(user).profile
        if gaps.values < gaps.rows:
            log.roles["fallback"] = session
            unsure.append(
                f"{gaps.rows - gaps.values:,} events have no {user}: their histories go by {session}; leave `fallback` out "
                f"to refuse them"
            )
    log.roles["item"] = _named(log, "item") or ""
    times = [name for name in _time_columns(log) if name not in log.roles.values()]
    log.roles["timestamp"] = times[0]
    if len(times) > 1:
        unsure.append(f"the time of an event is read from {times[0]}; {', '.join(times[1:])} would do as well")
    for role in ("event_type", "rating"):
        name = _named(log, role)
        if name and name not in log.roles.values():
            counted = log.column(name).profile
            if role == "event_type" and counted.distinct > 50:
                continue
            if role == "rating" and not (counted.most("number") or counted.most("comma_number")):
                continue
            log.roles[role] = name
    return unsure


def _better_log(log: GuessedFile) -> list[str]:
    rows = log.raw.rows
    gaps = [
        f"{rows - log.column(column).profile.values:,} of {rows:,} events have no {role} ({column})"
        for role, column in log.roles.items()
        if role in ("item", "timestamp", "event_type") and log.column(column).profile.values < rows
    ]
    floats = [
        f"{column} of the log has ids like {log.column(column).profile.example}, numbers of a program: they are taken as "
        f"written, and other files and requests may have them without the point"
        for column in (log.roles["user"], log.roles["item"])
        if log.column(column).profile.most("float_id")
    ]
    return [*(f"{each}: such rows are refused, or kept apart with --on-error=quarantine" for each in gaps), *floats]


def _odd_times(db: duckdb.DuckDBPyConnection, log: GuessedFile) -> list[str]:
    """Name the times of events that are written otherwise than most."""
    column = log.column(log.roles["timestamp"])
    p = column.profile
    checks = ["iso", "ms", "seconds", "excel", *(f"date {pattern.split(' ')[0]}" for pattern in p.date_patterns)]
    best = max(checks, key=p.share)
    odd = p.looked_at - p.counts[best]
    if not odd or column.type not in (TEXT, "VARCHAR", "BIGINT") or not p.most(best):
        return []
    row = db.execute(
        f"SELECT v FROM (SELECT {column.text} AS v FROM {identifier(log.raw.relation)}) "
        f"WHERE v IS NOT NULL AND NOT coalesce({condition(best)}, false) LIMIT 1"
    ).fetchone()
    return [
        f"{odd:,} of {p.looked_at:,} times of {column.name} are written otherwise than the others, such as "
        f"{row[0] if row else ''!r}: such rows are refused, or kept apart with --on-error=quarantine"
    ]


def _place(
    db: duckdb.DuckDBPyConnection,
    log: GuessedFile,
    file: GuessedFile,
    items: list[GuessedFile],
    users: list[GuessedFile],
) -> list[str]:
    """Put a file to the items or the users, by the values of the log that one of its columns has."""
    best: tuple[float, str, GuessedColumn] | None = None
    unsure = []
    for side in ("item", "user"):
        own = log.column(log.roles[side])
        for column in file.columns:
            if not column.profile.values or column.type.endswith("]"):
                continue
            share = _overlap(db, file, column, log, own)
            named = _sounds(column.name, side) or column.name == own.name
            if named and share < _OVERLAP and _overlap(db, file, column, log, own, alike=True) >= _OVERLAP:
                share = 1.0
            score = share + 0.2 * named + 0.2 * column.profile.unique
            if (share >= _OVERLAP or (named and share > 0)) and (best is None or score > best[0]):
                best = score, side, column
    if best is None:
        return [f"{file.raw.file.name}: no column has ids of the log, so it is left out"]
    _, side, column = best
    file.key = column.name
    parts = items if side == "item" else users
    parts.append(file)
    own = log.column(log.roles[side])
    if _overlap(db, file, column, log, own) < _OVERLAP <= _overlap(db, file, column, log, own, alike=True):
        unsure.append(
            f"{file.raw.file.name} writes ids otherwise than the log ({column.profile.example!r} and {own.profile.example!r}, "
            f"for example): nothing of it is found until they are written alike"
        )
    if not column.profile.unique:
        unsure.append(
            f"{file.raw.file.name}: {column.name} is not unique ({column.profile.distinct:,} in {file.raw.rows:,} rows); an "
            f"item or user may have several rows only with a `timestamp`"
        )
    parts.sort(key=lambda each: -each.raw.rows)
    return unsure


def _overlap(
    db: duckdb.DuckDBPyConnection,
    file: GuessedFile,
    column: GuessedColumn,
    log: GuessedFile,
    own: GuessedColumn,
    *,
    alike: bool = False,
) -> float:
    """Return the share of a column's values that the log has; ``alike``: but for how they are written."""
    theirs, ours = (alike_sql(text) if alike else text for text in (own.text, column.text))
    row = db.execute(
        f"SELECT count(*) FILTER (v IN (SELECT {theirs} FROM {identifier(log.raw.relation)})), count(*) "
        f"FROM (SELECT DISTINCT {ours} AS v FROM {identifier(file.raw.relation)}) WHERE v IS NOT NULL"
    ).fetchone() or (0, 0)
    return float(row[0]) / row[1] if row[1] else 0.0


def _time_columns(file: GuessedFile) -> list[str]:
    """Return the columns that look like times, those named so first."""
    found = []
    for column in file.columns:
        p, named = column.profile, _sounds(column.name, "time")
        text_time = p.most("iso") or (bool(p.date_patterns) and not p.most("number"))
        number_time = named and (p.most("seconds") or p.most("ms") or p.most("excel"))
        if p.values and (family(column.type) == "time" or text_time or number_time):
            found.append((not named, column.name))
    return [name for _, name in sorted(found, key=lambda each: each[0])]


def _named(file: GuessedFile, role: str) -> str | None:
    """Return the column with the name that says a role best, ids before others."""
    fitting = [column.name for column in file.columns if _sounds(column.name, role)]
    return min(
        fitting, key=lambda name: (not re.search(r"id|nr|no$|number|sku|code", name.lower()), len(name)), default=None
    )


def _sounds(name: str, role: str) -> bool:
    words = _NAMES[role].split()
    plain = "".join(letter for letter in normalize("NFKD", name) if not combining(letter))  # ä is a
    tokens = re.split(r"[^a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", plain).lower())
    return (
        any(
            token in words or (len(token) > 4 and any(token.startswith(word) for word in words if len(word) > 3))
            for token in tokens
        )
        or name.lower() in words
    )
