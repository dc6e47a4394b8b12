from pathlib import Path

import pytest

from rf_platform.bundle import MANIFEST, find_damage, manifest_sha256, read_manifest, verify
from rf_platform.errors import CorruptError


def test_an_intact_bundle_verifies(bundle: Path) -> None:
    assert verify(bundle, expected_manifest=manifest_sha256(bundle)).name == "demo-1"


def test_one_flipped_bit_is_found_and_the_file_named(bundle: Path) -> None:
    data = bytearray((bundle / "vectors.npy").read_bytes())
    data[100] ^= 1
    (bundle / "vectors.npy").write_bytes(data)
    with pytest.raises(CorruptError, match=r"'demo-1'.*: vectors\.npy \(checksum differs\);"):
        verify(bundle)


def test_every_bad_file_is_named_at_once(bundle: Path) -> None:
    (bundle / "empty").write_bytes(b"x")
    (bundle / "vectors.npy").unlink()
    (bundle / "model" / "extra.py").write_text("")
    assert find_damage(bundle, read_manifest(bundle)) == [
        "empty (1 bytes instead of 0)",
        "model/extra.py (unexpected)",
        "vectors.npy (missing)",
    ]


def test_a_directory_in_place_of_a_file_is_damage(bundle: Path) -> None:
    (bundle / "empty").unlink()
    (bundle / "empty").mkdir()
    assert find_damage(bundle, read_manifest(bundle)) == ["empty (missing)"]


def test_without_checksums_only_sizes_count(bundle: Path) -> None:
    (bundle / "vectors.npy").write_bytes(bytes(256))
    manifest = read_manifest(bundle)
    assert find_damage(bundle, manifest, checksums=False) == []
    assert find_damage(bundle, manifest) == ["vectors.npy (checksum differs)"]


def test_a_rewritten_manifest_is_not_the_recorded_one(bundle: Path) -> None:
    recorded = manifest_sha256(bundle)
    (bundle / MANIFEST).write_text((bundle / MANIFEST).read_text().replace("0.25", "0.99"))
    assert verify(bundle).metrics["test"]["recall@20"] == 0.99  # consistent in itself
    with pytest.raises(CorruptError, match=r"manifest\.json \(not the one that was recorded"):
        verify(bundle, expected_manifest=recorded)
