"""The ``rf`` command: a table of lazily imported commands.

``rf --help`` imports none of them, so it stays fast and free of torch, and the layers hold: this package names commands of
the training and serving layers as text only.
"""

from rf_platform.cli.entry import main

__all__ = ["main"]
