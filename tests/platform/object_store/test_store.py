"""Things go up and come down as a whole: over S3, spoken by a real server, and in a directory."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rf_platform.bundle import verify
from rf_platform.errors import CorruptError, NotFoundError, UnavailableError, UsageError
from rf_platform.locks import Lease
from rf_platform.object_store import Kind
from rf_platform.object_store.remote import RemoteStore

DIES = """
import os, signal, sys
from pathlib import Path
from rf_platform.object_store import Kind, ObjectStore, remote
from rf_platform.settings import Settings

home, url, key = sys.argv[1:]
remote.PART, parts = 1000, remote.RemoteStore.parts

def dies(self, name, start, stop):
    for number, some in enumerate(parts(self, name, start, stop)):
        if name == key and number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        yield some

remote.RemoteStore.parts = dies
store = ObjectStore(Settings(home=home, store_url=url))
store.pull(store.listing(Kind.BUNDLE, "demo-1"), Path(home, "bundles", "demo-1"))
"""
"""A process that is killed while it downloads."""


def content(directory: Path) -> dict[str, bytes | str]:
    """Files, and links, below a directory."""
    return {
        str(path.relative_to(directory)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def remote_key(host: Any, name: str, file: str) -> str:
    return f"bundles/{name}/{host.store.listing(Kind.BUNDLE, name).files[file].sha256}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Contents that are asked for: key, first byte, end."""
    found: list[tuple[str, int, int]] = []
    parts = RemoteStore.parts

    def noted(self: RemoteStore, key: str, start: int, stop: int) -> Iterator[bytes]:
        found.append((key, start, stop))
        yield from parts(self, key, start, stop)

    monkeypatch.setattr(RemoteStore, "parts", noted)
    return found


def test_a_bundle_comes_down_as_it_went_up(one: Any, two: Any) -> None:
    made = one.write("demo-1")
    assert one.push("demo-1") > 10_000
    got = two.pull("demo-1")
    assert content(got) == content(made)
    verify(got)
    assert not [path.name for path in got.parent.iterdir() if path != got]
    assert one.push("demo-1") == 0  # the store has it


def test_a_run_comes_down_with_its_links_and_without_locks(one: Any, two: Any) -> None:
    run = one.home / "runs" / "demo"
    (run / "rerankers" / "lime").mkdir(parents=True)
    (run / "rerankers" / "lime" / "config.json").write_text("{}")
    (run / "reranker").symlink_to("rerankers/lime")
    for name in ("history.jsonl", "copy.jsonl", ".reranking.lock"):
        (run / name).write_text("same\n")
    one.push("demo", "run")
    got = two.pull("demo", "run")
    expected = content(run)
    del expected[".reranking.lock"]
    assert content(got) == expected
    with (got / "history.jsonl").open("a") as file:  # as a training does that goes on
        file.write("more\n")
    assert (got / "copy.jsonl").read_text() == "same\n"


def test_what_changed_is_sent_and_what_was_is_removed(one: Any, two: Any) -> None:
    run = one.home / "runs" / "demo"
    run.mkdir(parents=True)
    (run / "weights").write_bytes(b"w" * 5000)
    (run / "metrics.json").write_text("{}")
    one.push("demo", "run")
    (run / "metrics.json").write_text('{"ndcg@20": 0.1}')
    assert one.push("demo", "run") == len('{"ndcg@20": 0.1}')
    assert len(one.store.remote.keys("runs/demo/")) == 3  # two contents and the listing
    assert content(two.pull("demo", "run")) == content(run)


def test_another_bundle_of_the_same_name_is_refused(one: Any, two: Any) -> None:
    one.write("demo-1")
    one.push("demo-1")
    two.write("demo-1", seed=1)
    with pytest.raises(UsageError, match="has another bundle 'demo-1', and bundles never change"):
        two.push("demo-1")


def test_a_damaged_bundle_is_not_pushed(one: Any) -> None:
    made = one.write("demo-1")
    (made / "vectors.npy").write_bytes(b"damaged")
    (made / "more").write_bytes(b"")
    with pytest.raises(CorruptError, match=r"'demo-1' is damaged and is not pushed: more, vectors.npy; build it again"):
        one.push("demo-1")
    assert one.store.remote.keys("bundles/") == []


