"""What processes use: CPU seconds, memory and files of a server with its workers."""

from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Usage:
    """Of a process and all its descendants."""

    cpu_seconds: float
    """User and system time since they started."""
    resident_bytes: int
    """Resident memory; pages that processes share count once for each."""
    proportional_bytes: int
    """Resident memory with shared pages divided among those who share them (PSS)."""
    open_files: int
    """File descriptors, sockets among them."""


def usage(pid: int) -> Usage:
    """Return what a process and its descendants have used."""
    root = psutil.Process(pid)
    cpu, resident, proportional, files = 0.0, 0, 0, 0
    for process in [root, *root.children(recursive=True)]:
        try:
            times, memory, opened = process.cpu_times(), process.memory_full_info(), process.num_fds()
        except psutil.NoSuchProcess:
            continue
        cpu += times.user + times.system
        resident += memory.rss
        proportional += memory.pss
        files += opened
    return Usage(cpu, resident, proportional, files)
