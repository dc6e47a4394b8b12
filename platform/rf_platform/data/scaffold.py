"""Write a Feast repository for the imported tables, as a start that the team then edits.

The generated definitions say what the tables hold and nothing more: one view per side, the dtype from the column's type, and a
comment wherever a choice was made that only a person can confirm.
"""

import os
import re
import textwrap
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from rf_platform.data.log_columns import RECOMMENDABLE
from rf_platform.data.meaning_hints import Hint, as_tag, find_hints
from rf_platform.data.report import ImportReport, load_report
from rf_platform.data.specs import EventTime
from rf_platform.data.stage import EVENT_TIME
from rf_platform.data.suspicions import Suspicion, find_suspicions
from rf_platform.errors import CorruptError, UsageError
from rf_platform.failures import reading
from rf_platform.features.dtype import Dtype
from rf_platform.features.event_weights import TAG as WEIGHTS
from rf_platform.features.event_weights import EventWeights
from rf_platform.files import replace_text
from rf_platform.interrupts import held
from rf_platform.locks import locked
from rf_platform.sql import identifier, pattern_literal
from rf_platform.workspace import Workspace

_TITLES = ("title", "name", "product_name", "label", "headline")
_MANY_ROWS = 100
_AGAIN = "import again with --replace"
_UNFINISHED = (".definitions.py-", ".feature_store.yaml-")
"""Prefixes of unfinished files' names, see :func:`rf_platform.files.new_file`."""
_STORE = """\
# Feast's own configuration. `rf` fills in what is left out here: the SQL registry and the SQLite online store live in the
# workspace (RF_HOME). To switch engines, either write the section in full here or set
#   RF_FEAST_REGISTRY_URL=postgresql+psycopg://user@host:5432/database
#   RF_ONLINE_STORE_URL=redis://host:6379/0            (or postgresql://user@host:5432/database)
project: {project}
provider: local
registry:
  registry_type: sql
  cache_mode: thread
  cache_ttl_seconds: 60
online_store:
  type: sqlite
offline_store:
  type: duckdb
entity_key_serialization_version: 3
"""


@dataclass(frozen=True, kw_only=True)
class _Column:
    """A column of an imported table, and what was counted in it."""

    name: str
    dtype: Dtype
    values: int
    """Rows with a value."""
    distinct: int


def init_repo(workspace: Workspace, directory: Path) -> list[Path]:
    """Write ``feature_store.yaml`` and ``definitions.py`` for the imported tables and return their paths.

    Raises:
        NotFoundError: nothing is imported.
        UsageError: the directory holds files already.
    """
    report = load_report(workspace.tables)
    _check_free(directory)
    tables = {name: _columns(workspace.tables / f"{name}.parquet", columns) for name, columns in report.columns.items()}
    suspicions = find_suspicions(workspace, report)
    with duckdb.connect() as db:
        log = f"read_parquet({pattern_literal(workspace.tables / 'interactions.parquet')})"
        hints = find_hints(db, log, report.bounds)
    project = re.sub(r"[^A-Za-z0-9]+", "_", report.name).strip("_")
    files = {
        "definitions.py": _definitions(report, tables, hints, suspicions, os.path.relpath(workspace.tables, directory)),
        "feature_store.yaml": _STORE.format(project=project),  # last: it makes the directory a repository
    }
    new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with (
            locked(directory),
            held(),
        ):  # an interrupt waits until both are there, and not for the lock of another process
            _check_free(directory)
            try:
                for name, text in files.items():
                    replace_text(directory / name, text)
            except BaseException:
                for name in files:
                    (directory / name).unlink(missing_ok=True)
                raise
    except BaseException:
        if new:
            with suppress(OSError):  # another process has filled it
                directory.rmdir()
        raise
    return [directory / name for name in sorted(files, reverse=True)]


def _check_free(directory: Path) -> None:
    """Make sure that nothing would be overwritten but what a killed process left."""
    if directory.exists() and (
        not directory.is_dir() or any(not path.name.startswith(_UNFINISHED) for path in directory.iterdir())
    ):
        raise UsageError(
            f"{directory} exists and is not empty; give a new directory, so that nothing of yours is overwritten"
        )


def _columns(path: Path, imported: Collection[str]) -> dict[str, _Column]:
    with reading(path, _AGAIN):
        schema = pq.read_schema(path)
        if set(schema.names) != set(imported):
            raise CorruptError(f"{path} does not have the columns that were imported; {_AGAIN}")
        counts = ", ".join(f"count({identifier(n)}), count(DISTINCT {identifier(n)})" for n in schema.names)
        found = duckdb.sql(f"SELECT {counts} FROM read_parquet({pattern_literal(str(path))})").fetchall()[0]
    return {
        f.name: _Column(name=f.name, dtype=dtype, values=found[2 * i], distinct=found[2 * i + 1])
        for i, f in enumerate(schema)
        if (dtype := Dtype.of_arrow(f.type))
    }


