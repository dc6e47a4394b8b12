"""`rf train --nproc`: several processes on one host, started and watched by one that does nothing else."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from rf_platform.errors import RunError
from rf_platform.interrupts import LIFELINE, held

GRACE = 10.0
"""Seconds that the others have to end by themselves when one has failed, before they are told to; then until they are killed."""
POLL = 0.1
_STDERR = 2


def launch(arguments: Sequence[str], processes: int, *, quiet: bool = False) -> int:
    """Run `rf` with ``arguments`` in several processes that meet on this host, until all have ended.

    When one ends in failure the others are stopped, and none outlives this process.

    Args:
        arguments: of the command.
        processes: how many.
        quiet: what they print goes to standard error, since standard output is the caller's.

    Returns:
        The exit code: 0, or that of the first process that failed by itself, which has said why.

    Raises:
        RunError: a process was killed.
    """
    port = free_port()
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(processes):
            # The stack that the store prints when its host is lost tells a user nothing.
            env = {
                "TORCH_CPP_LOG_LEVEL": "ERROR",
                **os.environ,
                **rank_environment(rank, processes, port),
                LIFELINE: "1",
            }
            command = [sys.executable, "-m", "rf_platform.cli", *arguments]
            out = _STDERR if quiet else None
            started.append(subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=out))
        first = _wait(started)
    finally:
        with held():  # a second interrupt would leave processes behind; it takes as long as they may
            _stop(started)
    if first is None:
        return 0
    code = started[first].returncode
    if code > 0:
        return code
    name = signal.Signals(-code).name
    raise RunError(
        f"process {first} of {processes} was ended by {name}{_likely(-code)}; the others were stopped. "
        f"`rf train --resume --nproc {processes}` goes on from the last complete checkpoint"
    )


def _wait(started: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait until all have ended well, or one has not and the others have had their time; return which that was."""
    first, deadline = None, 0.0
    while None in [p.poll() for p in started]:  # all are asked: any() would stop at the first that is still running
        failed = [rank for rank, p in enumerate(started) if p.returncode]
        if failed and first is None:
            # One that was killed is the cause even if another has noticed and ended meanwhile.
            first = min(failed, key=lambda rank: started[rank].returncode)
            deadline = time.monotonic() + GRACE
        if first is not None and time.monotonic() > deadline:
            return first
        time.sleep(POLL)
    failed = [rank for rank, p in enumerate(started) if p.returncode]
    return first if first is not None else min(failed, key=lambda rank: started[rank].returncode, default=None)


def _stop(started: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in started:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + GRACE
    for process in started:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


def _likely(number: int) -> str:
    return " (out of memory?)" if number == signal.SIGKILL else ""


def rank_environment(rank: int, processes: int, port: int) -> dict[str, str]:
    """Return the environment variables by which a process on this host joins the others, as torchrun sets them.

    Args:
        rank: of the process.
        processes: number of all.
        port: of the rendezvous.
    """
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    return {name: str(value) for name, value in ranks.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    """Return a port of this host that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
