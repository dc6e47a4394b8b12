from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import pytest

from rf_platform import staging
from rf_platform.staging import staged

MARK = ".writing-"


def write(target: Path, text: str, *, replace: bool = False) -> None:
    with staged(target, MARK, replace=replace) as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_text(text)


def read(target: Path) -> str:
    """What is in it; and nothing is beside it."""
    assert list(target.parent.iterdir()) == [target]
    return (target / "deep" / "file").read_text()


def test_it_is_there_as_a_whole_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a"
    with staged(target, MARK) as directory:
        assert directory.parent == target.parent
        assert directory.name.startswith(MARK)
        assert not target.exists()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize(
    "make",
    [lambda target: write(target, "first"), Path.mkdir, lambda target: target.symlink_to("nowhere")],
    ids=["full", "empty", "a link"],
)
def test_one_that_came_meanwhile_stays(tmp_path: Path, make: Callable[[Path], None]) -> None:
    target = tmp_path / "a"
    with pytest.raises(OSError, match="exists"), staged(target, MARK):
        make(target)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_an_earlier_one_is_replaced_when_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a"
    write(target, "first", replace=True)
    with staged(target, MARK, replace=True) as directory:
        (directory / "deep").mkdir()
        (directory / "deep" / "file").write_text("second")
        assert (target / "deep" / "file").read_text() == "first"
    assert read(target) == "second"


def test_there_is_always_one_of_the_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "xy":
        (tmp_path / name).mkdir()
    swaps = staging._swap(tmp_path / "x", tmp_path / "y")
    for name in "xy":
        (tmp_path / name).rmdir()
    target, missing, done = tmp_path / "a", [0], Event()
    write(target, "0")

    def look() -> None:
        while not done.is_set():
            missing[0] += not target.exists()

    looking = Thread(target=look)
    looking.start()
    for n in range(300):
        write(target, str(n), replace=True)
    done.set()
    looking.join()
    assert not missing[0] or not swaps
    assert read(target) == "299"
    monkeypatch.setattr(staging, "_swap", lambda *_: False)  # another system, or file system
    write(target, "last", replace=True)
    assert read(target) == "last"


def test_an_earlier_one_stays_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "a"
    write(target, "first")
    with pytest.raises(ZeroDivisionError), staged(target, MARK, replace=True) as directory:
        (directory / "deep").write_bytes(bytes([1 // 0]))
    assert read(target) == "first"


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (f"{MARK}left", ".other-left", "b"):
        (tmp_path / name).mkdir()
    with staged(tmp_path / "a", MARK), staged(tmp_path / "c", MARK):  # the first is at work: not swept
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-left", "a", "b", "c"]


@pytest.mark.parametrize("name", ["lime", "lime-mha"])
def test_what_was_put_aside_keeps_its_own_name(tmp_path: Path, name: str) -> None:
    """A process was killed between two renames; the one that comes next writes the same directory, or another one."""
    old = tmp_path / f"{MARK}old-lime-mha-{'a' * 32}"
    (old / "deep").mkdir(parents=True)
    (old / "deep" / "file").write_text("old")
    target = tmp_path / name
    with pytest.raises(RuntimeError), staged(target, MARK, replace=True):
        raise RuntimeError
    assert staging.abandoned(tmp_path, MARK) == []
    kept = old if name == "lime" else target
    assert (kept / "deep" / "file").read_text() == "old"
    write(tmp_path / "lime-mha", "new", replace=True)
    assert read(tmp_path / "lime-mha") == "new"


def test_what_was_put_aside_goes_away_when_its_name_is_taken(tmp_path: Path) -> None:
    (tmp_path / f"{MARK}old-lime-mha-{'a' * 32}").mkdir()
    (tmp_path / "lime-mha").mkdir()
    assert len(staging.abandoned(tmp_path, MARK)) == 1
    write(tmp_path / "lime-mha", "new", replace=True)
    assert read(tmp_path / "lime-mha") == "new"
