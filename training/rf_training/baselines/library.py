"""Baselines of other projects: imported only when asked for, refused clearly where they are not installed."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

from rf_platform.errors import ConfigError


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
