"""The bundle: one directory with everything that is served together, and a manifest with a checksum for every file."""

from rf_platform.bundle.integrity import find_damage, publish, verify, write_manifest
from rf_platform.bundle.manifest import (
    MANIFEST,
    BundleManifest,
    FileEntry,
    IndexInfo,
    check_name,
    manifest_sha256,
    read_manifest,
)
from rf_platform.bundle.plain import to_plain

__all__ = [
    "MANIFEST",
    "BundleManifest",
    "FileEntry",
    "IndexInfo",
    "check_name",
    "find_damage",
    "manifest_sha256",
    "publish",
    "read_manifest",
    "to_plain",
    "verify",
    "write_manifest",
]
