"""Run ``rf serve`` as a process of its own, for demonstrations and tests."""

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self

from rf_platform.errors import RunError
from rf_platform.interrupts import LIFELINE

_COMMAND = "from rf_platform.cli import main; main()"
_KEPT_LINES = 200


class BackgroundServer:
    """A server process on a free port; leaving the block drains and ends it, and so does the end of this process.

    Args:
        home: the workspace.
        arguments: further arguments of ``rf serve``.
        environment: variables on top of this process's own.
        start_seconds: how long the server may take to load.
    """

    def __init__(
        self,
        home: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        start_seconds: float = 120.0,
    ) -> None:
        self._command = [sys.executable, "-c", _COMMAND, "--home", str(home), "serve", "--port", "0", *arguments]
        self._environment = {**os.environ, **(environment or {}), LIFELINE: "1"}
        self._start_seconds = start_seconds
        self._events: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self.output: deque[str] = deque(maxlen=_KEPT_LINES)
        """The latest lines the server wrote."""
        self.serving: dict[str, Any] = {}
        """The server's start message: address, bundle, items, load_seconds."""

    @property
    def address(self) -> str:
        """Address of the server, ``host:port``."""
        return str(self.serving["address"])

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.serving = self._wait_until_serving()
        except BaseException:
            self.process.kill()
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self, seconds: float = 30.0) -> int:
        """Send SIGTERM, wait for the drain and return the exit code; kill the server after ``seconds``."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
        return self._end()

    def _end(self) -> int:
        code = self.process.wait()
        self._reader.join()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        return code

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output.append(line.rstrip("\n"))
            if '"event": "serving"' in line:
                self._events.put(json.loads(line))
        self._events.put(None)

    def _wait_until_serving(self) -> dict[str, Any]:
        try:
            serving = self._events.get(timeout=self._start_seconds)
        except Empty:
            serving = None
        if serving is None:
            said = "\n".join(list(self.output)[-10:]) or "it wrote nothing"
            raise RunError(f"the server did not start within {self._start_seconds:g} s:\n{said}")
        return serving
