import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rf_platform.bundle import publish, verify
from rf_platform.errors import UsageError

Describe = Callable[..., Any]


def test_the_bundle_appears_whole_when_the_block_ends(tmp_path: Path, describe: Describe) -> None:
    target = tmp_path / "bundles" / "demo-1"
    with publish(target) as staging:
        (staging / "vectors.npy").write_bytes(b"123")
        describe(staging)
        assert not target.exists()
        assert staging.parent == target.parent
    assert sorted(p.name for p in target.parent.iterdir()) == ["demo-1"]
    assert sorted(verify(target).files) == ["vectors.npy"]


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), publish(tmp_path / "demo-1") as staging:
        (staging / "vectors.npy").write_bytes(bytes([1 // 0]))
    assert list(tmp_path.iterdir()) == []


def test_a_builder_that_forgets_the_manifest_is_a_bug(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="write_manifest"), publish(tmp_path / "demo-1"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bundle_is_never_replaced(tmp_path: Path, bundle: Path, describe: Describe) -> None:
    with pytest.raises(UsageError, match="exists already"), publish(bundle):
        pytest.fail("the block must not run")
    verify(bundle)


def test_of_two_builders_the_slower_one_is_refused(tmp_path: Path, describe: Describe) -> None:
    target = tmp_path / "demo-1"

    def slower() -> None:
        with publish(target) as staging:
            (staging / "late").write_text("")
            describe(staging)
            with publish(target) as other:
                (other / "early").write_text("")
                describe(other)

    with pytest.raises(UsageError, match="exists already"):
        slower()
    assert sorted(verify(target).files) == ["early"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo-1"]


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be the name"), publish(tmp_path / ".hidden"):
        pytest.fail("the block must not run")


def test_a_killed_builder_leaves_no_bundle_and_the_next_one_cleans_up(tmp_path: Path, describe: Describe) -> None:
    program = """
import sys, time
from pathlib import Path
from rf_platform.bundle import publish
with publish(Path(sys.argv[1])) as staging:
    (staging / "half").write_bytes(b"x" * 1000)
    print("ready", flush=True)
    time.sleep(60)
"""
    target = tmp_path / "demo-1"
    builder = subprocess.Popen(
        [sys.executable, "-c", program, str(target)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert builder.stdout is not None
    try:
        assert builder.stdout.readline() == "ready\n"
        (left,) = tmp_path.iterdir()
        with publish(tmp_path / "other-1") as staging:  # the builder lives: its work is not touched
            describe(staging, "other-1")
        assert (left / "half").exists()
    finally:
        builder.send_signal(signal.SIGKILL)
        builder.wait()
        builder.stdout.close()
    assert not target.exists()
    with publish(target) as staging:
        describe(staging)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo-1", "other-1"]


def test_builders_of_different_bundles_do_not_disturb_each_other(tmp_path: Path, describe: Describe) -> None:
    def build(n: int) -> None:
        with publish(tmp_path / f"demo-{n}") as staging:
            (staging / "file").write_text(str(n))
            describe(staging, f"demo-{n}")

    threads = [threading.Thread(target=build, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"demo-{n}" for n in range(8)]
    assert all(verify(path).name == path.name for path in tmp_path.iterdir())