def _definitions(
    report: ImportReport,
    tables: dict[str, dict[str, _Column]],
    hints: list[Hint],
    suspicions: list[Suspicion],
    tables_path: str,
) -> str:
    shared = _shared(tables)
    sides = {
        "item": _attributes("item", tables["items"], shared, _display(report, tables["items"]), report, suspicions),
        "user": _attributes("user", tables.get("users", {}), shared, (), report, suspicions),
    }
    context = _context(report, tables["interactions"], shared, suspicions)
    views = {"item": "item_attributes", "user": "user_profile"}
    present = [side for side, fields in sides.items() if _has_fields(fields)]
    used = re.findall(r"dtype=([\w()]+)", "\n".join([*sides["item"], *sides["user"], *context]))
    dtypes = sorted({name for dtype in used for name in re.findall(r"\w+", dtype)})
    ids = {
        side: "INT64" if tables["interactions"][f"{side}_id"].dtype == Dtype("Int64") else "STRING" for side in sides
    }
    parts = [
        f'"""Feature definitions of the catalog {report.name!r}: a start written by `rf data init-repo`, yours to edit.\n\n'
        "Kinds follow the dtype: String and Int64 are categories, Float32 and Float64 numbers, Array(String) and Array(Int64)\n"
        "bags, Array(Float32) a vector. Tags change that: kind=numeric, domain=NAME (fields of one domain share an embedding\n"
        "table), vocabulary=hash:65536 (for very many values), role=display (shown, never fed to the model), role=ignore.\n"
        'After a change: rf features apply, rf features materialize, rf dataset build.\n"""\n',
        "import os\n",
        "from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType",
        f"from feast.types import {', '.join(dtypes)}\n",
        "# Every `rf` command sets RF_TABLES to the tables of its workspace.",
        f'TABLES = os.environ.get("RF_TABLES", {_quoted(tables_path)})\n',
        *(f'{s} = Entity(name="{s}", join_keys=["{s}_id"], value_type=ValueType.{ids[s]})' for s in ("user", "item")),
    ]
    for side in present:
        parts.append(_view(views[side], side, f"{side}s", sides[side]))
    weights = None if report.event_weights is None else EventWeights.of(report.event_weights, "the import")
    parts.append(
        "\n# Written by `rf features materialize` from the interaction log: one row per user with the latest interactions as\n"
        "# aligned arrays, oldest first. A field keeps the log's column named by its tag `of`."
        + _view("interaction_context", "user", "user_history", context, _history_tags(hints, weights))
    )
    names = ", ".join([*(views[side] for side in present), "interaction_context"])
    parts.append(
        "\n# What the model is trained on and what the server reads.\n"
        f'retrieval = FeatureService(name="retrieval", features=[{names}])\n'
    )
    return "\n".join(parts)


def _history_tags(hints: list[Hint], weights: EventWeights | None) -> list[str]:
    """Return the lines of the history view's tags, with the meanings that names and ratings suggest as comments."""
    lines = ["    tags={", '        "history_length": "50",']
    if weights is not None:
        lines += [
            "        # How much an event counts as a target of training, as the mapping of the import says.",
            f'        "{WEIGHTS}": {_quoted(str(weights))},',
        ]
    if not hints:
        return [*lines, "    },"] if weights is not None else ['    tags={"history_length": "50"},']
    found = [line for hint in hints for line in textwrap.wrap(f"- {hint.found}", 110)]
    return [
        *lines,
        "        # Every event counts as a wish of its user. These do not look like it:",
        *(f"        # {line}" for line in found),
        "        # If so, take the next line in; the first rule that an event matches counts, all others are wanted.",
        f"        # {as_tag(hints)},",
        "    },",
    ]


def _view(name: str, side: str, table: str, fields: list[str], more: list[str] | None = None) -> str:
    source = f'FileSource(name="{table}", path=f"{{TABLES}}/{table}.parquet", timestamp_field="{EVENT_TIME}")'
    lines = [
        f"\n{name} = FeatureView(",
        f'    name="{name}",',
        f"    entities=[{side}],",
        f"    source={source},",
        "    schema=[",
        *(f"        {field}" for field in fields),
        "    ],",
        "    online=True,",
        *(more or []),
        ")",
    ]
    return "\n".join(lines)


