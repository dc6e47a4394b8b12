"""Starts a process that changes a catalog, kills it, and again: ``journal_killing.py URL LOG DELAY...``.

A delay counts the seconds from the process's first acknowledged change, or, of every fourth process, from its start.

What the process was told is recorded goes to the log, one JSON line each; the log belongs to the operating system once it is
written, so no kill takes it back.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from threading import Thread
from typing import NoReturn

from rf_platform.registry.group_commit import GroupCommit
from rf_platform.registry.journal import CatalogJournal, Change

ITEMS, THREADS, MOST = 40, 3, 6


def write(commits: GroupCommit, log: int, name: str) -> NoReturn:
    """Change random items for ever; a batch's name and size are in its features."""
    chance = random.Random(name)
    batch = 0
    while True:
        batch += 1
        items = chance.sample(range(ITEMS), chance.randint(1, MOST))
        changes = [
            Change(
                item_id=f"item {item}",
                features=None if chance.random() < 0.2 else json.dumps([f"{name}/{batch}", len(items)]),
            )
            for item in items
        ]
        recorded = commits.submit(changes).result()
        lines = [
            json.dumps([found.sequence, change.item_id, change.features]) + "\n"
            for change, found in zip(changes, recorded, strict=True)
        ]
        os.write(log, "".join(lines).encode())


def run(url: str, log: Path, name: str) -> NoReturn:
    """Write from several threads until somebody kills this process."""
    commits = GroupCommit(CatalogJournal.open(url))
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for thread in range(1, THREADS):
        Thread(target=write, args=(commits, file, f"{name}.{thread}")).start()
    write(commits, file, f"{name}.0")


def main() -> None:
    """Start and kill."""
    url, path, *delays = sys.argv[1:]
    log = Path(path)
    log.touch()
    CatalogJournal.open(url).close()  # imports all that the children need
    for number, delay in enumerate(delays):
        size = log.stat().st_size
        child = os.fork()
        if not child:
            run(url, log, str(number))
        while number % 4 and log.stat().st_size == size:
            time.sleep(0.001)
        time.sleep(float(delay))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, f"the process ended by itself: {status}"


if __name__ == "__main__":
    main()
