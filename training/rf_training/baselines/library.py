"""Baselines of other projects: imported only when asked for, refused clearly where they are not installed.

Their sequence models read only items that they were trained on, under ids of their own.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import numpy.typing as npt

from rf_platform.errors import ConfigError
from rf_training.evaluation.sequences import Jagged


@contextmanager
def optional_library(baseline: str) -> Iterator[None]:
    """Block of imports from the ``bench`` extra.

    Raises:
        ConfigError: If one is not installed.
    """
    try:
        with quiet():
            yield
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"baseline '{baseline}' needs the Python package '{error.name}' of the extra 'bench', which is not installed: "
            "run `make install-bench`, or leave the baseline out of --baselines"
        ) from error


def library_version(package: str) -> str:
    """Return the installed version of a package, or ``-``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "-"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back what the libraries say about each other's versions and about how they train, which no user can act on."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", module=r"(cornac|pydantic|pytorch_lightning|rectools|torchmetrics|torch\.jit)"
        )
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


class IdSequences:
    """The items with training events, numbered from ``first`` on; all other items are unknown to a model of ids alone."""

    def __init__(self, item_rows: npt.NDArray[np.int64], *, n_items: int, first: int) -> None:
        """``item_rows``: ``[n_known]`` item rows in the order of the model's ids; ``first``: id of the first one."""
        self.item_rows = item_rows
        self.first = first
        self._id_of_row = np.full(n_items, -1, dtype=np.int64)
        self._id_of_row[item_rows] = first + np.arange(len(item_rows))

    def encode(self, histories: Jagged) -> Jagged:
        """Model ids of the known items of each history, in the same order."""
        ids = self._id_of_row[histories.values]
        known = ids >= 0
        ends = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(known)])
        return Jagged(ids[known].astype(np.int32), ends[histories.offsets])

    def whole_catalog(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """``[B, n_known]`` scores by id to ``[B, n_items]`` by item row; ``-inf`` for unknown items."""
        catalog = np.full((len(scores), len(self._id_of_row)), -np.inf, dtype=np.float32)
        catalog[:, self.item_rows] = scores
        return catalog


def right_aligned(rows: Jagged, *, length: int) -> npt.NDArray[np.int64]:
    """``[B, length]``: the last ``length`` values of each row at the right, 0 before them."""
    last = rows.last(length)
    matrix = np.zeros((len(last), length), dtype=np.int64)
    columns = np.arange(len(last.values)) - np.repeat(last.offsets[1:], last.lengths) + length
    matrix[last.row_of_value, columns] = last.values
    return matrix
