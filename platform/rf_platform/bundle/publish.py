"""Atomic publication of a bundle: readers see all of it or nothing, also after the builder is killed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rf_platform.bundle.manifest import MANIFEST
from rf_platform.bundle.name import check_name
from rf_platform.errors import UsageError
from rf_platform.staging import staged

_STAGING = ".building-"


@contextmanager
def publish(target: Path) -> Iterator[Path]:
    """Give an empty directory to build a bundle in, which becomes ``target`` when the block ends without an error.

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
