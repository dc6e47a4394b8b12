"""Images of items that are files below one directory."""

from pathlib import Path
from typing import NamedTuple

from rf_platform.errors import NotFoundError

KINDS = {
    ".avif": "image/avif",
    ".gif": "image/gif",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}
"""Media types by the end of a file's name; an SVG may hold scripts, and is none of them."""
_MOST_BYTES = 8 * 2**20


class Image(NamedTuple):
    """An image."""

    content: bytes
    media_type: str


class ItemImages:
    """Finds and reads images; paths come from the catalog, which everybody with the role write may change.

    Args:
        directory: images are below it, whatever a path says; None: there are none.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory.resolve() if directory is not None else None

    def find(self, address: str) -> Path | None:
        """Return the file that a display field names; None: it names none below the directory, or no image.

        Args:
            address: path, relative to the directory; of an absolute one, links and dots are followed first, too.
        """
        if self._directory is None or not address or "://" in address or "\0" in address:
            return None
        try:
            path = (self._directory / address).resolve()
            inside = path.is_relative_to(self._directory) and path.suffix.lower() in KINDS
            return path if inside and path.is_file() else None
        except OSError:  # a name that is too long, or a loop of links
            return None

    def read(self, address: str) -> Image:
        """Return the image that a display field names.

        Raises:
            NotFoundError: there is none, or it is larger than 8 MiB.
        """
        path = self.find(address)
        if path is None or path.stat().st_size > _MOST_BYTES:
            raise NotFoundError("this item has no image that is a file below --image-files, of 8 MiB at most")
        return Image(path.read_bytes(), KINDS[path.suffix.lower()])
