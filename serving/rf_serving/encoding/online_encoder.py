"""From plain feature values of some requests to model inputs.

Gives what :class:`rf_platform.features.encode.FeatureEncoder` gives, which training and index building use, without a table of
Arrow columns for each request: values are looked up in dictionaries, all requests of a batch together.

Shapes: B requests, T interactions of a request, V interactions of all requests.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from rf_platform.features.encode import (
    EncodedTable,
    FeatureEncoder,
    Jagged,
    bounded_vectors,
    time_gaps,
    without_markers,
)
from rf_platform.features.field_rule import UnfitError, rules_of
from rf_platform.features.spec import MISSING_INTEGER, MISSING_STRING, FieldSpec
from rf_platform.features.vocabulary import FIRST_ID, PADDING_ID, UNKNOWN_ID, Vocabulary, arrow_type
from rf_serving.user_features.features import KnownFeatures

_MICROSECONDS = 1e6
Ids = Callable[[Sequence[Any]], npt.NDArray[np.int64]]
"""Ids of values: 0 for one that is missing, 1 for one that is not known."""


class OnlineEncoder:
    """Encodes the user and context features of requests."""

    def __init__(self, encoder: FeatureEncoder, max_history: int) -> None:
        """Build the dictionaries of all domains that users and interactions have.

        Args:
            encoder: what was learned from the training split.
            max_history: how many of the latest interactions of a request are read.
        """
        self._encoder, self._max_history = encoder, max_history
        spec = encoder.spec
        self._user, context = spec.inputs("user"), spec.inputs("context")
        self._gaps = [f.name for f in context if f.kind == "timestamp"]
        self._context = [f for f in context if f.kind != "timestamp"]
        domains = {f.domain for f in (*self._user, *self._context) if f.domain is not None}
        self._ids = {domain: ids_of(encoder.vocabularies[domain]) for domain in domains}
        self._rules = rules_of((*self._user, *self._context), encoder.widths, encoder.numeric)
        self._said: set[str] = set()

    def lengths(self, requests: Sequence[KnownFeatures]) -> npt.NDArray[np.int64]:
        """Return how many interactions of each request are read [B]."""
        return np.array([min(len(request.rows), self._max_history) for request in requests], np.int64)

    def profiles(self, requests: Sequence[KnownFeatures]) -> EncodedTable:
        """Encode the profiles, one row a request; a value that its feature cannot have is missing."""
        columns = {f.name: [request.profile.get(f.name) for request in requests] for f in self._user}
        return self._encode(len(requests), self._user, columns)

    def interactions(self, requests: Sequence[KnownFeatures]) -> EncodedTable:
        """Encode the interactions that are read, one row each, one request after the other, as :meth:`profiles` does."""
        counts = self.lengths(requests)
        rows, lengths = int(counts.sum()), counts.tolist()
        columns = {f.name: list(chain.from_iterable(_latest(f, requests, lengths))) for f in self._context}
        encoded = self._encode(rows, self._context, columns)
        if self._gaps:
            gaps = self._time_gaps(requests, counts)
            encoded.numbers.update(dict.fromkeys(self._gaps, gaps))
        return encoded

    def _time_gaps(self, requests: Sequence[KnownFeatures], counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        times, first = np.zeros(int(counts.sum()), np.int64), np.zeros(int(counts.sum()), np.bool_)
        stop = 0
        for request, count in zip(requests, counts.tolist(), strict=True):
            start, stop = stop, stop + count
            if not count:
                continue
            if request.timestamps is None:
                # Every gap is unknown.
                first[start:stop] = True
            else:
                first[start] = True
                times[start:stop] = request.timestamps[-count:]
        return time_gaps(times, first)

    def _encode(self, rows: int, fields: Iterable[FieldSpec], columns: Mapping[str, list[Any]]) -> EncodedTable:
        encoded = EncodedTable(rows=rows)
        for f in fields:
            values = columns[f.name]
            try:
                self._add(encoded, f, values)
            except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
                # Requests were checked. A store may hold what another definition, or another program, wrote.
                self._say(f, error)
                self._add(encoded, f, [self._fitting(f, value) for value in values])
        return encoded

    def _add(self, encoded: EncodedTable, f: FieldSpec, values: list[Any]) -> None:
        if f.kind == "categorical":
            encoded.ids[f.name] = self._single(f, values)
        elif f.kind == "multi":
            encoded.ids[f.name] = self._multiple(f, values)
        elif f.kind == "vector":
            encoded.vectors[f.name] = self._vector(f, values)
        else:
            encoded.numbers[f.name] = self._number(f, values)

    def _fitting(self, f: FieldSpec, value: Any) -> Any:
        """Return a value, or None for one that its feature cannot have."""
        try:
            return self._rules[f.name].of(value)
        except UnfitError:
            return None

    def _say(self, f: FieldSpec, error: Exception) -> None:
        if f.name not in self._said:  # one line for each feature: every request of such a user comes here
            self._said.add(f.name)
            structlog.get_logger("rf_serving").warning(
                "stored values do not fit",
                feature=f.name,
                expected=f.dtype,
                error=str(error),
                remedy="they count as missing; load them again with `rf features materialize`",
            )

    def _single(self, f: FieldSpec, values: list[Any]) -> Jagged:
        assert f.domain is not None
        ids = self._ids[f.domain](values)
        present = ids != PADDING_ID
        return Jagged(ids if present.all() else ids[present], present.astype(np.int32))

    def _multiple(self, f: FieldSpec, values: list[Any]) -> Jagged:
        assert f.domain is not None
        bags = [value or () for value in values]
        lengths = np.fromiter(map(len, bags), np.int32, len(bags))
        ids = self._ids[f.domain](list(chain.from_iterable(bags)))
        present = ids != PADDING_ID
        if not present.all():
            row = np.repeat(np.arange(len(lengths)), lengths)
            lengths = np.bincount(row[present], minlength=len(lengths)).astype(np.int32)
        return Jagged(ids[present], lengths)

    def _number(self, f: FieldSpec, values: list[Any]) -> npt.NDArray[np.float32]:
        # None becomes NaN.
        numbers = np.array(values, np.float64)
        if f.kind == "timestamp":
            numbers /= _MICROSECONDS
        elif f.role == "history" and "Int" in f.dtype:
            numbers[numbers == MISSING_INTEGER] = np.nan
        return self._encoder.numeric[f.name].standardise(numbers)

    def _vector(self, f: FieldSpec, values: list[Any]) -> npt.NDArray[np.float32]:
        width = self._encoder.widths[f.name]
        matrix = np.full((len(values), width), np.nan, np.float32)
        for row, value in enumerate(values):
            if value is None or not len(value):
                continue
            if len(value) != width:
                raise ValueError(f"a vector has {len(value)} numbers; the model was trained with {width}")
            matrix[row] = value
        return bounded_vectors(matrix)


def ids_of(vocabulary: Vocabulary) -> Ids:
    """Return the function from values to ids of a domain."""
    domain = vocabulary.domain
    if domain.buckets is not None:
        expected = arrow_type(domain.value_type)
        return lambda values: vocabulary.encode(without_markers(pa.array(values, expected)))
    known: dict[Any, int] = {value: FIRST_ID + n for n, value in enumerate(vocabulary.values.to_pylist())}
    marker = MISSING_STRING if domain.value_type == "string" else MISSING_INTEGER
    known[None] = known[marker] = PADDING_ID
    find = known.get
    return lambda values: np.array([find(value, UNKNOWN_ID) for value in values], np.int64)


def _latest(f: FieldSpec, requests: Sequence[KnownFeatures], lengths: list[int]) -> Iterable[Sequence[Any]]:
    for request, length in zip(requests, lengths, strict=True):
        column = request.context.get(f.name)
        if column is None:
            yield [None] * length
        else:
            yield column[len(column) - length :]