def test_nobody_sees_half_an_upload(one: Any, two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, put = one.write("demo-1"), RemoteStore.put
    left = [2]

    def fails(self: RemoteStore, key: str, value: Any) -> None:
        if not left[0]:
            raise UnavailableError("the connection is gone")
        left[0] -= 1
        put(self, key, value)

    monkeypatch.setattr(RemoteStore, "put", fails)
    with pytest.raises(UnavailableError, match="the connection is gone"):
        one.push("demo-1")
    assert one.store.find(Kind.BUNDLE, "demo-1") is None
    assert list(two.store.listings()) == []
    with pytest.raises(
        NotFoundError, match=r"has no bundle 'demo-1' .*`rf store push bundle demo-1` where its files are"
    ):
        two.pull("demo-1")
    monkeypatch.setattr(RemoteStore, "put", put)
    whole = sum(len(each) for each in content(made).values())
    assert 0 < one.push("demo-1") < whole  # the rest
    assert content(two.pull("demo-1")) == content(made)


def test_a_killed_download_goes_on_where_it_ended(one: Any, two: Any, asked: list[tuple[str, int, int]]) -> None:
    made = one.write("demo-1")
    one.push("demo-1")
    key = remote_key(one, "demo-1", "vectors.npy")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    died = subprocess.run([sys.executable, "-c", DIES, str(two.home), two.url, key], env=environment, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert not (two.home / "bundles" / "demo-1").exists()
    begun = (two.contents / key[-64:-62] / f"{key[-64:]}.begun").stat().st_size
    assert 0 < begun < 10_000
    assert content(two.pull("demo-1")) == content(made)
    assert (key, begun, 10_000) in asked
    assert not list(two.contents.glob("*/*.begun"))


def test_a_damaged_partial_download_starts_over(one: Any, two: Any) -> None:
    made = one.write("demo-1")
    one.push("demo-1")
    sha256 = one.store.listing(Kind.BUNDLE, "demo-1").files["vectors.npy"].sha256
    part = two.contents / sha256[:2] / f"{sha256}.begun"
    part.parent.mkdir(parents=True)
    for wrong in (b"\0" * 3000, b"\0" * 20_000):
        part.write_bytes(wrong)
        assert content(two.pull("demo-1")) == content(made)
        for path in (*two.contents.glob("*/*"), *(two.home / "bundles" / "demo-1").rglob("*")):
            if path.is_file():
                path.unlink()
        (two.home / "bundles" / "demo-1").rename(two.home / f"gone-{len(wrong)}")


def test_a_damaged_object_is_named_and_never_used(one: Any, two: Any) -> None:
    made = one.write("demo-1")
    one.push("demo-1")
    key = remote_key(one, "demo-1", "vectors.npy")
    one.store.remote.put(key, b"x" * 10_000)
    with pytest.raises(CorruptError, match=rf"{key} is damaged: its content has the SHA-256 \w+…, not the one"):
        two.pull("demo-1")
    assert not (two.home / "bundles" / "demo-1").exists()
    assert not (two.contents / key[-64:-62] / key[-64:]).exists()
    assert not list(two.contents.glob("*/*.begun"))
    one.store.remote.delete([key])
    with pytest.raises(CorruptError, match=rf"{key} cannot be read: it is not there; push it again"):
        two.pull("demo-1")
    one.store.remove(Kind.BUNDLE, "demo-1")
    assert one.store.remote.keys("bundles/") == []
    one.push("demo-1")
    assert content(two.pull("demo-1")) == content(made)


def test_bundles_share_what_they_have_alike(one: Any, two: Any, asked: list[tuple[str, int, int]]) -> None:
    for seed, name in enumerate(("demo-1", "demo-2")):
        one.write(name, seed)
        one.push(name)
    first, second = two.pull("demo-1"), two.pull("demo-2")
    alike = one.store.listing(Kind.BUNDLE, "demo-1").files["model/config.json"].sha256
    assert [key for key, _, _ in asked if key.endswith(alike)] == [f"bundles/demo-1/{alike}"]
    files = [path / "model" / "config.json" for path in (first, second)]
    assert files[0].samefile(files[1])
    assert files[0].samefile(two.contents / alike[:2] / alike)


def test_what_was_damaged_here_is_fetched_again(one: Any, two: Any) -> None:
    made = one.write("demo-1")
    one.push("demo-1")
    got = two.pull("demo-1")
    (got / "vectors.npy").write_bytes(b"damaged")
    got.rename(two.home / "damaged")  # the content in the cache is the same file
    assert content(two.pull("demo-1")) == content(made)


def test_the_cache_keeps_its_size(one: Any, hosts: Callable[..., Any]) -> None:
    """In thousands of bytes here: each bundle has eleven, of which few are shared."""
    two = hosts("two", megabytes=25)
    for seed in range(4):
        one.write(f"demo-{seed}", seed)
        one.push(f"demo-{seed}")
    bundles = two.home / "bundles"
    for seed in range(4):
        two.pull(f"demo-{seed}")
        assert sum(path.stat().st_size for path in two.contents.glob("*/*")) <= 25_000
    assert sorted(path.name for path in bundles.iterdir()) == ["demo-2", "demo-3"]
    two.write("own")  # was made here, and is nobody's copy
    leases = [Lease(bundles / name) for name in ("demo-2", "demo-3")]
    with pytest.raises(UnavailableError, match=r"has no room: .*RF_STORE_CACHE_MB allows .*; raise it, or stop"):
        two.pull("demo-0")
    assert sorted(path.name for path in bundles.iterdir()) == ["demo-2", "demo-3", "own"]
    leases.pop()
    two.pull("demo-0")
    assert sorted(path.name for path in bundles.iterdir()) == ["demo-0", "demo-2", "own"]


def test_processes_of_a_host_fetch_once(one: Any, two: Any, asked: list[tuple[str, int, int]]) -> None:
    made = one.write("demo-1")
    one.push("demo-1")
    failed: list[BaseException] = []

    def pull() -> None:
        try:
            type(two)(two.home, two.url).pull("demo-1")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=pull) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert content(two.home / "bundles" / "demo-1") == content(made)
    keys = [key for key, _, _ in asked]
    assert len(keys) == len(set(keys))


def test_a_new_signature_comes_down_alone(one: Any, two: Any, asked: list[tuple[str, int, int]]) -> None:
    made = one.write("demo-1")
    one.push("demo-1")
    got = two.pull("demo-1")
    (made / "signature.json").write_text('{"format": 1}')
    assert one.push("demo-1") == len('{"format": 1}')
    asked.clear()
    two.pull("demo-1")
    assert content(got) == content(made)
    assert len(asked) == 1
    two.pull("demo-1")
    assert len(asked) == 1


@pytest.mark.parametrize("bad", ["../outside", "/etc/x", "a/../../x", "a//b", "."])
def test_a_listing_cannot_lead_out_of_its_directory(one: Any, two: Any, bad: str) -> None:
    one.write("demo-1")
    one.push("demo-1")
    key = "bundles/demo-1/listing.json"
    listing = json.loads(one.store.remote.get(key))
    wrong = {**listing, "files": {**listing["files"], bad: listing["files"]["empty"]}}
    for value in (wrong, {**listing, "links": {bad: "x"}}, {**listing, "files": 3}):
        one.store.remote.put(key, json.dumps(value).encode())
        with pytest.raises(CorruptError, match=r"bundles/demo-1/listing.json is no listing"):
            two.pull("demo-1")
    one.store.remote.put(key, b"no JSON")
    with pytest.raises(CorruptError, match=r"bundles/demo-1/listing.json"):
        two.pull("demo-1")
    one.store.remote.put(key, json.dumps({**listing, "format": 2}).encode())
    with pytest.raises(Exception, match="was written by a later version"):
        two.pull("demo-1")


def test_a_link_that_leads_out_is_not_pushed_and_not_made(one: Any, two: Any) -> None:
    run = one.home / "runs" / "demo"
    run.mkdir(parents=True)
    (run / "link").symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match=r"leads to /etc/hostname, out of its directory"):
        one.push("demo", "run")
    (run / "link").unlink()
    (run / "file").write_text("x")
    (run / "link").symlink_to("file")
    one.push("demo", "run")
    key = "runs/demo/listing.json"
    listing = json.loads(one.store.remote.get(key))
    one.store.remote.put(key, json.dumps({**listing, "links": {"link": "../../x"}}).encode())
    with pytest.raises(CorruptError, match="is no listing"):
        two.pull("demo", "run")


def test_a_log_gets_the_files_that_are_missing(one: Any, two: Any) -> None:
    for host, names in ((one, "ab"), (two, "bc")):
        host.log = host.home / "serving-log"
        host.log.mkdir(parents=True)
        for name in names:
            (host.log / f"{name}.parquet").write_text(f"{name} of {host.home.name}")
    one.store.push(Kind.LOG, "host-1", one.log, {})
    two.store.pull(two.store.listing(Kind.LOG, "host-1"), two.log)
    assert content(two.log) == {
        "a.parquet": b"a of one",
        "b.parquet": b"b of two",
        "c.parquet": b"c of two",
    }
    (one.log / "a.parquet").unlink()  # by retention, or a user that is forgotten
    one.store.push(Kind.LOG, "host-1", one.log, {})
    assert list(one.store.listing(Kind.LOG, "host-1").files) == ["b.parquet"]
    assert len(one.store.remote.keys("logs/host-1/")) == 2
