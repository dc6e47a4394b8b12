"""Replace the imported tables as a whole: written beside them, then renamed; a failure leaves the earlier ones as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rf_platform.locks import locked
from rf_platform.staging import staged

_MARK = ".importing-"


@contextmanager
def replacing(tables: Path) -> Iterator[Path]:
    """Yield an empty directory that takes the place of ``tables`` when the block ends without an error.

    Raises:
        UnavailableError: another process is replacing or reading them.
    """
    tables.parent.mkdir(parents=True, exist_ok=True)
    with (
        locked(tables.parent, f"another command writes or reads the tables of {tables.parent}"),
        staged(tables, _MARK, replace=True) as fresh,
    ):
        yield fresh


@contextmanager
def reading_tables(tables: Path) -> Iterator[None]:
    """Keep the tables as they are while the block runs; others may read them, too.

    Raises:
        UnavailableError: another process is replacing them.
    """
    with locked(tables.parent, f"another command imports into {tables.parent}", shared=True):
        yield