def _has_fields(fields: list[str]) -> bool:
    return any(field.startswith("Field(") for field in fields)


def _shared(tables: dict[str, dict[str, _Column]]) -> set[str]:
    """Return names that stand for categories of the same type in more than one table: the same thing, so one domain."""
    keys = {"user_id", "item_id", EVENT_TIME}
    found: dict[str, list[str]] = {}
    for columns in tables.values():
        for column in columns.values():
            if column.name not in keys and column.dtype.element in ("String", "Int64"):
                found.setdefault(column.name, []).append(column.dtype.element)
    return {name for name, values in found.items() if len(values) > 1 and len(set(values)) == 1}


def _display(report: ImportReport, items: dict[str, _Column]) -> tuple[str, ...]:
    if report.display:
        return report.display
    title = next((t for t in _TITLES if t in items and items[t].dtype == Dtype("String")), None)
    return (title,) if title else ()


def _attributes(
    side: str,
    columns: dict[str, _Column],
    shared: set[str],
    display: tuple[str, ...],
    report: ImportReport,
    suspicions: list[Suspicion],
) -> list[str]:
    """Return the lines of a view's schema, comments among them."""
    table = f"{side}s."
    writing = {name.removeprefix(table): tags for name, tags in report.writing.items() if name.startswith(table)}
    lines: list[str] = []
    rows = columns[f"{side}_id"].values if columns else 0
    for column in columns.values():
        if column.name in (f"{side}_id", EVENT_TIME):
            continue
        tags: dict[str, str] = dict(writing.get(column.name, {}))
        if column.name == RECOMMENDABLE:
            lines.append("# 0: in the catalog and in histories, and never recommended.")
            lines.append(_field(column.name, column.dtype, {"role": "recommendable"}))
            continue
        if column.values == 0:
            lines.append(f"# {column.name} has no values")
            continue
        if column.name in display:
            tags["role"] = "display"
        elif column.dtype == Dtype("String") and rows >= _MANY_ROWS and column.distinct > 0.9 * rows:
            lines.append(
                f"# {column.distinct:,} different texts in {rows:,} rows: no category, so left out of the model."
            )
            tags["role"] = "ignore"
        elif column.dtype == Dtype("Int64") and column.distinct > _MANY_ROWS:
            lines.append(
                f'# {column.distinct:,} different numbers: a category; if it is an amount, tag it "kind": "numeric".'
            )
        if tags.get("role") != "ignore":
            lines += _doubts(suspicions, f"{side}s", column.name)
        if column.name in shared and "role" not in tags:
            tags["domain"] = column.name
        lines.append(_field(column.name, column.dtype, tags))
    return lines


def _doubts(suspicions: list[Suspicion], table: str, column: str) -> list[str]:
    """Return comments on a column that is probably not what its type says."""
    said = [f"{each.found}; {each.remedy}" for each in suspicions if (each.table, each.column) == (table, column)]
    return [f"# {line}" for text in said for line in textwrap.wrap(text, 110)]


def _context(report: ImportReport, log: dict[str, _Column], shared: set[str], suspicions: list[Suspicion]) -> list[str]:
    names = {
        "item_id": "item_ids",
        "event_type": "event_types",
        "rating": "ratings",
        "hour": "hours",
        "weekday": "weekdays",
    }
    if report.time == EventTime.OBSERVED:
        names |= {EVENT_TIME: "timestamps"}
    lines: list[str] = []
    for column in log.values():
        known = column.name in (*names, "user_id", EVENT_TIME, "input_order")
        if column.name in ("user_id", "input_order") or (known and column.name not in names):
            continue
        if column.values == 0:
            lines += [] if known else [f"# {column.name} has no values"]
        elif column.dtype.is_list:
            lines.append(f"# {column.name} is a list: a history cannot keep lists")
        elif column.dtype == Dtype("UnixTimestamp") and column.values < log["user_id"].values:
            lines.append(f"# {column.name} is a time with gaps: a history cannot keep those")
        else:
            tags = {"role": "history", "of": column.name}
            if column.name in shared:
                tags["domain"] = column.name
            lines += _doubts(suspicions, "interactions", column.name)
            lines.append(
                _field(names.get(column.name, f"recent_{column.name}"), Dtype(column.dtype.element, is_list=True), tags)
            )
    return lines


def _field(name: str, dtype: Dtype, tags: dict[str, str]) -> str:
    written = ", ".join(f"{_quoted(key)}: {_quoted(value)}" for key, value in tags.items())
    return f'Field(name="{name}", dtype={dtype}{f", tags={{{written}}}" if tags else ""}),'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
