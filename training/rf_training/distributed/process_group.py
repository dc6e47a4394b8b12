"""Processes that train one model together: their messages, and a heartbeat of each, so that none waits for one that is gone.

Shapes: P rows of one process, N rows of all, D width.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import HashStore, PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from rf_platform.errors import ConfigError, RfError, RunError
from rf_platform.interrupts import end_with_parent
from rf_training.loading.batches import Share

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


SIGNS = {
    "Connection closed": "connection closed",
    "Connection reset": "connection reset",
    "Connection refused": "connection refused",
    "Broken pipe": "broken pipe",
    "Socket closed": "socket closed",
    "imed out": "no answer in time",
    "NCCL": "NCCL error",
}


def lost_peer(error: BaseException) -> str | None:
    """Return in some words how a collective operation failed because another process is gone or does not answer; else None.

    Gloo raises plain errors with the words of the operating system, so that these are all there is to go by.
    """
    found = next((words for sign, words in SIGNS.items() if sign in str(error)), None)
    return found or (type(error).__name__ if isinstance(error, dist.DistError) else None)


T = TypeVar("T")

TIMEOUT = timedelta(minutes=10)
"""Longest that a process waits for the others in a collective operation."""
FAREWELL = 10.0
"""Seconds that the host of the rendezvous waits for the others to leave."""
POLL = 0.05
LAUNCHED = "WORLD_SIZE"
"""Environment variable that `torchrun` and `rf train --nproc` set."""


class World:
    """One process, or several that were launched together, each with a rank from 0 to ``size`` - 1.

    Rank 0 is the *main* process: it alone writes to the registry and the console, evaluates, and saves.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size
        self._store: Store | None = None
        self._watchdog: Watchdog | None = None
        self._told = 0
        self.broken = False
        """Whether others are known to be lost or interrupted: none is waited for in parting."""

    @classmethod
    def launched(cls) -> bool:
        """Whether this process is one of several, started by `torchrun` or `rf train --nproc`."""
        return int(os.environ.get(LAUNCHED, "1")) > 1

    @classmethod
    def join(cls, hint: str = "") -> "World":
        """Meet the other processes, by the environment that `torchrun` sets; a world of one where there is none.

        Gloo connects CPUs, NCCL GPUs. From here on a process that is lost ends the others.

        Args:
            hint: what a person should do when a process is lost, told with the message.

        Raises:
            RunError: the others did not come.
        """
        if not cls.launched():
            return cls()
        env = {name: os.environ.get(name, "") for name in ("RANK", LAUNCHED, "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
        if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]:
            raise ConfigError(
                f"{LAUNCHED}={env[LAUNCHED]} says that this is one of several processes, and {', '.join(missing)} is not set; "
                f"start them with `torchrun` or `rf train --nproc`, or unset {LAUNCHED}"
            )
        rank, size = int(env["RANK"]), int(env[LAUNCHED])
        world = cls(rank, size, int(env["LOCAL_RANK"] or 0), int(env["LOCAL_WORLD_SIZE"] or 1))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        if torch.cuda.is_available():
            torch.cuda.set_device(world.local_rank % torch.cuda.device_count())
        try:
            store = next(iter(rendezvous("env://", timeout=TIMEOUT)))[0]
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        except (RuntimeError, ValueError) as error:
            raise RunError(
                f"process {rank} of {size} could not meet the others at {os.environ['MASTER_ADDR']}:"
                f"{os.environ['MASTER_PORT']} ({error}); check that all were started, and that this address is reachable"
            ) from error
        world._store = PrefixStore("rf/", store)
        world._watchdog = Watchdog(PrefixStore("rf/beat/", store.clone()), rank, size, hint)
        world._watchdog.start()
        end_with_parent()
        return world

    @property
    def main(self) -> bool:
        """Whether this is rank 0."""
        return self.rank == 0

    @property
    def share(self) -> Share:
        """The part of every step that this process trains on."""
        return Share(self.rank, self.size)

    def device(self, kind: str) -> torch.device:
        """Return where this process computes: ``cpu``, or for ``cuda`` the GPU with its number on the host.

        Raises:
            ConfigError: there is no such GPU.
        """
        if kind == "cpu":
            return torch.device("cpu")
        found = torch.cuda.device_count()
        if self.local_rank >= found:
            raise ConfigError(
                f"train.device=cuda: process {self.local_rank} of this host has no GPU, there are {found}; start at most as many "
                f"processes a host as it has GPUs, or train with train.device=cpu"
            )
        return torch.device("cuda", self.local_rank)

    def group(self) -> dist.ProcessGroup:
        """Return the process group; a world of one makes one of its own for what needs one."""
        if not dist.is_initialized():
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            dist.init_process_group(backend, store=HashStore(), rank=0, world_size=1)
        group = dist.group.WORLD
        assert group is not None
        return group

    def on_main(self, work: Callable[[], T]) -> T:
        """Do something on rank 0 while the others wait, however long it takes, and return the result on all.

        The result travels as JSON: None, booleans, numbers, texts, lists, and dicts of texts; nothing that arrives can be code.

        Raises:
            RfError: on rank 0, as raised.
            SystemExit: on the others, if rank 0 failed, which has said why; with its exit code.
        """
        if self.size == 1:
            return work()
        assert self._store is not None
        key, self._told = f"main/{self._told}", self._told + 1
        if self.main:
            try:
                result = work()
                told = json.dumps({"result": result})
            except BaseException as error:
                self._store.set(key, json.dumps({"code": error.exit_code if isinstance(error, RfError) else 1}))
                raise
            self._store.set(key, told)
            return result
        while not self._store.check([key]):
            time.sleep(POLL)
        found = json.loads(self._store.get(key))
        if "code" in found:
            raise SystemExit(found["code"])
        answer: T = found["result"]
        return answer

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum of the processes' tensors, without a gradient."""
        if self.size == 1:
            return value.detach()
        total = value.detach().clone()
        dist.all_reduce(total, group=self.group())
        return total

    def gather(self, part_PD: Tensor, rows: int) -> Tensor:
        """Return the rows of all processes, one process after the other; gradients go back to where a row came from.

        Args:
            part_PD: this process's :meth:`Share.rows` of them.
            rows: rows of all.
        """
        if self.size == 1:
            return part_PD
        all_ND: Tensor = _Gather.apply(part_PD, rows, self.size, self.rank)  # type: ignore[no-untyped-call]
        return all_ND

    def gather_bytes(self, own: bytes) -> list[bytes]:
        """Return the bytes of all processes, on all of them."""
        if self.size == 1:
            return [own]
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(own)]), group=self.group())
        longest = max(int(length) for length in lengths)
        padded = torch.frombuffer(bytearray(own.ljust(longest + 1, b"\0")), dtype=torch.uint8)
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded, group=self.group())
        return [part[: int(length)].numpy().tobytes() for part, length in zip(found, lengths, strict=True)]

    def gather_plain(self, value: T) -> list[T]:
        """Return the values of all processes, on all of them; plain ones, see :meth:`on_main`."""
        return [json.loads(told) for told in self.gather_bytes(json.dumps(value).encode())]

    def leave(self) -> None:
        """Part from the others, in success or failure; the host of the rendezvous goes last."""
        if self._store is None:
            return
        if self._watchdog is not None:
            self._watchdog.stop()
        with suppress(RuntimeError):  # the host of the rendezvous may be gone
            if not self.main and not self.broken:
                self._store.add("left", 1)
            deadline = time.monotonic() + (0 if self.broken else FAREWELL)
            while self.main and time.monotonic() < deadline and self._store.add("left", 0) < self.size - 1:
                time.sleep(POLL)
        self._store = None
        if dist.is_initialized() and not self.broken:
            dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """All-gather with a backward pass that sums each row's gradients of all processes, on the process it came from."""

    @staticmethod
    def forward(ctx: Any, part_PD: Tensor, rows: int, size: int, rank: int) -> Tensor:
        ctx.own, ctx.size = len(part_PD), size
        longest = -(-rows // size)
        padded_PD = torch.nn.functional.pad(part_PD, (0, 0, 0, longest - len(part_PD))).contiguous()
        all_ND = part_PD.new_empty(size * longest, part_PD.shape[1])
        dist.all_gather_single(all_ND, padded_PD)
        return all_ND[:rows]

    @staticmethod
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor | None, ...]:
        longest = -(-len(grad_ND) // ctx.size)
        padded_ND = torch.nn.functional.pad(grad_ND, (0, 0, 0, ctx.size * longest - len(grad_ND))).contiguous()
        part_PD = grad_ND.new_empty(longest, grad_ND.shape[1])
        dist.reduce_scatter_single(part_PD, padded_ND)
        return part_PD[: ctx.own], None, None, None
