import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rf_platform.bundle import MANIFEST, check_name, manifest_sha256, read_manifest, verify, write_manifest
from rf_platform.bundle.manifest import FORMAT
from rf_platform.errors import ConfigError, CorruptError, NotFoundError, UsageError


def edit(bundle: Path, **changes: Any) -> None:
    path = bundle / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_manifest_lists_every_file_with_size_and_checksum(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    assert {path: entry.bytes for path, entry in manifest.files.items()} == {
        "empty": 0,
        "model/weights.pt": 7000,
        "vectors.npy": 256,
    }
    assert manifest.files["vectors.npy"].sha256 == hashlib.sha256(bytes(range(256))).hexdigest()
    assert manifest.total_bytes == 7256
    assert (manifest.name, manifest.run, manifest.index.kind) == ("demo-1", "demo", "flat")
    assert manifest.index.model_extra == {"metric": "ip"}


def test_nan_metrics_become_null_and_the_text_is_strict_json(bundle: Path) -> None:
    text = (bundle / MANIFEST).read_text()
    data = json.loads(text, parse_constant=lambda token: pytest.fail(f"{token} is not JSON"))
    assert data["metrics"] == {"test": {"recall@20": 0.25, "loss": None}}
    assert data["format"] == FORMAT


def test_manifest_checksum_is_that_of_the_file(bundle: Path) -> None:
    assert manifest_sha256(bundle) == hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "path",
    ["../secret", "a/../../secret", "/etc/passwd", "a/./b", "a//b", "a/", "", ".", "..", "a\\..\\b", MANIFEST, "a\0b"],
)
def test_paths_out_of_the_bundle_are_refused(bundle: Path, path: str) -> None:
    edit(bundle, files={path: {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(CorruptError, match="files"):
        read_manifest(bundle)


def test_a_path_through_a_link_is_refused(bundle: Path) -> None:
    outside = bundle.parent / "outside"
    outside.mkdir()
    (outside / "weights.pt").write_bytes((bundle / "model" / "weights.pt").read_bytes())
    (bundle / "model" / "weights.pt").unlink()
    (bundle / "model").rmdir()
    (bundle / "model").symlink_to(outside)
    with pytest.raises(CorruptError, match=r"model \(a link or special file\), model/weights\.pt \(missing\)"):
        verify(bundle)


@pytest.mark.parametrize("number", [0, 1, FORMAT + 1, 99])
def test_an_unknown_format_is_refused_by_its_number(bundle: Path, number: int) -> None:
    edit(bundle, format=number)
    with pytest.raises(ConfigError, match=f"has format {number}.*upgrade"):
        read_manifest(bundle)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"format": None}, "format"),
        ({"name": "../x"}, "name"),
        ({"created_at": "2026-01-01T00:00:00"}, "created_at"),
        ({"files": {"a": {"sha256": "xyz", "bytes": 1}}}, "files.a.sha256"),
        ({"files": {"a": {"sha256": "0" * 64, "bytes": -1}}}, "files.a.bytes"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_an_invalid_manifest_is_refused_by_field(bundle: Path, changes: dict[str, Any], where: str) -> None:
    edit(bundle, **changes)
    with pytest.raises(CorruptError, match=f"not a valid manifest: {where}"):
        read_manifest(bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_a_manifest_that_is_no_manifest_is_refused(bundle: Path, text: str) -> None:
    (bundle / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CorruptError, match=r"manifest\.json"):
        read_manifest(bundle)


def test_missing_directory_and_missing_manifest_are_told_apart(bundle: Path) -> None:
    with pytest.raises(NotFoundError, match="gone"):
        read_manifest(bundle.parent / "gone")
    (bundle / MANIFEST).unlink()
    with pytest.raises(CorruptError, match=r"manifest\.json is missing"):
        read_manifest(bundle)


def test_a_link_cannot_be_published(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("x")
    directory = tmp_path / "demo-1"
    directory.mkdir()
    (directory / "items.parquet").symlink_to(tmp_path / "target")
    with pytest.raises(UsageError, match=r"items\.parquet"):
        write_manifest(directory, name="demo-1", run="d", dataset_fingerprint="", spec_hash="", metrics={}, index={})


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-rf", ".hidden", "a b", "a\n", "ä", "x" * 129])
def test_names_that_are_no_path_component_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name of a bundle"):
        check_name("bundle", name)


@pytest.mark.parametrize("name", ["a", "demo-1", "ml-1m_v2.0", "x" * 128])
def test_ordinary_names_are_accepted(name: str) -> None:
    assert check_name("bundle", name) == name
