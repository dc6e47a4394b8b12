"""The answers of a batch, as a Parquet file that is there when it is whole."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.errors import RfError
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.vocabulary import arrow_type
from rf_platform.files import new_file
from rf_serving.retrieval.query import Answer

_ROW_GROUP = 16_384


class AnswerFile:
    """Writes one row a user: the id, items and scores best first, what the answer was made from, or why there is none."""

    def __init__(self, writer: pq.ParquetWriter, spec: FeatureSpec) -> None:
        self._writer, self._schema = writer, answer_schema(spec)
        self._parse = int if spec.item.id_type == "int64" else str
        self._waiting: list[pa.RecordBatch] = []
        self._rows = 0

    @classmethod
    @contextmanager
    def create(cls, path: Path, spec: FeatureSpec, made_from: Mapping[str, str]) -> Iterator[Self]:
        """Write beside ``path`` and rename when the block ends; after an error, nothing is left.

        Args:
            path: the file; one that is there is replaced as a whole.
            spec: types of ids.
            made_from: bundle and options, kept as metadata of the file.
        """
        schema = answer_schema(spec).with_metadata({f"rf.{name}": text for name, text in made_from.items()})
        with new_file(path) as part, pq.ParquetWriter(part, schema, compression="zstd") as writer:
            file = cls(writer, spec)
            yield file
            file._flush()

    def add(self, users: Sequence[int | str], answers: Sequence[Answer | RfError]) -> None:
        """Write the answers of some users."""
        given = [None if isinstance(answer, RfError) else answer for answer in answers]
        columns = [
            users,
            [[] if answer is None else [self._parse(item) for item in answer.items] for answer in given],
            [[] if answer is None else answer.scores for answer in given],
            [None if answer is None else answer.cold for answer in given],
            [str(answer) if isinstance(answer, RfError) else None for answer in answers],
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._waiting.append(pa.record_batch(arrays, schema=self._schema))
        self._rows += len(users)
        if self._rows >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._writer.write_table(pa.Table.from_batches(self._waiting).combine_chunks(), row_group_size=_ROW_GROUP)
        self._waiting, self._rows = [], 0


def answer_schema(spec: FeatureSpec) -> pa.Schema:
    """Return the columns of the file."""
    return pa.schema(
        [
            (spec.user.join_key, arrow_type(spec.user.id_type)),
            ("items", pa.list_(arrow_type(spec.item.id_type))),
            ("scores", pa.list_(pa.float32())),
            ("cold", pa.bool_()),
            ("error", pa.string()),
        ]
    )
