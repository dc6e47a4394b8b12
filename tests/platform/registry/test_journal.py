from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from sqlalchemy import event

from rf_platform.errors import UnavailableError
from rf_platform.registry.journal import CatalogJournal, Change, Entry, Recorded, now_us


@pytest.fixture
def journal(registry_url: str, tmp_path: Path) -> Iterator[CatalogJournal]:
    (tmp_path / "home").mkdir()
    journal = CatalogJournal.open(registry_url)
    yield journal
    journal.close()


def put(item: str, features: str | None, built: str | None = None) -> Change:
    return Change(item_id=item, features=features, built=built)


def record(journal: CatalogJournal, *changes: Change) -> list[Recorded]:
    (recorded,) = journal.record([changes])
    return recorded


def states(entries: Iterator[Entry]) -> list[tuple[int, str, str | None]]:
    return [(entry.sequence, entry.item_id, entry.features) for entry in entries]


def test_changes_are_numbered_and_read_in_order(journal: CatalogJournal) -> None:
    assert journal.last() == 0
    before = now_us()
    assert record(journal, put("a", "1"), put("b", "2")) == [(1, None, True), (2, None, True)]
    assert record(journal, put("a", "3")) == [(3, "1", True)]
    assert states(journal.read(0)) == [(1, "a", "1"), (2, "b", "2"), (3, "a", "3")]
    assert states(journal.read(1)) == [(2, "b", "2"), (3, "a", "3")]
    assert states(journal.newest()) == [(2, "b", "2"), (3, "a", "3")]
    assert states(journal.newest(2)) == [(3, "a", "3")]
    assert journal.last() == 3
    assert all(before <= entry.changed_us <= now_us() for entry in journal.read(0))


def test_the_same_again_records_nothing_and_tells_the_earlier_number(journal: CatalogJournal) -> None:
    record(journal, put("a", "1"), put("b", None, built="0"))
    again = record(journal, put("a", "1"), put("b", None, built="0"))
    assert again == [(1, "1", False), (2, None, False)]
    assert record(journal, put("c", "9", built="9")) == [(0, "9", False)]
    assert journal.last() == 2


def test_an_item_that_never_was_is_deleted_once_so_that_no_later_bundle_brings_it_back(journal: CatalogJournal) -> None:
    assert record(journal, put("a", None)) == [(1, None, True)]
    assert record(journal, put("a", None)) == [(1, None, False)]
    assert record(journal, put("a", None, built="0")) == [(1, None, False)]


def test_one_item_several_times_in_one_transaction(journal: CatalogJournal) -> None:
    found = journal.record([[put("a", "1"), put("a", "2")], [put("a", None)], [put("a", None), put("a", "3")]])
    assert found == [[(1, None, True), (2, "1", True)], [(3, "2", True)], [(3, None, False), (4, None, True)]]
    assert states(journal.newest()) == [(4, "a", "3")]
    assert journal.find(2) == next(entry for entry in journal.read(1))
    assert journal.find(5) is None


def test_trimming_leaves_the_newest_change_of_every_item(journal: CatalogJournal) -> None:
    for n in range(3):
        record(journal, put("a", str(n)), put("b", str(n)))
    record(journal, put("b", None))
    assert journal.trim(kept_us=3_600_000_000) == 0
    assert journal.trim(kept_us=-1_000_000) == 5
    assert journal.trim(kept_us=-1_000_000) == 0
    assert states(journal.read(0)) == [(5, "a", "2"), (7, "b", None)]
    assert record(journal, put("c", "1")) == [(8, None, True)]


def test_many_ids_and_many_rows(journal: CatalogJournal) -> None:
    items = [f"item {n}" for n in range(12_000)]
    record(journal, *(put(item, "1") for item in items))
    assert [r.sequence for r in record(journal, *(put(item, "1") for item in items))] == list(range(1, 12_001))
    record(journal, *(put(item, "2") for item in items))
    assert [entry.sequence for entry in journal.newest()] == list(range(12_001, 24_001))
    assert len(list(journal.read(500))) == 23_500


def test_a_reader_never_misses_a_change_that_becomes_visible_late(journal: CatalogJournal, registry_url: str) -> None:
    """With numbers from a database sequence, a writer that got its number early and commits late would be missed."""
    done, seen = Event(), [0]

    def follow() -> None:
        while True:
            ended = done.is_set()
            seen.extend(entry.sequence for entry in journal.read(seen[-1]))
            if ended:
                return

    def write(writer: int) -> None:
        mine = CatalogJournal.open(registry_url)
        for n in range(25):
            record(mine, *(put(f"{writer}-{n}-{i}", "1") for i in range(1 + (writer + n) % 3 * 20)))
        mine.close()

    reader = Thread(target=follow)
    reader.start()
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(write, range(4)))
    done.set()
    reader.join()
    assert seen == list(range(journal.last() + 1))


def test_a_commit_is_on_disk(registry_url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    sqlite = registry_url.startswith("sqlite")
    journal = CatalogJournal.open(registry_url if sqlite else f"{registry_url}%20-csynchronous_commit%3Doff")
    query = "PRAGMA synchronous" if sqlite else "SHOW synchronous_commit"
    settings: list[Any] = []
    engine = journal.engine
    event.listen(engine, "commit", lambda connection: settings.append(connection.exec_driver_sql(query).scalar()))
    record(journal, put("a", "1"))
    assert settings == [2 if sqlite else "on"]
    journal.close()


def test_a_file_that_is_removed_or_replaced_takes_no_changes_with_it(tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    journal = CatalogJournal.open(f"sqlite:///{file}")
    record(journal, put("a", "1"))
    for path in tmp_path.glob("registry.db*"):
        path.rename(tmp_path / f"old-{path.name}")
    with pytest.raises(UnavailableError, match=r"registry\.db is gone; restore the file"):
        record(journal, put("b", "2"))
    assert not file.exists()
    CatalogJournal.open(f"sqlite:///{file}").close()
    assert record(journal, put("c", "3")) == [(1, None, True)]
    other = CatalogJournal.open(f"sqlite:///{file}")
    assert states(other.read(0)) == [(1, "c", "3")]
    other.close()
    journal.close()
