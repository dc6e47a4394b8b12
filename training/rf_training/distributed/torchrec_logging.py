"""TorchRec's notices about itself, which no user of ours can act on, kept from the console."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LOGGERS = ("torchrec", "torch.fx._symbolic_trace")


@contextmanager
def quiet_torchrec() -> Iterator[None]:
    """Drop deprecation notices and remarks on topologies while TorchRec plans, shards or tells its state; errors come through."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
