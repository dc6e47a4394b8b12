"""Failures of libraries and of the system as errors of the platform: the one table that commands and servers use.

Exceptions go in, an :class:`~rf_platform.errors.RfError` with what failed, why and the remedy comes out, or nothing where the
exception is a bug and should keep its traceback. Libraries are told by the names of their classes: none is imported here.
"""

from rf_platform.failures.failure import Failure
from rf_platform.failures.system import first_line, summary
from rf_platform.failures.table import failure_of
from rf_platform.failures.translate import as_rf_error, origin, read_json, reading, translated, writing

__all__ = [
    "Failure",
    "as_rf_error",
    "failure_of",
    "first_line",
    "origin",
    "read_json",
    "reading",
    "summary",
    "translated",
    "writing",
]
