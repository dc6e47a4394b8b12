"""Resources that processes use: CPU time, waiting for a CPU, memory and files of a server with its workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import psutil

PROC = Path("/proc")


@dataclass(frozen=True)
class Scheduling:
    """Time on CPUs and in their queues so far, of a process with its descendants, and the machine's pressure."""

    cpu_seconds: float
    wait_seconds: float | None
    """Ready to run but waiting for a CPU; None where the system does not tell."""
    pressure_seconds: float | None
    """During which something on the whole machine waited for a CPU."""
    moment: float

    @classmethod
    def of(cls, pid: int) -> "Scheduling":
        """Read ``schedstat`` of every thread that lives, or the clock's ticks where there is none, and ``pressure/cpu``."""
        processes = list(_family(pid))
        threads = [path for each in processes for path in PROC.glob(f"{each.pid}/task/*/schedstat")]
        numbers = [[int(word) for word in _text(path).split()[:2]] for path in threads]
        found = [pair for pair in numbers if len(pair) == 2]
        pressure = _text(PROC / "pressure" / "cpu").partition("\n")[0].partition("total=")[2]
        ticks = 0.0 if found else sum(_ticks(each) for each in processes)
        return cls(
            cpu_seconds=sum(cpu for cpu, _ in found) / 1e9 if found else ticks,
            wait_seconds=sum(wait for _, wait in found) / 1e9 if found else None,
            pressure_seconds=int(pressure) / 1e6 if pressure else None,
            moment=monotonic(),
        )


@dataclass(frozen=True)
class Usage:
    """Memory and files of a process and all its descendants."""

    proportional_bytes: int
    """Resident memory with shared pages divided among the processes that share them (PSS)."""
    open_files: int
    """File descriptors, sockets among them."""

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """Read what is used now."""
        proportional, files = 0, 0
        for process in _family(pid):
            try:
                memory, opened = process.memory_full_info(), process.num_fds()
            except psutil.NoSuchProcess:
                continue
            proportional += memory.pss
            files += opened
        return cls(proportional, files)


def _family(pid: int) -> Iterator[psutil.Process]:
    root = psutil.Process(pid)
    yield root
    yield from root.children(recursive=True)


def _ticks(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the thread has ended, or the system does not tell
        return ""
