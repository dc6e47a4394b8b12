"""Checksums of a bundle, written, held against its files, and published with them all at once."""

import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rf_platform.bundle.manifest import (
    FORMAT,
    MANIFEST,
    SIGNATURE,
    BundleManifest,
    FileEntry,
    IndexInfo,
    check_name,
    manifest_sha256,
    read_manifest,
)
from rf_platform.bundle.plain import to_plain
from rf_platform.errors import CorruptError, UsageError
from rf_platform.staging import staged


def write_manifest(
    directory: Path,
    *,
    name: str,
    run: str,
    dataset_fingerprint: str,
    spec_hash: str,
    metrics: Mapping[str, Any],
    index: Mapping[str, Any],
) -> BundleManifest:
    """Compute size and SHA-256 of every file below ``directory`` and write ``manifest.json`` beside them.

    Args:
        directory: the finished bundle; nothing in it may change afterwards.
        name: name of the bundle, ``<run>-<n>``.
        run: name of the training run.
        dataset_fingerprint: fingerprint of the dataset version it was trained on.
        spec_hash: hash of the FeatureSpec it was built from.
        metrics: metrics of the run; NaN becomes null.
        index: ``kind`` and further settings of the index.

    Raises:
        UsageError: the name is not a safe path component, or the directory holds a link or another special file.
    """
    check_name("bundle", name)
    files, odd = _walk(directory)
    if odd:
        raise UsageError(
            f"a bundle holds plain files only, but {directory} has {', '.join(odd)}; copy the files instead"
        )
    manifest = BundleManifest(
        format=FORMAT,
        name=name,
        created_at=datetime.now(UTC),
        run=run,
        dataset_fingerprint=dataset_fingerprint,
        spec_hash=spec_hash,
        metrics=to_plain(metrics),
        index=IndexInfo(**to_plain(index)),
        files={
            path: FileEntry(sha256=_sha256(directory / path), bytes=size)
            for path, size in sorted(files.items())
            if path not in (MANIFEST, SIGNATURE)
        },
    )
    (directory / MANIFEST).write_text(manifest.to_json())
    return manifest


def find_damage(directory: Path, manifest: BundleManifest, *, checksums: bool = True) -> list[str]:
    """Return what is wrong with a bundle's files, one entry for each file, in order; empty if it is intact.

    Args:
        directory: the bundle.
        manifest: what it should hold.
        checksums: read every byte; without, only presence and sizes are looked at, which takes no time.
    """
    files, odd = _walk(directory)
    found = {path: f"{path} (a link or special file)" for path in odd}
    for path in set(files) - set(manifest.files) - {MANIFEST, SIGNATURE}:
        found[path] = f"{path} (unexpected)"
    for path, entry in manifest.files.items():
        if path not in files:
            found.setdefault(path, f"{path} (missing)")
        elif files[path] != entry.bytes:
            found[path] = f"{path} ({files[path]} bytes instead of {entry.bytes})"
        elif checksums:
            try:
                if _sha256(directory / path) != entry.sha256:
                    found[path] = f"{path} (checksum differs)"
            except OSError as error:
                found[path] = f"{path} (cannot be read: {error.strerror})"
    return [found[path] for path in sorted(found)]


def verify(directory: Path, *, expected_manifest: str | None = None) -> BundleManifest:
    """Check every file of a bundle against its manifest, and the manifest against the registry.

    Args:
        directory: the bundle.
        expected_manifest: SHA-256 of ``manifest.json`` as it was recorded when the bundle was published.

    Raises:
        NotFoundError: the directory does not exist.
        CorruptError: names every damaged, missing or unexpected file.
        ConfigError: the manifest has a format this version does not know.
    """
    manifest = read_manifest(directory)
    damage = find_damage(directory, manifest)
    if expected_manifest is not None and manifest_sha256(directory) != expected_manifest:
        damage.append(f"{MANIFEST} (not the one that was recorded when the bundle was built)")
    if damage:
        raise CorruptError(
            f"bundle '{manifest.name}' in {directory} is damaged: {', '.join(damage)}; restore it from a copy or build "
            f"it again with `rf index build`"
        )
    return manifest


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _walk(directory: Path) -> tuple[dict[str, int], list[str]]:
    """Return the size of every plain file by relative path, and the paths of links and other special files."""
    files: dict[str, int] = {}
    odd: list[str] = []
    for parent, directories, names in os.walk(directory):
        for name in (*directories, *names):
            path = Path(parent, name)
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                files[path.relative_to(directory).as_posix()] = info.st_size
            elif not stat.S_ISDIR(info.st_mode):
                odd.append(path.relative_to(directory).as_posix())
    return files, odd


_STAGING = ".building-"


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Yield an empty directory to build a bundle in, which becomes ``target`` when the block ends without an error.

    The block must end with :func:`rf_platform.bundle.write_manifest`. See :func:`rf_platform.staging.staged` for what is
    left after an error.

    Raises:
        UsageError: the name is not a safe path component, or the target exists (bundles never change).
    """
    check_name("bundle", target.name)
    _refuse_existing(target)
    try:
        with staged(target, _STAGING) as staging:
            yield staging
            assert (staging / MANIFEST).is_file(), f"the builder of {target} did not call write_manifest"
    except FileExistsError:
        _refuse_existing(target)  # another builder was faster
        raise


def _refuse_existing(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise UsageError(f"the bundle directory {target} exists already and bundles never change; choose another name")
