"""A heartbeat of every process, so that none waits for one that is gone."""

import os
import sys
import threading
import time

from torch._C._distributed_c10d import Store

BEAT = 2.0
"""Seconds between heartbeats."""
SILENCE = 20.0
"""Seconds without a heartbeat after which a process counts as lost."""
GRACE = 3.0
"""Seconds that the main thread has to fail by itself, and tidily, before its process is ended."""
LOST = "lost"
HOST = "the process that hosts the rendezvous"


class Watchdog(threading.Thread):
    """Beats for its own process, and ends it when another is lost.

    A process that is killed closes its connections, which fails the collective operations of its neighbours at once. Processes
    that wait elsewhere (for rank 0 to evaluate, on a GPU, for a host that lost its power) learn of it here.
    Rank 0 watches all, the others watch rank 0 and its verdict, so that the traffic grows with the processes, not with
    their square. Only changes are looked at, never times: clocks may differ.
    """

    def __init__(self, store: Store, rank: int, size: int, hint: str = "") -> None:
        super().__init__(name="watchdog", daemon=True)
        self._store, self._rank, self._hint = store, rank, hint
        self._watched = range(1, size) if rank == 0 else range(1)
        self._over = threading.Event()
        self._answered = time.monotonic()

    def stop(self) -> None:
        """Stop watching: the process is about to leave of its own will."""
        self._over.set()
        self.join(SILENCE)

    def run(self) -> None:
        """Beat and watch until stopped."""
        threading.Thread(target=self._watch_host, name="watchdog-host", daemon=True).start()
        beats = 0
        heard = dict.fromkeys(self._watched, (b"", time.monotonic()))
        while not self._over.wait(BEAT):
            beats += 1
            self._answered = time.monotonic()
            try:
                self._store.set(str(self._rank), str(beats))
                lost = self._look(heard)
            except RuntimeError:
                lost = HOST
            if lost and not self._over.is_set():
                self._end(lost)
                return

    def _watch_host(self) -> None:
        """Notice that the rendezvous does not answer, neither well nor with an error: a host without power keeps silent."""
        while not self._over.wait(BEAT):
            if time.monotonic() - self._answered > SILENCE + BEAT:
                self._end(HOST)
                return

    def _look(self, heard: dict[int, tuple[bytes, float]]) -> str | None:
        """Return the lost process, or None."""
        if self._rank != 0 and self._store.check([LOST]):
            return str(self._store.get(LOST), "utf-8")
        now = time.monotonic()
        for rank, (last, since) in heard.items():
            beat = self._store.get(str(rank)) if self._store.check([str(rank)]) else b""
            if beat != last:
                heard[rank] = (beat, now)
            elif now - since > SILENCE:
                lost = f"process {rank}"
                if self._rank == 0:
                    self._store.set(LOST, lost)
                return lost
        return None

    def _end(self, lost: str) -> None:
        if self._over.wait(GRACE):
            return
        sys.stderr.write(
            f"error: {lost} has not answered for {SILENCE:.0f} s and counts as lost; process {self._rank} ends. {self._hint}\n"
        )
        sys.stderr.flush()
        os._exit(1)
