"""Evidence about items: numbered, once for a user, bounded, gone with the item; on both engines."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rf_platform.registry.evidence import EvidenceJournal, FirstUser
from rf_platform.registry.journal import CatalogJournal, Change


@pytest.fixture
def journal(registry_url: str, tmp_path: Path) -> Iterator[CatalogJournal]:
    (tmp_path / "home").mkdir()
    with closing(CatalogJournal.open(registry_url)) as journal:
        yield journal


@pytest.fixture
def evidence(journal: CatalogJournal) -> EvidenceJournal:
    return EvidenceJournal(journal.engine)


def user(item: str, name: str, event: int = 1) -> FirstUser:
    return FirstUser(
        item_id=item, user_id=name, event=event, timestamp_us=5, bundle="b", query=b"\0\1\2\3", features="{}"
    )


def pairs(evidence: EvidenceJournal, after: int = 0) -> list[tuple[str, str]]:
    return [(each.item_id, each.user_id) for each in evidence.read(after)]


def test_users_are_read_in_order_from_any_number_on(evidence: EvidenceJournal) -> None:
    assert evidence.record([user("7", "a"), user("8", "a"), user("7", "b")], most=5) == 3
    first, *rest = evidence.read(0)
    assert first.query == b"\0\1\2\3"
    assert pairs(evidence, first.sequence) == [("8", "a"), ("7", "b")]
    assert [each.sequence for each in rest] == sorted(each.sequence for each in rest)
    assert evidence.counts() == {"7": 2, "8": 1}


def test_one_user_counts_once_however_often_they_come(evidence: EvidenceJournal) -> None:
    assert evidence.record([user("7", "a", n) for n in range(100)], most=50) == 1
    assert evidence.record([user("7", "a", n) for n in range(100, 200)], most=50) == 0
    (kept,) = evidence.read(0)
    assert kept.event == 0


def test_an_item_has_no_more_than_it_may(evidence: EvidenceJournal) -> None:
    assert evidence.record([user("7", str(n)) for n in range(4)], most=3) == 3
    assert evidence.record([user("7", "late"), user("8", "late")], most=3) == 1
    assert evidence.counts() == {"7": 3, "8": 1}


def test_a_deleted_item_takes_it_along_and_gets_none_until_it_is_back(
    journal: CatalogJournal, evidence: EvidenceJournal
) -> None:
    journal.record([[Change(item_id="7", features="{}")]])
    evidence.record([user("8", "a"), user("7", "a")], most=5)
    last = max(each.sequence for each in evidence.read(0))
    journal.record([[Change(item_id="7", features=None)]])
    assert pairs(evidence) == [("8", "a")]
    assert evidence.record([user("7", "b")], most=5) == 0
    journal.record([[Change(item_id="7", features="{}")]])
    assert evidence.record([user("7", "b")], most=5) == 1
    # Numbers go on where they were: a reader that had the rows which are gone misses nothing.
    assert pairs(evidence, last) == [("7", "b")]


def test_old_first_users_are_found_and_removed_by_number(evidence: EvidenceJournal) -> None:
    evidence.record([user("7", str(n)) for n in range(600)], most=1000)
    assert list(evidence.noted_before(5)) == []
    found = list(evidence.noted_before(6))
    assert [(each.item_id, each.timestamp_us) for each in found] == [("7", 5)] * 600
    evidence.remove([each.sequence for each in found[:550]])
    assert [name for _, name in pairs(evidence)] == [str(n) for n in range(550, 600)]
    evidence.record([user("7", "later")], most=1000)
    assert [each.sequence for each in evidence.read(0)][-1] > found[-1].sequence  # numbers are never given twice
