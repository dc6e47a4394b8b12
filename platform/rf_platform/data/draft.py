"""A guessed mapping as YAML, with comments where it is unsure."""

import json
import re
from collections.abc import Sequence
from itertools import count
from unicodedata import combining, normalize

from rf_platform.data.convert import family
from rf_platform.data.guessed import GuessedColumn, GuessedFile
from rf_platform.data.log_columns import LOG_COLUMNS
from rf_platform.data.profile import Profile
from rf_platform.data.specs import JsonFormat, TextFormat

_UNREAD = "unsure: of the type {}, which is not read"
_DISPLAY = re.compile(
    r"title|^name|_name|label|headline|description|url|link|image|picture|photo|thumb|bezeichnung|titel", re.I
)


def write_draft(
    name: str, log: GuessedFile, items: Sequence[GuessedFile], users: Sequence[GuessedFile], unsure: list[str]
) -> str:
    """Return the mapping; sentences on what it is unsure of are added to ``unsure``."""
    everything = [log, *items, *users]
    lines = [
        "# Draft by `rf data guess`: read it, then `rf data import custom --mapping` it. # unsure marks what to check.",
        f"name: {name}",
    ]
    lines += _timezone(everything, unsure)
    lines.append("interactions:")
    lines += [f"  {line}" for line in _file(log)]
    lines += [f"  {line}" for line in _log(log, unsure)]
    described: tuple[tuple[str, str, Sequence[GuessedFile]], ...] = (("items", "item", items), ("users", "user", users))
    for table, key, parts in described:
        if parts:
            lines.append(f"{table}:")
        names = _Names()
        for part in parts:
            written = [*_file(part), f"{key}: {_yaml(part.key or '')}", *_attributes(part, names, unsure)]
            lines += [f"{'    ' if n else '  - '}{line}" for n, line in enumerate(written)]
    if not items:
        unsure.append("no file describes items: without attributes a new item cannot be recommended")
    return "\n".join(lines) + "\n"


def _file(file: GuessedFile) -> list[str]:
    lines = [f"file: {_yaml(file.raw.file.name)}"]
    if any(_is_comma(c.profile) for c in file.columns):
        lines.append('decimal: ","')
    said = {}
    if isinstance(file.format, JsonFormat):
        lines += ["format: json"] if not re.search(r"\.(jsonl|ndjson|json)(\.|$)", file.raw.file.name) else []
    if isinstance(file.format, TextFormat):
        if not re.search(r"\.(csv|tsv|txt|dat)(\.|$)", file.raw.file.name, re.I):
            lines.append("format: csv")
        usual = "\t" if ".tsv" in file.raw.file.name.lower() else ","
        if file.format.delimiter != usual:
            said["delimiter"] = json.dumps(file.format.delimiter)
    if file.encoding != "utf-8":
        said["encoding"] = file.encoding
    if file.raw.null_values:
        said["null_values"] = json.dumps(file.raw.null_values, ensure_ascii=False)
    if said:
        doubt = "  # unsure: these texts seem to say that there is no value" if file.raw.null_values else ""
        lines.append(f"csv: {{{', '.join(f'{key}: {value}' for key, value in said.items())}}}{doubt}")
    return lines


def _log(log: GuessedFile, unsure: list[str]) -> list[str]:
    roles = log.roles
    user = _yaml(roles["user"])
    if "fallback" in roles:
        user = f'{{column: {user}, fallback: {_yaml(roles["fallback"])}, prefix: "session:"}}  # unsure'
    lines = [f"user: {user}", f"item: {_yaml(roles['item'])}"]
    lines.append(f"timestamp: {_time(log.column(roles['timestamp']), unsure)}")
    if "event_type" in roles:
        lines.append(f"event_type: {_yaml(roles['event_type'])}")
    if "rating" in roles:
        lines.append(f"rating: {_yaml(roles['rating'])}")
    rest = [c for c in log.columns if c.name not in roles.values() and c.profile.values]
    kept, dropped, names = list[str](), list[str](), _Names()
    for column in rest:
        name = names.of(column.name)
        if _is_unread(column):
            dropped.append(f"  # {_yaml(name)}: {_yaml(column.name)}  # {_UNREAD.format(column.type)}")
            continue
        text = _extra(name, column, unsure, display=False)
        if column.profile.unique or column.type.endswith("]"):
            dropped.append(f"  # {text}  # unsure: a value of its own in nearly every event")
        else:
            kept.append(f"  {text}")
    return [*lines, "context:" if kept else "context: {}", *kept, *dropped] if rest else lines


def _attributes(file: GuessedFile, names: "_Names", unsure: list[str]) -> list[str]:
    rest = [c for c in file.columns if c.name != file.key]
    lines = []
    for column in rest:
        name = names.of(column.name)
        if not column.profile.values:
            lines.append(f"  # {_yaml(name)}: {_yaml(column.name)}  # unsure: it has no values")
        elif _is_unread(column):
            lines.append(f"  # {_yaml(name)}: {_yaml(column.name)}  # {_UNREAD.format(column.type)}")
        else:
            lines.append(f"  {_extra(name, column, unsure, display=True)}")
    return ["attributes:", *lines] if any(not line.startswith("  #") for line in lines) else ["attributes: {}", *lines]


def _is_unread(column: GuessedColumn) -> bool:
    return family(column.type).removesuffix("[]") == "other"


