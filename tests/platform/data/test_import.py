"""An import as a whole: all or nothing, one catalog a workspace, the same bytes for the same input."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_platform import staging
from rf_platform.data import importer, loading
from rf_platform.data.replacing import replacing
from rf_platform.data.report import ImportReport, load_report
from rf_platform.errors import CorruptError, DataError, NotFoundError, UnavailableError, UsageError
from rf_platform.workspace import Workspace

Bring = Callable[..., ImportReport]
Rows = Callable[[str], list[dict[str, Any]]]

_SHOP = "name: shop\ninteractions: {file: e.csv, user: u, item: i, timestamp: t, context: [device]}\n"
_EVENTS = "u,i,t,device\n2,20,300,ios\n1,10,100,web\n1,20,200,\n"


def _tree(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in directory.rglob("*")
        if p.is_file() and "lock" not in p.name
    }


def test_a_failed_import_leaves_the_earlier_tables_untouched(
    bring: Bring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(_SHOP, {"e.csv": _EVENTS})
    before = _tree(workspace.root)
    with pytest.raises(DataError):
        bring(_SHOP, {"e.csv": _EVENTS + "x,1,soon,\n"})
    assert _tree(workspace.root) == before

    def full_disk(*_: object) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(importer, "write_bare_items", full_disk)  # when the interactions are written already
    with pytest.raises(
        UnavailableError, match=rf"the import of shop: no space left on the disk of {workspace.root}; make room"
    ):
        bring(_SHOP, {"e.csv": _EVENTS})
    assert _tree(workspace.root) == before


def test_a_first_import_that_fails_leaves_no_tables(bring: Bring, workspace: Workspace) -> None:
    with pytest.raises(DataError):
        bring(_SHOP, {"e.csv": "u,i,t,device\nx,1,soon,\n"})
    assert _tree(workspace.root) == {}
    with pytest.raises(NotFoundError, match=r"run `rf data import` first"):
        load_report(workspace.tables)


def test_a_new_import_leaves_nothing_of_the_earlier_one(bring: Bring, workspace: Workspace) -> None:
    bring(_SHOP, {"e.csv": _EVENTS + "x\n"}, on_error="quarantine")
    (workspace.tables / "user_history.parquet").write_bytes(b"made from the earlier interactions")
    assert (workspace.tables / "quarantine.parquet").exists()
    bring(_SHOP, {"e.csv": _EVENTS})
    assert sorted(_tree(workspace.root)) == [
        "tables/import.json",
        "tables/interactions.parquet",
        "tables/items.parquet",
    ]


def test_another_catalog_needs_replace(bring: Bring, workspace: Workspace) -> None:
    bring(_SHOP, {"e.csv": _EVENTS})
    other = _SHOP.replace("shop", "store")
    with pytest.raises(
        UsageError, match=r"holds the catalog 'shop'; put 'store' into another one .* or give --replace"
    ):
        bring(other)
    assert load_report(workspace.tables).name == "shop"
    bring(other, replace=True)
    assert load_report(workspace.tables).name == "store"


def test_the_same_input_gives_the_same_bytes(
    bring: Bring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"u{n % 977},{n % 101},{1_000_000 + n * 37 % 5000},d{n % 3}" for n in range(20_000)]
    content = "\n".join(["u,i,t,device", *lines])
    runs = []
    for threads, large in ((1, 1 << 30), (2, 1 << 30), (None, 0)):  # in memory twice, once on disk
        monkeypatch.setattr(loading, "_LARGE_INPUT", large)
        bring(_SHOP, {"e.csv": content}, on_error="quarantine", threads=threads)
        files = _tree(workspace.tables)
        record = json.loads(files.pop("import.json"))
        assert record.pop("imported_at")
        runs.append((record, files))
    assert runs[0] == runs[1] == runs[2]
    assert set(runs[0][0]["files"]) == set(runs[0][1])


def test_items_without_a_table_are_those_of_the_interactions(bring: Bring, rows: Rows) -> None:
    report = bring(_SHOP, {"e.csv": _EVENTS})
    early = "3 interactions happened before 1990-01-01, the first at 1970-01-01T00:01:40Z: is the format of their times right?"
    assert report.warnings == (early,)
    assert [(r["item_id"], r["event_timestamp"].year) for r in rows("items")] == [(10, 1970), (20, 1970)]


def test_interactions_beyond_the_declared_tables_are_kept_and_counted(bring: Bring) -> None:
    mapping = _SHOP + "items: {file: i.csv, item: i}\nusers: {file: u.csv, user: u}\n"
    report = bring(mapping, {"e.csv": _EVENTS, "i.csv": "i\n10\n30\n", "u.csv": "u\n1\n"})
    assert report.counts == {"interactions": 3, "items": 3, "users": 1, "active_users": 2, "quarantined": 0}
    assert report.warnings[:2] == (
        "2 interactions name 1 items that the items table lacks, for example 20; they stay in histories and are not recommended, "
        "where the definitions have the field `recommendable` (`undescribed: offer` in the mapping offers them)",
        "1 interactions name 1 users that the users table lacks, for example 2",
    )


def test_extra_columns_stay_as_they_are(bring: Bring, rows: Rows) -> None:
    bring(_SHOP, {"e.csv": _EVENTS})
    assert [r["device"] for r in rows("interactions")] == ["web", None, "ios"]


def test_the_report_is_read_back_as_it_was(bring: Bring, workspace: Workspace) -> None:
    report = bring(_SHOP, {"e.csv": _EVENTS + "x\n"}, on_error="quarantine")
    assert load_report(workspace.tables) == report
    (workspace.tables / "import.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"import.json cannot be read: .*; import again with --replace"):
        load_report(workspace.tables)
    with pytest.raises(CorruptError):
        bring(_SHOP)
    bring(_SHOP, replace=True, on_error="quarantine")


def test_a_rename_that_fails_brings_the_earlier_tables_back(
    bring: Bring, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(_SHOP, {"e.csv": _EVENTS})
    before = _tree(workspace.root)
    rename = Path.rename

    def fails_for_new_tables(self: Path, target: Path) -> Path:
        if self.name.startswith(".importing-tables-"):
            raise OSError("stale file handle")
        return rename(self, target)

    monkeypatch.setattr(staging, "_swap", lambda *_: False)  # a file system that cannot
    monkeypatch.setattr(Path, "rename", fails_for_new_tables)
    with pytest.raises(OSError, match=r"stale file handle"):
        bring(_SHOP, {"e.csv": _EVENTS})
    assert _tree(workspace.root) == before


def test_two_imports_at_once_are_refused(bring: Bring, workspace: Workspace) -> None:
    with (
        replacing(workspace.tables),
        pytest.raises(UnavailableError, match=r"another command writes or reads the tables of .*; wait for it to end"),
    ):
        bring(_SHOP, {"e.csv": _EVENTS})
    bring(_SHOP)


def test_remains_of_a_killed_import_are_put_right(bring: Bring, workspace: Workspace) -> None:
    report = bring(_SHOP, {"e.csv": _EVENTS})
    # Killed between the two renames: the earlier tables lie aside, the new ones are not there yet.
    workspace.tables.rename(workspace.root / f".importing-old-tables-{'1' * 32}")
    (workspace.root / ".importing-tables-2").mkdir()
    (workspace.root / ".importing-tables-2" / "interactions.parquet").write_bytes(b"half")
    with pytest.raises(DataError):
        bring(_SHOP, {"e.csv": "u,i,t,device\nx,1,soon,\n"})
    assert load_report(workspace.tables) == report
    assert sorted(p.name for p in workspace.root.iterdir()) == ["tables"]
