"""Listings: what a bundle, dataset, run or log consists of in an object store; a thing is there when its listing is."""

import hashlib
import os
import stat
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from rf_platform.bundle.manifest import FileEntry, check_name
from rf_platform.errors import ConfigError, CorruptError, UsageError
from rf_platform.failures import reading

FORMAT: Literal[1] = 1


class Kind(StrEnum):
    """Kinds of things in an object store."""

    BUNDLE = "bundle"
    DATASET = "dataset"
    RUN = "run"
    LOG = "log"
    """The serving log of a host."""


def _plain(path: str) -> str:
    """Refuse paths that could lead out of the directory, or that have a second spelling."""
    if "\\" in path or "\0" in path or path != PurePosixPath(path).as_posix() or path.startswith("/"):
        raise ValueError(f"path {path!r} is not a plain relative path")
    if path == "." or ".." in PurePosixPath(path).parts:
        raise ValueError(f"path {path!r} leads out of the directory")
    return path


def _safe_name(name: str) -> str:
    try:
        return check_name("thing in an object store", name)
    except UsageError as error:
        raise ValueError(str(error)) from error


RelativePath = Annotated[str, AfterValidator(_plain)]


class Listing(BaseModel):
    """Files of one thing, each by size and SHA-256, under which its content is an object of the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = FORMAT
    kind: Kind
    name: Annotated[str, AfterValidator(_safe_name)]
    created_at: AwareDatetime
    files: dict[RelativePath, FileEntry]
    links: dict[RelativePath, str] = Field(default={}, description="Symbolic links, relative to their place.")
    facts: dict[str, dict[str, Any]] = Field(
        default={},
        description="Records of the registry: the thing's own, and those of the run and dataset it comes from.",
    )

    @field_validator("links")
    @classmethod
    def _inside(cls, links: dict[str, str]) -> dict[str, str]:
        for path, to in links.items():
            if os.path.isabs(to) or os.path.normpath(PurePosixPath(path).parent / to).startswith(".."):
                raise ValueError(f"link {path!r} leads out of the directory")
        return links

    @property
    def total_bytes(self) -> int:
        """Size of all files together."""
        return sum(entry.bytes for entry in self.files.values())

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each content, by SHA-256."""
        return {entry.sha256: entry.bytes for entry in self.files.values()}


def key_of(kind: Kind, name: str, file: str = "listing.json") -> str:
    """Return the key of a thing's listing, or of a content of it by SHA-256."""
    return f"{kind}s/{name}/{file}"


def read_listing(text: bytes, place: str) -> Listing:
    """Read a listing as it is in a store.

    Raises:
        CorruptError: it is no listing.
        ConfigError: a later version has written it.
    """
    with reading(place, "push it again from where it was made (`rf store push`)"):
        try:
            return Listing.model_validate_json(text)
        except ValidationError as error:
            if error.errors()[0]["loc"] == ("format",):
                raise ConfigError(f"{place} was written by a later version; upgrade this one") from error
            raise CorruptError(f"{place} is no listing: {error.errors()[0]['msg']}; push it again") from error


def walk(directory: Path) -> tuple[dict[str, FileEntry], dict[str, str]]:
    """Return all files below a directory with size and SHA-256, and its symbolic links; unfinished and lock files are left out.

    Raises:
        UsageError: a link leads out of the directory.
    """
    files: dict[str, FileEntry] = {}
    links: dict[str, str] = {}
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        for name in (*directories, *sorted(names)):
            path = Path(parent, name)
            if name.startswith("."):
                continue
            relative, mode = path.relative_to(directory).as_posix(), path.lstat().st_mode
            if stat.S_ISLNK(mode):
                links[relative] = _inner(path, directory)
            elif stat.S_ISREG(mode):
                sha256, size = sha256_of(path)
                files[relative] = FileEntry(sha256=sha256, bytes=size)
    return files, links


def sha256_of(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a file's content, and its size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _inner(link: Path, directory: Path) -> str:
    to = os.readlink(link)
    if os.path.isabs(to) or not link.resolve().is_relative_to(directory.resolve()):
        raise UsageError(
            f"the link {link} leads to {to}, out of its directory, and cannot be pushed; copy the files instead"
        )
    return PurePosixPath(to).as_posix()
