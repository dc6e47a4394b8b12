"""``manifest.json``: the name of a bundle, its origin, and the checksum of every file in it."""

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from rf_platform.bundle.plain import to_plain
from rf_platform.errors import ConfigError, CorruptError, NotFoundError, UsageError

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


def check_name(what: str, name: str) -> str:
    """Return ``name`` if it is safe as one path component.

    Args:
        what: what is being named, for the message: "bundle", "run", "dataset".
        name: up to 128 letters, digits, dots, dashes and underscores, starting with a letter or a digit.

    Raises:
        UsageError: the name has another form.
    """
    if not _SAFE.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a {what}: use letters, digits, '.', '_' and '-', starting with a letter or "
            f"a digit, 128 characters at most"
        )
    return name


MANIFEST = "manifest.json"
"""File name of the manifest; it lists every other file of a bundle but its own signature."""
SIGNATURE = "signature.json"
"""File name of the manifest's signature, of bundles that are signed; the manifest does not list it."""
FORMAT: Literal[2] = 2
"""The manifest format this version writes, and the only one it reads."""


def _safe_path(path: str) -> str:
    """Refuse paths that could lead out of the bundle, or that have a second spelling."""
    if "\\" in path or "\0" in path or path != PurePosixPath(path).as_posix() or path.startswith("/"):
        raise ValueError(f"file path {path!r} is not a plain relative path")
    if path in (".", MANIFEST, SIGNATURE) or ".." in PurePosixPath(path).parts:
        raise ValueError(f"file path {path!r} leads out of the bundle, or is the manifest itself or its signature")
    return path


def _safe_name(name: str) -> str:
    try:
        return check_name("bundle", name)
    except UsageError as error:
        raise ValueError(str(error)) from error


class FileEntry(BaseModel):
    """Size and checksum of a file of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0, description="Size of the file.")


class IndexInfo(BaseModel):
    """Kind and settings of the bundle's index; settings of its kind are kept as they are."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str = Field(description="Kind of index, for example flat.")


class BundleManifest(BaseModel):
    """The manifest of a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2]
    name: Annotated[str, AfterValidator(_safe_name)]
    created_at: AwareDatetime
    run: str = Field(description="Training run the model comes from.")
    dataset_fingerprint: str
    spec_hash: str = Field(description="Hash of the FeatureSpec the model was built from.")
    metrics: dict[str, Any]
    index: IndexInfo
    files: dict[Annotated[str, AfterValidator(_safe_path)], FileEntry] = Field(
        description="Relative POSIX path -> size and checksum, for every file but the manifest."
    )

    @property
    def total_bytes(self) -> int:
        """Size of all files together, without the manifest."""
        return sum(entry.bytes for entry in self.files.values())

    def to_json(self) -> str:
        """Return the text of ``manifest.json``."""
        return json.dumps(to_plain(self.model_dump()), indent=2, sort_keys=True) + "\n"


def read_manifest(directory: Path) -> BundleManifest:
    """Read the manifest of a bundle without looking at the other files.

    Raises:
        NotFoundError: the directory does not exist.
        CorruptError: the manifest is missing, is no valid manifest, or names a path outside the bundle.
        ConfigError: the manifest has a format this version does not know.
    """
    if not directory.is_dir():
        raise NotFoundError(f"the bundle directory {directory} does not exist; restore it or build the bundle again")
    path = directory / MANIFEST
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CorruptError(
            f"{directory} is not a complete bundle: {MANIFEST} is missing; build the bundle again"
        ) from None
    except (ValueError, OSError) as error:
        raise CorruptError(f"{path} cannot be read: {error}; restore it or build the bundle again") from error
    number = data.get("format") if isinstance(data, dict) else None
    if isinstance(number, int) and not isinstance(number, bool) and number != FORMAT:
        raise ConfigError(
            f"{path} has format {number}, and this version knows only {FORMAT}; upgrade, or build the bundle again"
        )
    try:
        return BundleManifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise CorruptError(f"{path} is not a valid manifest: {where}: {first['msg']}; build the bundle again") from None


def manifest_sha256(directory: Path) -> str:
    """Return the SHA-256 of ``manifest.json``, which stands for the whole bundle."""
    return hashlib.sha256((directory / MANIFEST).read_bytes()).hexdigest()
