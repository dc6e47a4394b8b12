"""Items of one file, by a mapping, with the features that the definitions make of them: what an import would make of the file."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkdtemp

import duckdb
import pyarrow as pa

from rf_platform.cli.console import track
from rf_platform.data.bad_rows import BadRows
from rf_platform.data.custom import item_source
from rf_platform.data.infer import settle
from rf_platform.data.loading import CHECK, load_tables, open_scratch, steps
from rf_platform.data.log_columns import RECOMMENDABLE
from rf_platform.data.parts import join_parts
from rf_platform.data.report import load_report
from rf_platform.data.specs import Kind, SourceSpec, TableSpec
from rf_platform.data.stage import stage
from rf_platform.data.verdict import count_files, refuse
from rf_platform.data.write import write_table
from rf_platform.errors import ConfigError, DataError
from rf_platform.failures import translated
from rf_platform.features.read import FeatureDefinitions, ViewSource
from rf_platform.features.sources import view_columns
from rf_platform.features.view_rows import newest_rows_sql
from rf_platform.registry.journal import now_us
from rf_platform.sql import identifier
from rf_platform.workspace import Workspace

_TABLE = "items.parquet"


@dataclass(frozen=True, kw_only=True)
class ItemsOfFile:
    """Items of a file."""

    table: pa.Table
    """Their ids, under the join key of items, and the features that the file decides, by full name."""
    fields: tuple[str, ...]
    """Full names of these features: all of the views that read the items table."""


def read_items_file(
    file: Path,
    mapping: Path,
    definitions: FeatureDefinitions,
    workspace: Workspace,
    *,
    threads: int | None = None,
) -> ItemsOfFile:
    """Read the items of a file as an import followed by a dataset build would, without changing the workspace.

    Types that the mapping leaves open are those that the last import found. Where rows have times, the newest past one counts.

    Args:
        file: replaces the file of the mapping's first items table; further ones lie beside the mapping.
        mapping: of the catalog.
        definitions: the feature service.
        workspace: has the tables of the last import.
        threads: DuckDB's threads; default: all.

    Raises:
        NotFoundError: a file is not there, or nothing is imported.
        ConfigError: the mapping is wrong, describes no items, or no view reads the items table.
        DataError: the file is unusable, or has bad rows: the first one is named.
    """
    views = [s for s in definitions.sources if _reads(s, workspace.tables / _TABLE)]
    if not views:
        raise ConfigError(
            f"no item view of service '{definitions.spec.service}' reads {workspace.tables / _TABLE}, which an import makes of "
            f"the mapping's items: there is nothing to take from {file}"
        )
    now = now_us()
    with _scratch() as work:
        found = item_source(mapping, file, work)
        source = replace(found, tables=tuple(_as_imported(table, workspace) for table in found.tables))
        recommendable = any(RECOMMENDABLE in view.columns.values() for view in views)
        _write(source, work, now, recommendable=recommendable, threads=threads)
        return _features([replace(view, path=str(work / _TABLE)) for view in views], definitions, now)


def _reads(source: ViewSource, table: Path) -> bool:
    return source.side == "item" and "://" not in source.path and Path(source.path).resolve() == table.resolve()


@contextmanager
def _scratch() -> Iterator[Path]:
    work = Path(mkdtemp(prefix="rf-items-"))
    try:
        yield work
    finally:
        shutil.rmtree(work)


def _as_imported(table: TableSpec, workspace: Workspace) -> TableSpec:
    """Give what the mapping leaves open the types that the import found, which the definitions were made for."""
    settled = load_report(workspace.tables).settled
    fields = [
        replace(field, kind=Kind(found))
        if field.kind is Kind.AUTO and (found := settled.get(f"{table.table}.{field.name}"))
        else field
        for field in table.fields
    ]
    return replace(table, fields=tuple(fields))


def _write(source: SourceSpec, work: Path, now: int, *, recommendable: bool, threads: int | None) -> None:
    """Write the items table of a source, with a column that says that all of them are recommended if one is wanted."""
    connection = open_scratch(source, work, threads)
    try:
        with translated(f"the items of {source.name}", kind=DataError), track("read items", steps(source)) as tracker:
            bad = BadRows(connection)
            tables = settle(connection, load_tables(connection, source, bad, tracker))
            for table in tables:
                stage(connection, table, bad, f"make_timestamptz({now})")
                tracker.advance(CHECK, f"{table.spec.table} checked")
            refuse(count_files(connection, tables, bad), bad, any_bad_row=True)
            ((items,), _) = join_parts(connection, tables)
            spec = items.spec
            if recommendable and RECOMMENDABLE not in spec.outputs:
                spec = replace(spec, outputs={**spec.outputs, RECOMMENDABLE: "1::BIGINT"})
            write_table(connection, spec, work)
    finally:
        connection.close()


def _features(views: list[ViewSource], definitions: FeatureDefinitions, now: int) -> ItemsOfFile:
    spec = definitions.spec
    key = spec.item.join_key
    fields: list[str] = []
    with duckdb.connect() as db:
        db.execute("SET TimeZone = 'UTC'")
        for number, view in enumerate(views):
            columns = view_columns(db, view, spec)
            rows = newest_rows_sql(view, columns, list(columns.features.values()), now)
            names = "".join(f", f{i} AS {identifier(name)}" for i, name in enumerate(columns.features))
            db.execute(f"CREATE TABLE v{number} AS SELECT key AS {identifier(key)}{names} FROM ({rows})")
            fields += columns.features
        joins = " ".join(f"JOIN v{n} USING ({identifier(key)})" for n in range(1, len(views)))
        table = db.execute(f"SELECT * FROM v0 {joins} ORDER BY {identifier(key)}").to_arrow_table()
    return ItemsOfFile(table=table, fields=tuple(fields))
