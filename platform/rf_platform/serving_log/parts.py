"""Files of the serving log: written by any number of servers, each complete when it has its name.

A name has the first and the last time of its records and the hash of their FeatureSpec, so what is old, or of another spec, is
told without opening a file. Readers list the directory and read what is there; a file is never changed, but may be replaced by
one without the records of a user (:mod:`rf_platform.serving_log.forget`) or removed by retention.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rf_platform.files import new_file

_NAME = re.compile(r"served-(\d{16,})-(\d{16,})-([0-9a-f]{12})-([0-9a-f]{8})\.parquet")
_MIB, _DAY_US = 2**20, 86_400_000_000


@dataclass(frozen=True, kw_only=True, order=True)
class LogPart:
    """One file."""

    first_us: int
    """Time of its first record, in microseconds since 1970."""
    last_us: int
    spec: str
    """Beginning of the hash of the FeatureSpec."""
    path: Path
    bytes: int


class ServingParts:
    """The serving log of a workspace."""

    def __init__(self, directory: Path) -> None:
        """``directory`` is there when anything was logged."""
        self.directory = directory

    def parts(
        self, *, since_us: int | None = None, until_us: int | None = None, spec_hash: str | None = None
    ) -> list[LogPart]:
        """Return the files, oldest first.

        Args:
            since_us: only those with records of this moment or later ones, in microseconds since 1970.
            until_us: only those with records before this moment.
            spec_hash: only those of this FeatureSpec.
        """
        found = sorted(self._found())
        return [
            part
            for part in found
            if (since_us is None or part.last_us >= since_us)
            and (until_us is None or part.first_us < until_us)
            and (spec_hash is None or spec_hash.startswith(part.spec))
        ]

    def _found(self) -> Iterator[LogPart]:
        for path in self.directory.glob("served-*.parquet"):
            with suppress(FileNotFoundError):  # it was removed by another process
                if (named := _NAME.fullmatch(path.name)) is not None:
                    first, last, spec, _ = named.groups()
                    size = path.stat().st_size
                    yield LogPart(first_us=int(first), last_us=int(last), spec=spec, path=path, bytes=size)

    def add(self, records: pa.Table) -> Path:
        """Write records of one FeatureSpec, in any order, to a file of their own.

        Raises:
            RfError: the disk is full, or the directory may not be written to.
        """
        times = pc.min_max(records["time"].cast(pa.int64()))
        spec = records["spec_hash"][0].as_py()[:12]
        name = f"served-{times['min'].as_py():016d}-{times['max'].as_py():016d}-{spec}-{uuid4().hex[:8]}.parquet"
        with new_file(self.directory / name, durable=False) as file:
            # Dictionaries of numbers, statistics and more compression would take half of the time.
            pq.write_table(
                records,
                file,
                compression="lz4",
                use_dictionary=_repeating(records.schema),
                column_encoding=dict.fromkeys(_whole(records.schema), "DELTA_BINARY_PACKED"),
                write_statistics=False,
            )
        return self.directory / name

    def expired(self, *, days: float | None, megabytes: int | None, now_us: int) -> Sequence[LogPart]:
        """Return the files that retention removes: those older than some days, and the oldest beyond a size.

        Args:
            days: age of the newest record of a file up to which it stays; None: any.
            megabytes: most MiB of all files; None: any.
            now_us: the present, in microseconds since 1970.
        """
        parts = self.parts()
        oldest_us = None if days is None else now_us - int(days * _DAY_US)
        gone = [part for part in parts if oldest_us is not None and part.last_us < oldest_us]
        stay = parts[len(gone) :] if gone == parts[: len(gone)] else [part for part in parts if part not in gone]
        size = sum(part.bytes for part in stay)
        for part in stay:
            if megabytes is None or size <= megabytes * _MIB:
                break
            gone.append(part)
            size -= part.bytes
        return gone

    def remove(self, parts: Sequence[LogPart]) -> None:
        """Remove files; one that is gone already is fine."""
        for part in parts:
            part.path.unlink(missing_ok=True)


def _repeating(schema: pa.Schema) -> list[str]:
    """Return the columns of texts that repeat, as Parquet names them."""
    names = ["items.list.element.source"]
    for column in schema:
        if pa.types.is_string(column.type) and column.name not in ("request_id", "user_id", "session_id"):
            names.append(column.name)
        elif pa.types.is_list(column.type) and pa.types.is_string(column.type.value_type):
            names.append(f"{column.name}.list.element")
    return names


def _whole(schema: pa.Schema) -> list[str]:
    """Return the columns of lists of whole numbers and times, as Parquet names them."""
    lists = [column for column in schema if pa.types.is_list(column.type)]
    return [
        f"{column.name}.list.element"
        for column in lists
        if pa.types.is_integer(column.type.value_type) or pa.types.is_timestamp(column.type.value_type)
    ]
