"""Directories of compacted catalogs are removed when nobody needs them, and never under somebody who does."""

import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import pytest

from rf_platform.registry.journal import CatalogJournal
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.compaction import cache_directory
from rf_serving.catalog.compaction.cache_directory import Removed, directory_name, occupy, remove_unused
from rf_serving.catalog.live import LiveCatalog

OLD, KEPT = directory_name("old", "0123456789abcdef"), directory_name("kept", "fedcba9876543210")


class User:
    pass


def fill(directory: Path, size: int = 1000) -> Path:
    (directory / "00000000000000000007").mkdir(parents=True)
    (directory / "00000000000000000007" / "vectors.npy").write_bytes(b"x" * size)
    return directory


def test_only_what_nobody_needs_is_removed(tmp_path: Path) -> None:
    for name in (OLD, KEPT, "notes", f"{OLD}.bak"):
        fill(tmp_path / "cache" / name)
    elsewhere = fill(tmp_path / directory_name("bundle", "0123456789ab"))
    (tmp_path / "cache" / elsewhere.name).symlink_to(elsewhere)
    assert OLD == "old-0123456789ab"
    assert remove_unused(tmp_path / "cache", {KEPT}, 0) == [Removed(OLD, 1000)]
    left = {path.name for path in (tmp_path / "cache").iterdir()}
    assert left == {KEPT, "notes", f"{OLD}.bak", elsewhere.name}
    assert (elsewhere / "00000000000000000007" / "vectors.npy").exists()
    assert remove_unused(tmp_path / "nowhere", set(), 0) == []


def test_what_was_used_lately_is_kept_for_a_while(tmp_path: Path) -> None:
    user = User()
    occupy(tmp_path / OLD, user)
    os.utime(tmp_path / OLD, (0, 0))
    del user  # the last use is now
    assert remove_unused(tmp_path, set(), 600) == []
    now = time.time()
    os.utime(tmp_path / OLD, (now - 590, now - 590))
    assert remove_unused(tmp_path, set(), 600) == []
    os.utime(tmp_path / OLD, (now - 610, now - 610))
    assert [each.name for each in remove_unused(tmp_path, set(), 600)] == [OLD]


def test_what_is_used_is_never_removed(tmp_path: Path) -> None:
    users = [User(), User()]
    for user in users:
        occupy(tmp_path / OLD, user)
    while users:
        assert remove_unused(tmp_path, set(), 0) == []
        users.pop()
        user = User()  # not the last one's any more
    assert [each.name for each in remove_unused(tmp_path, set(), 0)] == [OLD]


def test_a_closed_catalog_lets_its_directory_go_and_still_answers(
    bundle: ServedBundle, journal: CatalogJournal, tmp_path: Path
) -> None:
    catalog = LiveCatalog.open(bundle, journal, tmp_path)
    assert remove_unused(tmp_path, set(), 0) == []
    catalog.close()
    assert len(remove_unused(tmp_path, set(), 0)) == 1
    assert list(tmp_path.glob("tiny-run-*")) == []
    assert catalog.snapshot.base.items.num_rows == 60  # read only now


_HOLD = """
import sys, time
from pathlib import Path
from rf_serving.catalog.compaction.cache_directory import occupy

class User: pass

user = User()
occupy(Path(sys.argv[1]), user)
print("there", flush=True)
time.sleep(600)
"""


def test_the_use_of_another_process_counts_until_it_is_killed(tmp_path: Path) -> None:
    fill(tmp_path / OLD, 70)
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / OLD)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"there\n"
            assert remove_unused(tmp_path, set(), 0) == []
        finally:
            process.kill()
    assert remove_unused(tmp_path, set(), 0) == [Removed(OLD, 70)]


def test_a_removal_that_was_killed_is_finished_by_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / OLD)
    (tmp_path / OLD / "items.arrow").write_bytes(b"y" * 500)

    class KilledError(BaseException):
        pass

    def half(path: Path, **_: object) -> None:
        (path / "items.arrow").unlink()
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(cache_directory, "rmtree", half)
        with pytest.raises(KilledError):
            remove_unused(tmp_path, set(), 0)
    assert not (tmp_path / OLD).exists()  # half a directory is never found by a server
    fill(tmp_path / OLD)
    user = User()
    occupy(tmp_path / OLD, user)
    assert remove_unused(tmp_path, set(), 600) == [Removed(OLD, 1000)]  # the rest, without a grace
    assert [path.name for path in tmp_path.iterdir()] == [OLD]


def test_whoever_starts_while_others_remove_has_a_directory_that_stays(tmp_path: Path) -> None:
    ended, removals = Event(), [0, 0]

    def remove(number: int) -> None:
        while not ended.is_set():
            removals[number] += len(remove_unused(tmp_path, set(), 0))

    removers = [Thread(target=remove, args=(number,)) for number in (0, 1)]
    for remover in removers:
        remover.start()
    try:
        turns = 0
        deadline = time.monotonic() + 30
        while min(removals) < 20 or turns < 200:
            assert time.monotonic() < deadline
            user = User()
            occupy(tmp_path / OLD, user)
            (tmp_path / OLD / "file").write_text(str(turns))
            time.sleep(0.001)
            assert (tmp_path / OLD / "file").read_text() == str(turns)
            turns += 1
            del user
            time.sleep(0.001)
    finally:
        ended.set()
        for remover in removers:
            remover.join()
    assert [path.name for path in tmp_path.iterdir()] in ([], [OLD])


def test_a_directory_removed_right_behind_its_making_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir, failed = Path.mkdir, list[Path]()

    def there_and_gone(path: Path, *args: object, **options: bool) -> None:
        if path.name == OLD and not failed:
            failed.append(path)
            raise FileExistsError(path)
        mkdir(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", there_and_gone)
    user = User()
    occupy(tmp_path / "cache" / OLD, user)
    assert failed
    assert (tmp_path / "cache" / OLD).is_dir()


def test_what_cannot_become_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError):
        occupy(tmp_path / "file", User())
    with pytest.raises(FileExistsError):
        occupy(tmp_path / "link", User())