def _extra(feature: str, column: GuessedColumn, unsure: list[str], *, display: bool) -> str:
    p, name = column.profile, column.name
    said, doubt = {"column": _yaml(name)}, ""
    if column.serial:
        return f"{_yaml(feature)}: {_time(column, unsure, extra=True)}"
    if column.units:
        said["unit"] = (
            _yaml(column.units[0]) if len(column.units) == 1 else json.dumps(column.units, ensure_ascii=False)
        )
        said["decimal"] = '","' if column.comma else '"."'
        doubt = f"the unit {column.units[0]!r} is taken off, and {p.example!r} becomes a number"
        if len(column.units) > 1:
            doubt = (
                f"numbers in {', '.join(column.units)} do not compare: bring them to one unit, or leave the column out"
            )
    elif column.type == "TEXT" or column.type == "VARCHAR":
        if p.most("iso") or (p.date_patterns and not p.most("number")):
            return f"{_yaml(feature)}: {_time(column, unsure, extra=True)}"
        if p.distinct <= 6 and p.most("truth") and not p.most("number"):
            said["type"] = "bool"
        elif p.most("json_list"):
            said["type"], doubt = "strings", "or floats, where it is a vector"
        elif display and (
            (_DISPLAY.search(name) and p.distinct > 0.5 * p.values) or p.most("link") or p.share("long") > 0.5
        ):
            said["display"] = "true"
        elif p.separator is not None and p.share("link") < 0.1:
            said["separator"], doubt = json.dumps(p.separator), f"{p.separator!r} seems to part the values of a list"
        elif display and p.unique and not p.most("number") and not p.most("comma_number"):
            said["display"], doubt = "true", "a text of its own in nearly every row, so no category"
    elif column.type in ("BIGINT", "INTEGER") and p.most("seconds") and re.search(r"time|date|_at$|ts$", name.lower()):
        said |= {"type": "time", "format": "seconds"}
    if column.type in ("TEXT", "VARCHAR") and p.most("thousands") and not column.units:
        doubt = (
            f"{p.example!r} may be thousands or a fraction; say `decimal:`, or write it without the mark of thousands"
        )
    if doubt:
        unsure.append(f"{name}: {doubt}")
    short = said == {"column": _yaml(name)}
    value = said["column"] if short else f"{{{', '.join(f'{key}: {value}' for key, value in said.items())}}}"
    return f"{_yaml(feature)}: {value}{f'  # unsure: {doubt}' if doubt else ''}"


def _time(column: GuessedColumn, unsure: list[str], *, extra: bool = False) -> str:
    p, said, doubt = column.profile, {"column": _yaml(column.name)}, ""
    if extra:
        said["type"] = "time"
    if column.serial:
        said["format"] = "excel"
        doubt = f"{p.example!r} is taken for days as spreadsheets count them (45292 is 2024-01-01)"
        unsure.append(f"{column.name}: {doubt}")
    plain = (
        column.serial
        or column.type not in ("TEXT", "VARCHAR")
        or any(p.most(check) for check in ("iso", "seconds", "ms"))
    )
    patterns = [] if plain else p.date_patterns
    if patterns:
        said["format"] = json.dumps(patterns[0])
        if len(patterns) > 1:
            doubt = f"the day may come first or second: {patterns[0]} or {patterns[1]}"
            unsure.append(f"{column.name}: {doubt}")
    value = said["column"] if len(said) == 1 else f"{{{', '.join(f'{key}: {value}' for key, value in said.items())}}}"
    return f"{value}{f'  # unsure: {doubt}' if doubt else ''}"


def _timezone(files: Sequence[GuessedFile], unsure: list[str]) -> list[str]:
    for file in files:
        for column in file.columns:
            p = column.profile
            local = (
                column.serial
                or (p.most("iso") and not p.most("zoned"))
                or bool(p.date_patterns and not p.most("number"))
            )
            if column.type == "TIMESTAMP WITH TIME ZONE":
                continue
            if (
                local and (column.serial or p.share("clock") > 0.5 or p.share("hours") > 0.5)
            ) or column.type == "TIMESTAMP":
                unsure.append(
                    f"the times of {column.name} ({file.raw.file.name}) have no zone: UTC is taken; or say `timezone:`"
                )
                return ["timezone: UTC  # unsure: times have no zone; write one like Europe/Berlin"]
    return []


def _is_comma(p: Profile) -> bool:
    # 1,500 alone may be fifteen hundred: a comma with other than three digits behind it tells.
    surely = p.counts["decimal_comma"] > p.counts["thousands"]
    return surely and p.most("comma_number") and not p.most("number")


class _Names:
    """Names of the features of a table: each is given once, also where columns differ by letters that features do not have."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, column: str) -> str:
        """Return the name of a column's feature."""
        plain = _feature(column)
        name = next(each for n in count(1) if (each := plain if n == 1 else f"{plain}_{n}") not in self._given)
        self._given.add(name)
        return name


def _feature(name: str) -> str:
    """Return a name that a feature may have."""
    plain = name.lower()
    for found, instead in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        plain = plain.replace(found, instead)
    plain = "".join(letter for letter in normalize("NFKD", plain) if not combining(letter))  # é is e
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "column"
    plain = plain if plain[0].isalpha() else f"c_{plain}"
    return f"{plain}_given" if plain in (*LOG_COLUMNS, "recommendable") else plain


def _yaml(text: str) -> str:
    plain = re.fullmatch(r"[A-Za-z_][\w./ -]*[\w]|[A-Za-z_]", text) and text.lower() not in _WORDS
    return text if plain else json.dumps(text, ensure_ascii=False)


_WORDS = ("true", "false", "yes", "no", "on", "off", "null", "y", "n")
