"""Users of a batch: all, or those of a file."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from zlib import crc32

import duckdb

from rf_platform.data.event_log import seal
from rf_platform.data.event_log.parts import USER
from rf_platform.errors import NotFoundError, UsageError
from rf_platform.failures import reading
from rf_platform.features.read import FeatureDefinitions
from rf_platform.features.spec import IdType
from rf_platform.features.view_rows import ID_TYPES
from rf_platform.settings import Settings
from rf_platform.sql import identifier, pattern_literal
from rf_serving.wire.ids import parse_id

_READ_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class Users:
    """The ids of users, read some at a time."""

    count: int
    """Number of them."""
    chunks: Iterator[list[int | str]]
    """The ids, in order."""


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of the users, by a hash of the id: the same part whenever and wherever it is asked for."""

    number: int
    """From 0."""
    of: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``i/n``, such as ``0/8``.

        Raises:
            UsageError: it is something else.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        if found is None or int(found[1]) >= int(found[2]):
            raise UsageError(
                f"--shard={text} is no part; write NUMBER/COUNT with numbers from 0, such as 0/8 up to 7/8"
            )
        return cls(int(found[1]), int(found[2]))

    def take(self, users: Users) -> Users:
        """Return the users of this part; their number is an estimate."""
        return Users(-(-users.count // self.of), (part for chunk in users.chunks if (part := self._of(chunk))))

    def _of(self, ids: list[int | str]) -> list[int | str]:
        return [each for each in ids if crc32(str(each).encode()) % self.of == self.number]


@contextmanager
def all_users(settings: Settings, definitions: FeatureDefinitions, at_once: int) -> Iterator[Users]:
    """Yield every known user, by rising id: those in the sources of user features and histories, and
    those with events recorded since.

    Args:
        settings: the workspace.
        definitions: where the sources lie.
        at_once: ids of a chunk.

    Raises:
        NotFoundError: the workspace has no users.
    """
    spec = definitions.spec
    kind = ID_TYPES[spec.user.id_type]
    interactions = settings.workspace.tables / "interactions.parquet"
    # The history is written by `rf features materialize`: before that there is none.
    sources = [s for s in definitions.sources if s.side != "item" and ("://" in s.path or glob(s.path))]
    parts = [(identifier(source.join_key), f"read_parquet({pattern_literal(source.path)})") for source in sources]
    if spec.meanings and interactions.exists():  # else every user of the log has a history
        parts.append((identifier(spec.user.join_key), f"read_parquet({pattern_literal(interactions)})"))
    with ExitStack() as ending, duckdb.connect() as db:
        files = ending.enter_context(seal(settings).reading())
        if files:
            parts.append((USER, f"read_parquet([{', '.join(map(pattern_literal, files))}], union_by_name = true)"))
        if not parts:
            raise NotFoundError(
                f"no users are known in {settings.workspace.root}; run `rf data import`, or give --users FILE"
            )
        union = " UNION ".join(f"SELECT CAST({key} AS {kind}) AS id FROM {relation}" for key, relation in parts)
        yield _chunked(db, f"SELECT id FROM ({union}) WHERE id IS NOT NULL ORDER BY id", at_once)


@contextmanager
def users_of_file(
    path: Path, join_key: str, id_type: IdType, at_once: int, *, option: str = "--users"
) -> Iterator[Users]:
    """Yield the users of a file, in its order: a column of a Parquet file, or a text with an id on every line.

    Raises:
        UsageError: the file cannot be read, or holds something that is no id.
    """
    if not path.is_file():
        raise UsageError(f"{option} {path} is no file; name a text file with one user id a line")
    if path.suffix == ".parquet":
        with duckdb.connect() as db:
            relation = f"read_parquet({pattern_literal(path)})"
            try:
                columns = [row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()]
            except duckdb.Error as error:
                raise UsageError(f"{option} {path} cannot be read: {str(error).splitlines()[0]}") from error
            if join_key not in columns:
                raise UsageError(f"{option} {path} has no column {join_key}; it has {', '.join(columns)}")
            kind = ID_TYPES[id_type]
            try:
                column = identifier(join_key)
                query = f"SELECT CAST({column} AS {kind}) FROM {relation} WHERE {column} IS NOT NULL"
                yield _chunked(db, query, at_once)
            except duckdb.ConversionException as error:
                raise UsageError(
                    f"{option} {path}: {join_key} holds values that are no {id_type} ids: {error}"
                ) from error
        return
    with reading(f"{option} {path}", kind=UsageError), path.open(encoding="utf-8") as lines:
        count = sum(1 for line in lines if line.strip())
    yield Users(count, _lines(path, id_type, at_once, option))


def _chunked(db: duckdb.DuckDBPyConnection, query: str, at_once: int) -> Users:
    row = db.execute(f"SELECT count(*) FROM ({query})").fetchone()
    assert row is not None
    return Users(row[0], _read(db, query, at_once))


def _read(db: duckdb.DuckDBPyConnection, query: str, at_once: int) -> Iterator[list[int | str]]:
    for batch in db.execute(query).to_arrow_reader(_READ_ROWS):
        for start in range(0, batch.num_rows, at_once):
            yield batch.column(0).slice(start, at_once).to_pylist()


def _lines(path: Path, id_type: IdType, at_once: int, option: str) -> Iterator[list[int | str]]:
    chunk: list[int | str] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not (text := line.strip()):
                continue
            chunk.append(parse_id(text, id_type, f"{option} {path}, line {number}"))
            if len(chunk) == at_once:
                yield chunk
                chunk = []
    if chunk:
        yield chunk
