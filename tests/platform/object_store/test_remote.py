"""What an object store says when it cannot be used, in one sentence."""

from pathlib import Path

import pytest

from rf_platform.errors import ConfigError, NotFoundError, UnavailableError
from rf_platform.object_store import remote
from rf_platform.object_store.remote import RemoteStore


@pytest.fixture(autouse=True)
def few_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_RETRIES", {"max_retries": 1})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://host/x", "is not the URL of an object store; write s3://, gs://, az:// or file://"),
        ("bucket/prefix", "is not the URL of an object store"),
        ("s3://key:secret-word@bucket/x", "credentials and endpoint are variables: AWS_ACCESS_KEY_ID"),
        ("s3://bucket/x?region=y", "has more than a bucket and a prefix"),
        ("s3:///x", "names no place"),
        ("file://host/x", "names no place"),
        ("file:///", "names no place"),
    ],
)
def test_a_url_that_is_none(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        RemoteStore(url)
    assert "secret-word" not in str(raised.value)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no directory .*/away for RF_STORE_URL; make it, or mount it"):
        RemoteStore((tmp_path / "away").as_uri())


def test_objects_are_written_read_listed_and_removed(store_url: str, tmp_path: Path) -> None:
    store = RemoteStore(store_url)
    (tmp_path / "file").write_bytes(b"0123456789")
    store.put("a/b/one", tmp_path / "file")
    store.put("a/c/two", b"")
    store.put("a/b/one", tmp_path / "file")
    assert store.get("a/b/one") == b"0123456789"
    assert store.get("a/b/none") is None
    assert (store.size("a/b/one"), store.size("a/c/two"), store.size("a/none")) == (10, 0, None)
    assert b"".join(store.parts("a/b/one", 3, 7)) == b"3456"
    assert store.directories("a/") == ["b", "c"]
    assert store.directories("none/") == []
    assert sorted(store.keys("a/")) == ["a/b/one", "a/c/two"]
    store.delete(["a/b/one", "a/b/one", "a/none"])
    assert store.keys("a/") == ["a/c/two"]


def test_a_bucket_that_is_not_there(s3_url: str) -> None:
    store = RemoteStore("s3://no-such-bucket-of-ours/x")
    for use in (lambda: store.get("a"), lambda: store.put("a", b""), lambda: store.keys("a")):
        with pytest.raises(NotFoundError, match=r"there is no bucket 'no-such-bucket-of-ours'; make it, or correct"):
            use()


def test_no_credentials(s3_url: str, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{closed_port}")  # of a machine without a role
    with pytest.raises(
        ConfigError, match=r"no usable credentials are found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ):
        RemoteStore(s3_url).get("a")


def test_a_server_that_is_not_there(s3_url: str, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(UnavailableError, match=r"s3://bucket-\w+/shop/a cannot be read: .*; check RF_STORE_URL"):
        RemoteStore(s3_url).get("a")
