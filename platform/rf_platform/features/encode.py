"""Raw feature values to model inputs: one code path for training, index building, upserts and online requests.

Categorical values, single or multiple, become jagged ids; numbers are standardised; dense vectors pass through, and texts become
some by a sentence encoder. A missing value
is an empty row (ids) or NaN (numbers and vectors), so the model masks it instead of reading a zero (R1, R2).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rf_platform.errors import DataError
from rf_platform.failures import reading
from rf_platform.features.columns import ArrowColumn, Column
from rf_platform.features.dtype import MISSING_INTEGER
from rf_platform.features.jagged import EncodedTable, Jagged
from rf_platform.features.semantic_ids import SemanticIds, as_feature
from rf_platform.features.spec import ITEM_ID_DOMAIN, FeatureSpec, FieldSpec
from rf_platform.features.vocabulary import PADDING_ID, Vocabulary
from rf_platform.texts.feature import TextFeature, load_texts, save_texts

BOUND = 20.0
"""Most deviations from the mean that a number counts for: one value cannot drown all other features, or overflow."""
VECTOR_BOUND = 1e6
"""Largest magnitude that an element of a dense vector counts with, which is taken as it is otherwise."""
_MICROSECONDS = 1e6


@dataclass(frozen=True)
class NumericStats:
    """Mean and standard deviation over the training split; 0 and 1 for a feature that is never present."""

    mean: float
    std: float
    reach: float | None = None
    """If outliers were left out of both: their largest distance from the mean, in deviations. The largest float where all
    values are equal or there are none: then no number is unusual."""

    def deviations(self, value: float) -> float:
        """Return how many standard deviations a number lies above the mean."""
        return (value - self.mean) / self.std

    def standardise(self, values: np.ndarray) -> np.ndarray:
        """Return float32 deviations from the mean, within :data:`BOUND`; what is not finite is missing, NaN."""
        low, high = self.mean - BOUND * self.std, self.mean + BOUND * self.std
        finite = np.where(np.isfinite(values), values, np.nan).astype(np.float64)
        bounded = np.minimum(np.maximum(finite, low), high)
        standardised: np.ndarray = ((bounded - self.mean) / self.std).astype(np.float32)
        return standardised


def bounded_vectors(vectors: np.ndarray) -> np.ndarray:
    """Bound the elements of vectors [rows, width] by :data:`VECTOR_BOUND`; one with a number that is not finite is missing."""
    finite = np.isfinite(vectors)
    bounded: np.ndarray = np.minimum(np.maximum(vectors, -VECTOR_BOUND), VECTOR_BOUND)
    bounded[~finite.all(axis=1)] = np.nan
    return bounded


@dataclass(frozen=True, eq=False)
class FeatureEncoder:
    """Everything learned from the training split that encoding needs; saved with the dataset and with every bundle."""

    spec: FeatureSpec
    vocabularies: Mapping[str, Vocabulary]
    """By domain; always holds the domain of the item id."""
    numeric: Mapping[str, NumericStats]
    """By full feature name."""
    widths: Mapping[str, int]
    """Width of each dense vector, those of texts included, by full feature name."""
    texts: Mapping[str, TextFeature] = field(default_factory=dict)
    """Sentence encoder and whitening of each text, by full feature name."""
    semantic: SemanticIds | None = None
    """Codebooks of the items' semantic ids; None where the spec asks for none."""

    def encode(self, table: pa.Table, fields: Iterable[FieldSpec]) -> EncodedTable:
        """Encode the columns of ``table`` named by ``fields`` (full names); a column that is not there counts as missing.

        Raises:
            DataError: a value has a type or a vector a width that the feature does not have.
            ConfigError: the sentence encoder of a text is not here.
        """
        encoded = EncodedTable(rows=table.num_rows)
        for f in fields:
            self.encode_column(f, ArrowColumn.of(table, f, self.spec), encoded)
        return encoded

    def encode_column(self, f: FieldSpec, column: Column, into: EncodedTable) -> None:
        """Encode one feature's column and add it to the model inputs of its rows.

        Raises:
            DataError: a vector has a width that the feature does not have.
        """
        match f.kind:
            case "categorical":
                into.ids[f.name] = self._single(f, column)
            case "multi":
                into.ids[f.name] = self._multiple(f, column)
            case "vector":
                into.vectors[f.name] = self._vector(f, column)
            case "text":
                into.vectors[f.name] = self.texts[f.name].vectors(column.texts())
            case "numeric" | "timestamp":
                into.numbers[f.name] = self._number(f, column)

    def encode_items(self, table: pa.Table) -> EncodedTable:
        """Encode item rows: their features, their semantic ids, and their id as one more feature named ``item_id``."""
        encoded = self.encode(table, self.spec.inputs("item"))
        if self.semantic is not None:
            prefixes = self.semantic.prefixes(encoded)
            for domain, prefix_N in zip(self.spec.semantic_domains, prefixes, strict=True):
                ids = self.vocabularies[domain.name].encode(pa.array(prefix_N))
                encoded.ids[domain.name] = as_feature(ids, prefix_N)
        ids = self.vocabularies[ITEM_ID_DOMAIN].encode(table[self.spec.item.join_key].combine_chunks())
        encoded.ids[ITEM_ID_DOMAIN] = Jagged(ids, np.ones(len(ids), np.int32))
        return encoded

    def encode_context(self, table: pa.Table, timestamps: np.ndarray, first: np.ndarray) -> EncodedTable:
        """Encode interactions, one row each, for the user tower (R6).

        Args:
            table: context columns by full name.
            timestamps: int64 [rows], microseconds.
            first: bool [rows], True where a user's history starts.
        """
        fields = self.spec.inputs("context")
        encoded = self.encode(table, (f for f in fields if f.kind != "timestamp"))
        encoded.numbers.update({f.name: time_gaps(timestamps, first) for f in fields if f.kind == "timestamp"})
        return encoded

    def _single(self, f: FieldSpec, column: Column) -> Jagged:
        assert f.domain is not None
        ids = column.ids(self.vocabularies[f.domain])
        if ids.all():  # none is the padding's, 0
            return Jagged(ids, np.ones(len(ids), np.int32))
        present = ids != PADDING_ID
        return Jagged(ids[present], present.astype(np.int32))

    def _multiple(self, f: FieldSpec, column: Column) -> Jagged:
        assert f.domain is not None
        elements, lengths = column.lists()
        ids = elements.ids(self.vocabularies[f.domain])
        present = ids != PADDING_ID
        if present.all():
            return Jagged(ids, lengths)
        row = np.repeat(np.arange(len(lengths)), lengths)
        return Jagged(ids[present], np.bincount(row[present], minlength=len(lengths)).astype(np.int32))

    def _number(self, f: FieldSpec, column: Column) -> npt.NDArray[np.float32]:
        numbers = column.numbers(np.float64)
        if f.kind == "timestamp":
            numbers = numbers / _MICROSECONDS
        elif f.role == "history" and f.type.is_integer:
            numbers = np.where(numbers == MISSING_INTEGER, np.nan, numbers)
        return self.numeric[f.name].standardise(numbers)

    def _vector(self, f: FieldSpec, column: Column) -> npt.NDArray[np.float32]:
        width = self.widths[f.name]
        elements, lengths = column.lists()
        present = lengths > 0
        if (wrong := lengths[present] != width).any():
            raise DataError(
                f"{f.view}.{f.field} has a vector of {lengths[present][wrong][0]} numbers; the model was trained with {width}"
            )
        matrix = np.full((len(lengths), width), np.nan, np.float32)
        if present.any():
            matrix[present] = elements.numbers(np.float32).reshape(-1, width)
        return bounded_vectors(matrix)

    @cached_property
    def hash(self) -> str:
        """SHA-256, in hex, over the id maps and statistics: encoders of equal hash give equal inputs."""
        digest = hashlib.sha256()
        for name in sorted(self.vocabularies):
            vocabulary = self.vocabularies[name]
            digest.update(f"{name} {vocabulary.domain.value_type} {vocabulary.domain.policy}".encode())
            # Arrow's stream form depends on the values alone, not on how their buffers are cut.
            sink = pa.BufferOutputStream()
            values = pa.table({"value": pa.concat_arrays([vocabulary.values])})
            with pa.ipc.new_stream(sink, values.schema) as writer:
                writer.write_table(values, max_chunksize=100_000)
            digest.update(sink.getvalue())
        digest.update(self._statistics().encode())
        for _, text in sorted(self.texts.items()):
            digest.update(text.whitening.mean_W.tobytes() + text.whitening.matrix_WD.tobytes())
        for part in self.semantic.parts if self.semantic is not None else ():
            digest.update(part)
        return digest.hexdigest()

    def _statistics(self) -> str:
        # What is None is left out: encoders from before it existed keep their hash.
        numeric = {k: {n: x for n, x in asdict(v).items() if x is not None} for k, v in self.numeric.items()}
        learned: dict[str, Any] = {"numeric": numeric, "widths": dict(self.widths)}
        if self.texts:
            learned["texts"] = {name: text.described for name, text in self.texts.items()}
        return json.dumps(learned, indent=2, sort_keys=True) + "\n"

    def save(self, directory: Path) -> None:
        """Write vocabularies and statistics into ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, vocabulary in self.vocabularies.items():
            vocabulary.save(directory / f"{name}.parquet")
        (directory / "numeric.json").write_text(self._statistics())
        save_texts(self.texts, directory)
        if self.semantic is not None:
            self.semantic.save(directory)

    @classmethod
    def load(cls, spec: FeatureSpec, directory: Path) -> "FeatureEncoder":
        """Read what :meth:`save` wrote.

        Raises:
            CorruptError: a file is missing or damaged.
        """
        with reading(directory, "restore it, or build again what it belongs to"):
            numeric = json.loads((directory / "numeric.json").read_text())
            return cls(
                spec=spec,
                vocabularies={
                    d.name: Vocabulary.load(d, directory / f"{d.name}.parquet") for d in spec.embedding_domains
                },
                numeric={k: NumericStats(**v) for k, v in numeric["numeric"].items()},
                widths=numeric["widths"],
                texts=load_texts(numeric.get("texts", {}), directory),
                semantic=None if spec.semantic is None else SemanticIds.load(directory, spec.semantic.levels),
            )


def time_gaps(timestamps: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return how long after the previous interaction each one happened: ln(1 + seconds) / 10, NaN for a user's first one.

    Args:
        timestamps: int64 [rows], microseconds, ascending within a user.
        first: bool [rows], True where a user's history starts.
    """
    # For a request's fifty interactions, np.diff and clip would take longer than all else.
    seconds = np.zeros(len(timestamps))
    np.subtract(timestamps[1:], timestamps[:-1], out=seconds[1:])
    gaps = np.log1p(np.maximum(seconds, 0) / 1e6) / 10
    gaps[first] = np.nan
    return gaps.astype(np.float32)
