"""Objects at a URL: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage, or a directory."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from rf_platform.errors import ConfigError, CorruptError, NotFoundError, RfError, UnavailableError
from rf_platform.failures import first_line, translated
from rf_platform.failures.system import in_text
from rf_platform.redaction import without_password

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role of the machine",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or a service account of the machine",
    "az": "AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or an identity of the machine",
}
_SCHEMES = (*_CREDENTIALS, "file")
_RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
_CLIENT = {"connect_timeout": "5s", "timeout": "60s"}
_NO_BUCKET = re.compile(r"NoSuchBucket|bucket does not exist|ContainerNotFound|container does not exist", re.IGNORECASE)
_NO_CREDENTIALS = re.compile(
    r"/latest/(api/token|meta-data)|169\.254\.169\.254|metadata\.google\.internal|credential|InvalidAccessKeyId",
    re.IGNORECASE,
)
_GENERIC = re.compile(r"Generic \w+ error: ")
_REFUSED = re.compile(
    r"SignatureDoesNotMatch|AccessDenied|AuthenticationFailed|AuthorizationFailure|Forbidden", re.IGNORECASE
)
PART = 16 << 20
"""Bytes of a file that are asked for at once."""


class RemoteStore:
    """Objects by key under a URL; a written object appears as a whole or not at all.

    Credentials, region and endpoint are those of the environment (``AWS_*``, ``GOOGLE_*``, ``AZURE_*``), as the tools of the
    providers read them, and never part of the URL.
    """

    def __init__(self, url: str) -> None:
        """``url``: s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///directory.

        Raises:
            ConfigError: it is none of these, names no place, or has a password.
            NotFoundError: the directory does not exist.
        """
        self.url = without_password(url).rstrip("/")
        try:
            parts = urlsplit(url)
        except ValueError:  # of what a password may have
            parts = urlsplit("")
        self._scheme, self._bucket = parts.scheme, parts.netloc
        if self._scheme not in _SCHEMES:
            raise ConfigError(
                f"RF_STORE_URL={self.url} is not the URL of an object store; write s3://, gs://, az:// or file://"
            )
        if ":" in parts.netloc or set("@?#") & set(url):
            raise ConfigError(
                f"RF_STORE_URL={self.url} has more than a bucket and a prefix; credentials and endpoint are variables: "
                f"{_CREDENTIALS.get(self._scheme, 'a directory needs none')}"
            )
        if (self._scheme == "file") != (not parts.netloc) or (self._scheme == "file" and not parts.path.strip("/")):
            raise ConfigError(f"RF_STORE_URL={self.url} names no place; write s3://bucket/prefix or file:///directory")
        self._store = self._opened(url)

    def _opened(self, url: str) -> "ObjectStore":
        from obstore.store import LocalStore, from_url

        if self._scheme == "file":
            directory = Path(unquote(urlsplit(url).path))
            if not directory.is_dir():
                raise NotFoundError(f"there is no directory {directory} for RF_STORE_URL; make it, or mount it")
            return LocalStore(directory, automatic_cleanup=True)
        with self._explained("opened"):
            options: Any = {"client_options": _client_options(), "retry_config": _RETRIES}
            return from_url(url, **options)

    def put(self, key: str, content: bytes | Path) -> None:
        """Write an object, or a file as one, in the place of one that may be there."""
        import obstore

        with self._explained("written", key):
            obstore.put(self._store, key, content)

    def get(self, key: str) -> bytes | None:
        """Return an object; None if there is none."""
        import obstore

        with self._explained("read", key):
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError as error:
                if _NO_BUCKET.search(str(error)):
                    raise
                return None

    def parts(self, key: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield an object's bytes from ``start`` to ``stop``, :data:`PART` at a time."""
        import obstore

        for first in range(start, stop, PART):
            with self._explained("read", key):
                some = bytes(obstore.get_range(self._store, key, start=first, end=min(first + PART, stop)))
            yield some

    def size(self, key: str) -> int | None:
        """Return the bytes of an object; None if there is none."""
        import obstore

        with self._explained("read", key):
            try:
                return int(obstore.head(self._store, key)["size"])
            except FileNotFoundError:
                return None

    def directories(self, prefix: str) -> list[str]:
        """Return the names of what lies below a prefix, in alphabetical order."""
        import obstore

        with self._explained("listed", prefix):
            found = obstore.list_with_delimiter(self._store, prefix)["common_prefixes"]
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys of all objects below a prefix."""
        import obstore

        with self._explained("listed", prefix):
            return [str(each["path"]) for some in obstore.list(self._store, prefix) for each in some]

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is gone already is fine."""
        import obstore

        with self._explained("deleted"):
            for key in keys:
                try:
                    obstore.delete(self._store, key)
                except FileNotFoundError:
                    continue

    @contextmanager
    def _explained(self, done: str, key: str = "") -> Iterator[None]:
        """Translate what obstore raises: no bucket, no credentials, no rights, or no connection."""
        from obstore.exceptions import BaseError

        place = f"{self.url}/{key}" if key else self.url
        with translated(f"{place} cannot be {done}", place=place):
            try:
                yield
            except (BaseError, FileNotFoundError) as error:
                raise self._meaning(error, f"{place} cannot be {done}") from error

    def _meaning(self, error: Exception, what: str) -> RfError:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        said, needed = _reason(error), _CREDENTIALS.get(self._scheme, "")
        if (system := in_text(said)) is not None and system.machine:  # of a directory: no room, no rights
            return system.kind(f"{what}: {system.reason(self.url)}; {system.remedy}")
        if _NO_BUCKET.search(str(error)):
            return NotFoundError(f"{what}: there is no bucket '{self._bucket}'; make it, or correct RF_STORE_URL")
        if _NO_CREDENTIALS.search(str(error)):
            return ConfigError(f"{what}: no usable credentials are found; set {needed}")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(str(error)):
            return ConfigError(
                f"{what}: the credentials may not do that ({said}); they need to list, read, write and delete objects of "
                f"'{self._bucket}' (servers: list and read): {needed}"
            )
        if isinstance(error, FileNotFoundError):
            return CorruptError(f"{what}: it is not there; push it again from where it was made (`rf store push`)")
        return UnavailableError(f"{what}: {said}; check RF_STORE_URL and the connection, and try again")


def _client_options() -> dict[str, Any]:
    """Return how to connect: without TLS only where the endpoint of the environment says so."""
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((os.environ[name] for name in names if os.environ.get(name)), "")
    return {**_CLIENT, **({"allow_http": True} if endpoint.startswith("http://") else {})}


def _reason(error: Exception) -> str:
    """Return the first line of an error of obstore, without the name of its class and its debugging text."""
    return first_line(Exception(_GENERIC.sub("", str(error).partition("\n\nDebug source:")[0])))
