"""Compaction by a real builder process, while changes and searches go on."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from structlog.testing import LogCapture

from rf_platform.bundle import files, write_manifest
from rf_platform.features.spec import FieldSpec
from rf_platform.registry.journal import CatalogJournal, Change
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.compaction.compactor import Compaction
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.live import LiveCatalog
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW

Put = Callable[[Mapping[int, Mapping[str, Any] | None]], list[int]]
SOON = Compaction(rows=20, niceness=0)
NEVER = Compaction(rows=10**9)


def values(n: int) -> dict[str, Any]:
    return {"title": f"title {n}", "genres": [["War"], ["Drama", "Comedy"]][n % 2], "release_year": 1950 + n % 50}


def state(snapshot: CatalogSnapshot) -> dict[str, tuple[list[float], list[float], dict[str, Any], int]]:
    rows = np.flatnonzero(snapshot.live_mask_N)
    found = zip(
        snapshot.texts(rows),
        np.round(snapshot.vectors(rows), 5).tolist(),
        np.round(snapshot.tokens(rows), 4).tolist(),
        snapshot.values(rows),
        snapshot.sequences(rows),
        strict=True,
    )
    return {text: details for text, *details in found}  # type: ignore[misc]


def wait(until: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


@pytest.fixture
def follow(bundle: ServedBundle, journal: CatalogJournal, tmp_path: Path) -> Iterator[Callable[..., LiveCatalog]]:
    """Opens the catalog as a server process does."""
    opened = []

    def open_catalog(compaction: Compaction = SOON) -> LiveCatalog:
        catalog = LiveCatalog.open(bundle, journal, tmp_path / "cache", compaction=compaction)
        catalog.follow()
        opened.append(catalog)
        return catalog

    yield open_catalog
    for catalog in opened:
        catalog.close()


def test_compaction_changes_no_answer_and_all_processes_share_its_files(
    bundle: ServedBundle, journal: CatalogJournal, put: Put, follow: Callable[..., LiveCatalog], tmp_path: Path
) -> None:
    put({n: values(n) for n in range(100, 115)} | {n: values(n) for n in range(1, 8)} | {9: None, 10: None, 999: None})
    with closing(LiveCatalog.open(bundle, journal)) as plain:
        expected = state(plain.snapshot)
    first, second = follow(), follow()
    prepared: list[CatalogSnapshot] = []
    first.prepare = prepared.append
    wait(lambda: first.snapshot.base.sequence == second.snapshot.base.sequence == 25)
    assert [(s.base.sequence, s.rows) for s in prepared] == [(25, 73)]
    assert first.snapshot.base is prepared[0].base
    assert state(first.snapshot) == state(second.snapshot) == expected
    assert first.snapshot.delta is None
    assert first.snapshot.base.path == second.snapshot.base.path
    (built,) = (tmp_path / "cache").glob("tiny-run-1-*/*25")
    assert built == first.snapshot.base.path
    assert isinstance(first.snapshot.base.vectors_ND, np.memmap)
    assert isinstance(first.snapshot.base.tokens_ND.base, np.memmap)

    put({n: values(n + 1) for n in range(100, 130)} | {1: None})
    wait(lambda: first.snapshot.base.sequence == second.snapshot.base.sequence == 56)
    with closing(LiveCatalog.open(bundle, journal)) as plain:
        assert state(first.snapshot) == state(second.snapshot) == state(plain.snapshot)
    wait(lambda: not built.exists())


def test_a_process_that_starts_goes_on_from_the_compacted_catalog_unless_it_is_of_another_journal(
    bundle: ServedBundle, journal: CatalogJournal, put: Put, follow: Callable[..., LiveCatalog], tmp_path: Path
) -> None:
    put({n: values(n) for n in range(100, 125)})
    first = follow()
    wait(lambda: first.snapshot.base.sequence == 25)
    put({100: None, 200: values(200)})
    restarted = LiveCatalog.open(bundle, journal, tmp_path / "cache", compaction=NEVER)
    assert (restarted.snapshot.base.sequence, restarted.snapshot.sequence) == (25, 27)
    first.catch_up()
    assert state(restarted.snapshot) == state(first.snapshot)

    other = CatalogJournal.open(f"sqlite:///{tmp_path / 'restored.db'}")
    with closing(other):
        catalog = LiveCatalog.open(bundle, other, tmp_path / "cache", compaction=NEVER)
        assert (catalog.snapshot.base.sequence, catalog.snapshot.alive) == (0, 60)


@pytest.mark.parametrize("numbers", [10, 40], ids=["not there yet", "already past it"])
def test_a_compacted_catalog_of_another_journal_is_never_adopted(
    bundle: ServedBundle,
    journal: CatalogJournal,
    put: Put,
    follow: Callable[..., LiveCatalog],
    tmp_path: Path,
    numbers: int,
) -> None:
    put({n: values(n) for n in range(100, 125)})
    first = follow()
    wait(lambda: first.snapshot.base.sequence == 25)
    first.close()
    foreign = first.snapshot.base.path
    with closing(CatalogJournal.open(f"sqlite:///{tmp_path / 'restored.db'}")) as restored:
        restored.record([[Change(item_id=str(n), features="{}") for n in range(500, 500 + numbers)]])
        with closing(LiveCatalog.open(bundle, restored, tmp_path / "cache", compaction=NEVER)) as catalog:
            catalog.follow()
            wait(lambda: not foreign.exists())
            assert (catalog.snapshot.base.sequence, catalog.snapshot.alive) == (0, 60 + numbers)


@pytest.mark.parametrize("damage", ["vectors.npy", "manifest.json"])
def test_a_damaged_compacted_catalog_is_replaced(
    bundle: ServedBundle,
    journal: CatalogJournal,
    put: Put,
    follow: Callable[..., LiveCatalog],
    tmp_path: Path,
    damage: str,
) -> None:
    put({n: values(n) for n in range(100, 125)})
    first = follow()
    wait(lambda: first.snapshot.base.sequence == 25)
    first.close()
    expected = state(first.snapshot)
    path = first.snapshot.base.path / damage
    damaged = path.read_bytes()[:-10]
    path.unlink()  # the first process has it mapped
    path.write_bytes(damaged)
    restarted = follow()
    assert restarted.snapshot.base.sequence == 0
    assert state(restarted.snapshot) == expected
    # It is removed and built again, under the same name.
    wait(lambda: restarted.snapshot.base.sequence == 25)
    assert state(restarted.snapshot) == state(first.snapshot) == expected


def test_searches_and_changes_go_on_while_the_catalog_is_compacted_and_nothing_is_lost_or_doubled(
    bundle: ServedBundle, journal: CatalogJournal, put: Put, follow: Callable[..., LiveCatalog]
) -> None:
    catalog = follow()
    ended = Event()
    problems: list[str] = []
    slowest = [0.0]
    searches = [0]

    def search() -> None:
        """Each search sees one catalog: every living item once, none that is dead, whatever happens meanwhile."""
        queries = np.ascontiguousarray(bundle.vectors_ND[:2])
        while not ended.is_set():
            begin = time.perf_counter()
            snapshot = catalog.snapshot
            found = snapshot.search(queries, snapshot.alive)
            slowest[0] = max(slowest[0], time.perf_counter() - begin)
            searches[0] += 1
            for rows in found.rows:
                if (
                    (rows == NO_ROW).any()
                    or not snapshot.live_mask_N[rows].all()
                    or len(set(rows.tolist())) != snapshot.alive
                ):
                    problems.append(f"rows {rows}")
                if len(set(snapshot.texts(rows))) != snapshot.alive:
                    problems.append("an item twice")
            time.sleep(0.002)

    searcher = Thread(target=search)
    searcher.start()
    try:
        expected = set(range(1, 61))
        deadline = time.monotonic() + 90
        turn, compactions = 0, set[int]()
        while len(compactions) < 3:
            assert time.monotonic() < deadline
            turn += 1
            new, old = 100 + turn % 40, 1 + turn % 60
            put({new: values(turn), old: None if turn % 3 else values(turn)})
            expected |= {new} if turn % 3 else {new, old}
            expected -= {old} if turn % 3 else set()
            compactions |= {catalog.snapshot.base.sequence} - {0}
            time.sleep(0.005)
        sequence = journal.last()
        wait(lambda: catalog.snapshot.sequence == sequence)
    finally:
        ended.set()
        searcher.join()
    assert problems == []
    assert searches[0] > 100
    assert {int(text) for text in state(catalog.snapshot)} == expected
    with closing(LiveCatalog.open(bundle, journal)) as plain:
        assert state(catalog.snapshot) == state(plain.snapshot)
    # A search of 100 items takes a fraction of a millisecond; the rest is waiting for a core of a busy machine.
    assert slowest[0] < 1


def test_a_builder_that_fails_is_reported_and_the_catalog_serves_on(
    bundle: ServedBundle, journal: CatalogJournal, put: Put, tmp_path: Path, logs: LogCapture
) -> None:
    logs.entries.clear()  # of other tests
    put({n: values(n) for n in range(100, 125)})
    catalog = LiveCatalog.open(bundle, journal, tmp_path / "cache", compaction=SOON)
    (directory,) = (tmp_path / "cache").iterdir()
    (directory / f"{25:020d}").touch()  # where the builder wants to write
    catalog.follow()
    try:
        wait(lambda: any(entry["event"] == "compaction failed" for entry in logs.entries))
        failed = next(entry for entry in logs.entries if entry["event"] == "compaction failed")
        assert "exists already" in failed["output"]
        put({300: values(1)})
        wait(lambda: catalog.snapshot.sequence == 26)
        assert catalog.snapshot.alive == 86
    finally:
        catalog.close()
    assert not list(directory.glob(".input-*"))


def test_a_workspace_that_cannot_be_written_is_served_without_compaction(
    bundle: ServedBundle, journal: CatalogJournal, put: Put, tmp_path: Path, logs: LogCapture
) -> None:
    put({100: values(1)})
    (tmp_path / "cache").touch()
    catalog = LiveCatalog.open(bundle, journal, tmp_path / "cache", compaction=SOON)
    assert catalog.snapshot.alive == 61
    assert logs.entries[-2]["event"] == "catalog is not compacted"


def test_the_builder_does_not_import_torch() -> None:
    program = "import sys, rf_serving.catalog.compaction.builder; print(sorted({'torch', 'feast'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout.replace("'", '"')) == []


@pytest.fixture
def with_hidden(bundle: ServedBundle, tmp_path: Path) -> ServedBundle:
    """The bundle with a field that says which items are recommended: all but 5 and 6."""
    target = tmp_path / "bundle"
    shutil.copytree(bundle.path, target)
    field = FieldSpec(
        view="item_attributes", field="on_sale", side="item", kind="categorical", role="recommendable", dtype="Int64"
    )
    spec = replace(bundle.spec, fields=tuple(sorted([*bundle.spec.fields, field], key=lambda f: f.name)))
    spec.save(target / files.SPEC)
    items = pq.read_table(target / files.ITEMS)
    said = [int(item not in (5, 6)) for item in items["item_id"].to_pylist()]
    pq.write_table(items.append_column("item_attributes__on_sale", pa.array(said)), target / files.ITEMS)
    of = bundle.manifest
    (target / "manifest.json").unlink()
    write_manifest(
        target,
        name=of.name,
        run=of.run,
        dataset_fingerprint=of.dataset_fingerprint,
        spec_hash=spec.hash,
        metrics={},
        index=of.index.model_dump(),
    )
    return ServedBundle.open(target)


def test_items_that_are_not_recommended_stay_in_the_catalog_and_out_of_answers(
    with_hidden: ServedBundle, journal: CatalogJournal, tmp_path: Path
) -> None:
    schema = ItemSchema.of(with_hidden.encoder)
    given = {
        n: {"item_attributes__genres": ["War"], "item_attributes__on_sale": n % 2} for n in (*range(100, 130), 7, 8)
    }
    journal.record([[Change(item_id=str(n), features=schema.text(each)) for n, each in given.items()]])
    query = np.ones((1, with_hidden.vectors_ND.shape[1]), np.float32)

    def seen(snapshot: CatalogSnapshot) -> tuple[list[str], list[str], list[str]]:
        found = snapshot.search(query, 1000).rows[0]
        listed = np.flatnonzero(snapshot.listed)
        return tuple(  # type: ignore[return-value]
            sorted(snapshot.texts(rows.tolist()))
            for rows in (found[found != NO_ROW], listed, snapshot.scan(query[0]).rows)
        )

    with closing(LiveCatalog.open(with_hidden, journal)) as plain:
        before = seen(plain.snapshot)
    assert before[0] == before[2]
    assert not {"5", "6", "8", "100", "128"} & set(before[0])
    assert {"7", "101", "129"} <= set(before[0])
    assert {"5", "8", "100"} <= set(before[1])
    with closing(LiveCatalog.open(with_hidden, journal, tmp_path / "cache", compaction=SOON)) as catalog:
        catalog.follow()
        wait(lambda: catalog.snapshot.base.sequence == journal.last())
        assert seen(catalog.snapshot) == before
        back = Change(
            item_id="5", features=schema.text({"item_attributes__genres": ["War"], "item_attributes__on_sale": 1})
        )
        journal.record([[back]])
        catalog.catch_up()
        assert seen(catalog.snapshot)[0] == sorted([*before[0], "5"])
        assert catalog.snapshot.alive == len(before[0]) + 1
