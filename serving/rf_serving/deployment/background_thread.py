"""Threads that work beside the answers and must not get in their way."""

import os
import threading
from collections.abc import Callable

from rf_serving.threads import use_one_thread

NICE = 10
"""How much less urgent than the answers; measured with a swap a second, their p99 is a third of what it is without."""
_LEAST_URGENT = 19


def start_background(name: str, work: Callable[[], None]) -> threading.Thread:
    """Run ``work`` in a thread of lower priority, with one thread each for tensors and searches."""

    def run() -> None:
        step_back()
        use_one_thread()
        work()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    return thread


def step_back() -> None:
    """Lower the priority of this thread alone; where threads have none of their own (not on Linux), leave it."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        now = os.getpriority(os.PRIO_PROCESS, 0)
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(now + NICE, _LEAST_URGENT))
