import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rf_platform.doctor.check import Status
from rf_platform.doctor.workspace import check_disk, check_tables, check_workspace, disk_space
from rf_platform.settings import Settings


@pytest.fixture
def tables(settings: Settings) -> Path:
    """Imported tables with three interactions of two items."""
    folder = settings.workspace.tables
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"item_id": [1, 2, 1]}), folder / "interactions.parquet")
    pq.write_table(pa.table({"item_id": [1, 2]}), folder / "items.parquet")
    (folder / "import.json").write_text(json.dumps({"name": "movies"}))
    return folder


def test_a_workspace_that_is_there_or_will_be(settings: Settings) -> None:
    fresh = check_workspace(settings)
    assert fresh.status is Status.WARN
    assert fresh.detail == f"there is no workspace at {settings.workspace.root}"
    assert not settings.workspace.root.exists()
    settings.workspace.root.mkdir()
    assert check_workspace(settings).detail == str(settings.workspace.root)
    assert list(settings.workspace.root.iterdir()) == []


def test_a_workspace_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = check_workspace(Settings(home=tmp_path / "file" / "home"))
    assert found.status is Status.FAIL
    assert "cannot be written" in found.detail
    assert "RF_HOME" in found.remedy


@pytest.mark.parametrize(("free", "status"), [(100 << 20, "fail"), (1 << 30, "warn"), (10 << 30, "ok")])
def test_free_space(free: int, status: str) -> None:
    found = disk_space(free, Path("/data"))
    assert found.status == status
    assert "MiB free at /data" in found.detail


def test_the_disk_of_a_fresh_workspace_is_looked_at(settings: Settings) -> None:
    assert str(settings.workspace.root.parent) in check_disk(settings).detail


def test_tables(settings: Settings, tables: Path) -> None:
    found = check_tables(settings)
    assert (found.status, found.detail) == (Status.OK, "movies, 3 interactions, 2 items")


def test_no_tables_yet(settings: Settings) -> None:
    found = check_tables(settings)
    assert (found.status, found.remedy) == (Status.WARN, "`rf data import`")


@pytest.mark.parametrize("name", ["interactions.parquet", "items.parquet", "import.json"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 but no table PAR1"])
def test_missing_and_damaged_tables_are_named(
    settings: Settings, tables: Path, name: str, content: bytes | None
) -> None:
    (tables / name).unlink()
    if content is not None:
        (tables / name).write_bytes(content)
    found = check_tables(settings)
    assert found.status is Status.FAIL
    assert name in found.detail
    assert "rf data import" in found.remedy
