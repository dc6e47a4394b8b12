"""Interrupts of a process: Ctrl-C and SIGTERM end what it does, and what it has begun is cleaned up on the way out.

A signal raises :class:`KeyboardInterrupt` in the main thread, and the first one is remembered: where a library swallows it and
raises an error of its own (DuckDB, imports of extension modules), the process ends as an interrupted one all the same.

A process that another one starts has a lifeline: its standard input, a pipe that ends with the other one, whatever ends that.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 0.01


class Terminated(KeyboardInterrupt):
    """The interrupt that SIGTERM and SIGHUP raise."""


class _State:
    received: int | None = None
    """The first signal."""
    held = 0
    """Number of open blocks that no interrupt may cut."""
    pending: int | None = None
    """The signal that came in such a block."""


_state = _State()


def received() -> int | None:
    """Return the number of the signal that has come, or None; outside of :func:`listening`, None."""
    return _state.received


def raise_if_received() -> None:
    """Raise the interrupt that has come, if a library has swallowed it and raised an error of its own in its place.

    It stands first wherever an error of any class is told, noted or passed over, and the work goes on.
    """
    if (number := _state.received) is not None and not _state.held and _in_main_thread():
        _raise(number)


@contextmanager
def listening() -> Iterator[None]:
    """Turn signals into interrupts inside the block; signals that the process was told to ignore stay ignored.

    Only the main thread can; in another one nothing changes.
    """
    if not _in_main_thread():
        yield
        return
    _state.received = _state.pending = None
    before = {number: signal.getsignal(number) for number in SIGNALS}
    owner = os.getpid()

    def handle(number: int, _: FrameType | None) -> None:
        if os.getpid() != owner:  # a fork of ours: it ends as if there were no handler
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif _state.held:
            _state.received = _state.received or number
            _state.pending = number
        else:
            _raise(number)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, handle)
    reported, sys.unraisablehook = sys.unraisablehook, _unraisable(sys.unraisablehook)
    try:
        yield
    finally:
        _state.received = _state.pending = None
        sys.unraisablehook = reported
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def held() -> Iterator[None]:
    """Defer signals inside the block to its end: for steps that belong together, such as cleaning up."""
    if not _in_main_thread():  # signals are the main thread's
        yield
        return
    _state.held += 1
    try:
        yield
    finally:
        _state.held -= 1
        if not _state.held and (number := _state.pending) is not None:
            _state.pending = None
            _raise(number)


def end_quietly() -> None:
    """From here on, at the end of a process, a signal ends it at once and without a traceback.

    Only the main thread can do that; in another one nothing changes.
    """
    if not _in_main_thread():
        return

    def handle(number: int, _: FrameType | None) -> None:
        for stream in (sys.stdout, sys.stderr):
            _flush(stream)
        os._exit(128 + number)

    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


def _unraisable(report: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return a hook that repeats an interrupt which came where nothing can be raised, such as in a destructor."""

    def hook(lost: Any) -> None:
        if isinstance(lost.exc_value, KeyboardInterrupt) and (number := _state.received) is not None:
            again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        else:
            report(lost)

    return hook


def _raise(number: int) -> None:
    _state.received = _state.received or number
    raise (KeyboardInterrupt if number == signal.SIGINT else Terminated)(signal.Signals(number).name)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _flush(stream: Any) -> None:
    try:
        stream.flush()
    except Exception:  # nothing can be done about it any more
        return


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
