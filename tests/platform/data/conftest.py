from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.data.adapters import Request
from rf_platform.data.importer import OnError, import_tables
from rf_platform.data.report import ImportReport
from rf_platform.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    """The user's directory of raw files, next to the mapping file."""
    directory = tmp_path / "inbox"
    directory.mkdir()
    return directory


@pytest.fixture
def bring(workspace: Workspace, inbox: Path) -> Callable[..., ImportReport]:
    """Put files and a mapping into the inbox and import them on the last day of 2024; times after 2025 lie in the future."""

    def run(
        mapping: str | None = None,
        files: dict[str, str | bytes | pa.Table] | None = None,
        *,
        source: str = "custom",
        path: Path | None = None,
        on_error: str = "fail",
        replace: bool = False,
        threads: int | None = None,
    ) -> ImportReport:
        for name, content in (files or {}).items():
            if isinstance(content, pa.Table):
                pq.write_table(content, inbox / name)
            else:
                (inbox / name).write_bytes(content.encode() if isinstance(content, str) else content)
        if mapping is not None:
            (inbox / "mapping.yaml").write_text(mapping)
        return import_tables(
            Request(source=source, path=path, mapping=inbox / "mapping.yaml" if mapping is not None else None),
            workspace=workspace,
            on_error=OnError(on_error),
            replace=replace,
            threads=threads,
            now=datetime(2024, 12, 31, tzinfo=UTC),
        )

    return run


@pytest.fixture
def rows(workspace: Workspace) -> Callable[[str], list[dict[str, Any]]]:
    """Read a written table as a list of rows."""

    def read(table: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pq.read_table(workspace.tables / f"{table}.parquet").to_pylist()
        return found

    return read
