import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from rf_platform.errors import UnavailableError
from rf_platform.registry import journal as journal_module
from rf_platform.registry.group_commit import GroupCommit
from rf_platform.registry.journal import CatalogJournal, Change


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def journal(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CatalogJournal]:
    monkeypatch.setattr(journal_module, "WAIT_SECONDS", 1)
    journal = CatalogJournal.open(f"sqlite:///{file}")
    yield journal
    journal.close()


def put(item: str, features: str = "1") -> list[Change]:
    return [Change(item_id=item, features=features)]


def test_what_waits_for_one_commit_shares_the_next(journal: CatalogJournal, file: Path) -> None:
    commits = []
    event.listen(journal.engine, "commit", lambda _: commits.append(1))
    writer = GroupCommit(journal)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [writer.submit(put(str(n))) for n in range(50)]
        other.execute("COMMIT")
    assert sorted(future.result(10)[0].sequence for future in waiting) == list(range(1, 51))
    assert len(commits) <= 2
    writer.close()


def test_a_batch_that_nobody_waits_for_any_more_is_not_recorded(journal: CatalogJournal, file: Path) -> None:
    writer = GroupCommit(journal)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        first = writer.submit(put("a"))
        while not first.running():
            pass
        second, third = writer.submit(put("b")), writer.submit(put("c"))
        assert second.cancel()
        other.execute("COMMIT")
    assert first.result(10)[0].sequence == 1
    assert third.result(10)[0].sequence == 2
    assert [entry.item_id for entry in journal.read(0)] == ["a", "c"]
    writer.close()


def test_a_registry_that_is_down_fails_the_changes_and_the_next_ones_go_through(
    journal: CatalogJournal, file: Path
) -> None:
    writer = GroupCommit(journal)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        lost = writer.submit(put("a"))
        with pytest.raises(UnavailableError, match="database is locked"):
            lost.result(10)
        other.execute("COMMIT")
    assert writer.submit(put("b")).result(10)[0].sequence == 1
    writer.close()


def test_closing_records_what_was_submitted(journal: CatalogJournal) -> None:
    writer = GroupCommit(journal)
    futures = [writer.submit(put(str(n))) for n in range(20)]
    writer.close()
    assert all(future.done() for future in futures)
    assert journal.last() == 20
