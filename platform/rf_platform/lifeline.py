"""Lifeline of a process that another one starts: its standard input, a pipe that ends with the other one, whatever ends that."""

import os
import threading

LIFELINE = "RF_LIFELINE"
"""Environment variable that tells a process that its standard input is one."""


def end_with_parent() -> None:
    """From here on, end this process when the one that started it with a lifeline is gone: killed, it could not stop this one."""
    if os.environ.pop(LIFELINE, None):
        threading.Thread(target=_watch, name="lifeline", daemon=True).start()


def _watch() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
