"""Notes of a run in its directory: lines of JSON, such as ``history.jsonl``, and curves for TensorBoard."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from rf_platform.failures import reading, writing

_REMEDY = "restore the file, or delete it: the run itself does not need it"


def add_note(path: Path, values: Mapping[str, Any]) -> None:
    """Add a line to a file of notes, which is made if need be; the part of a line that a full disk has left goes away."""
    with writing(path), path.open("ab+") as file:
        file.seek(0)
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        file.seek(0, os.SEEK_END)
        file.write(json.dumps(values).encode() + b"\n")


def read_notes(path: Path) -> list[dict[str, Any]]:
    """Read a file of notes; none where there is no file. A last line without an end was not written to its end, and is left out.

    Raises:
        CorruptError: a line is no JSON object.
    """
    if not path.exists():
        return []
    with reading(path, _REMEDY):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        notes = [json.loads(line) for line in lines if line.endswith("\n")]
        if any(not isinstance(note, dict) for note in notes):
            raise ValueError("a line is no JSON object")
        return notes


FLUSH_SECONDS = 30.0
"""Largest age of values not yet in the file."""


class Board:
    """Writes scalars by step, in the order they are given, in the thread that gives them.

    A failure of the disk is raised where it happens; the writer that tensorboard has meets it in a thread, with a traceback.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self._records = path, file, RecordWriter(file)
        self._flushed = time.monotonic()

    @classmethod
    @contextmanager
    def open(cls, directory: Path, first_step: int) -> Iterator[Self]:
        """Open a new events file in a directory, which is made if need be.

        Args:
            directory: of the files; those of earlier sittings stay.
            first_step: what earlier files have from this step on is void: it was not in the checkpoint this sitting goes on from.

        Raises:
            RfError: the file cannot be written.
        """
        now = time.time()
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            path = directory / f"events.out.tfevents.{now:.6f}.rf"
            file = path.open("xb")
        try:
            board = cls(path, file)
            board._write(Event(wall_time=now, file_version="brain.Event:2"))
            board._write(Event(wall_time=now, step=first_step, session_log=SessionLog(status=SessionLog.START)))
            yield board
            board.flush()
        finally:
            with suppress(OSError):  # it was raised when it happened
                file.close()

    def add(self, prefix: str, values: Mapping[str, float], step: int) -> None:
        """Note values under ``prefix/name``."""
        scalars = [Summary.Value(tag=f"{prefix}/{name}", simple_value=value) for name, value in values.items()]
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))

    def flush(self) -> None:
        """Write out buffered values, so that TensorBoard shows them."""
        with writing(self._path):
            self._file.flush()
        self._flushed = time.monotonic()

    def _write(self, event: Event) -> None:
        with writing(self._path):
            self._records.write(event.SerializeToString())
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()
