"""Stage "encode": from features to query vectors.

Shapes: B requests, V interactions of all requests, D width.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import structlog

from rf_platform.errors import DataError, UnsupportedError
from rf_platform.features.columns import PlainColumn
from rf_platform.features.encode import FeatureEncoder, time_gaps
from rf_platform.features.field_rule import UnfitError, rules_of
from rf_platform.features.jagged import EncodedTable
from rf_platform.features.spec import FieldSpec
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.user_features.features import KnownFeatures
from rf_training.model.served import Goals, ServedTower

_UNFIT = (DataError, TypeError, ValueError, OverflowError, pa.ArrowException)


class OnlineEncoder:
    """Encoder of the user and context features of requests; safe from any thread."""

    def __init__(self, encoder: FeatureEncoder, max_history: int) -> None:
        """Build the dictionaries of all domains that users and interactions have.

        Args:
            encoder: what was learned from the training split.
            max_history: how many of the latest interactions of a request are read.
        """
        self._encoder, self._max_history = encoder, max_history
        self._user, context = encoder.spec.inputs("user"), encoder.spec.inputs("context")
        self._gaps = [f.name for f in context if f.kind == "timestamp"]
        self._context = [f for f in context if f.kind != "timestamp"]
        self._rules = rules_of((*self._user, *self._context), encoder.widths, encoder.numeric)
        self._said: set[str] = set()
        # Of no request: what values are looked up in is made at the first use, for which no request is to wait.
        self.profiles([])
        self.interactions([])

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
                self._encoder.encode_column(f, PlainColumn(values), encoded)
            except _UNFIT as error:
                # Requests were checked. A store may hold what another definition, or another program, wrote.
                self._say(f, error)
                self._encoder.encode_column(f, PlainColumn([self._fitting(f, value) for value in values]), encoded)
        return encoded

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


def _latest(f: FieldSpec, requests: Sequence[KnownFeatures], lengths: list[int]) -> Iterable[Sequence[Any]]:
    for request, length in zip(requests, lengths, strict=True):
        column = request.context.get(f.name)
        if column is None:
            yield [None] * length
        else:
            yield column[len(column) - length :]


class EncodedUser(NamedTuple):
    """Encoding of one request; T interactions."""

    query_D: npt.NDArray[np.float32]
    """The vector to search with."""
    tokens_TD: npt.NDArray[np.float32]
    """The tokens of its latest ``max_history`` interactions, oldest first."""
    user_D: npt.NDArray[np.float32]
    """The user tower's output, not normalised."""


class UserEncoder:
    """The user tower behind the encoding that training used, for any number of requests at once; safe from any thread."""

    def __init__(self, bundle: ServedBundle) -> None:
        self._history = bundle.model.config.max_history
        self._goals = bundle.model.goals
        self._encoder, self._tower = (
            OnlineEncoder(bundle.encoder, self._history),
            ServedTower(bundle.model, bundle.spec),
        )

    def goals_of(self, asked: Mapping[str, float]) -> npt.NDArray[np.float32] | None:
        """Return the weights over the model's goals that a request asks for by name; None if it names none.

        Raises:
            UsageError: a goal is not known, or its weight is none.
            UnsupportedError: the model has no goals.
        """
        if not asked:
            return None
        if self._goals is None:
            raise UnsupportedError(
                "goals: the model of this bundle has none; leave them out, or train one with model.goals=true"
            )
        weights: npt.NDArray[np.float32] = self._goals.weights(asked).numpy()
        return weights

    def encode_users(
        self, requests: Sequence[KnownFeatures], catalog: CatalogSnapshot
    ) -> list[EncodedUser | DataError]:
        """Encode each request; only the latest ``max_history`` interactions are read.

        A request with a vector that is not finite has its error instead; the others are answered.
        """
        if not requests:
            return []
        length_B = self._encoder.lengths(requests)
        encoded = self._tower(*self._inputs(requests, length_B, catalog))
        found: list[EncodedUser | DataError] = []
        begin = 0
        finite_B = np.isfinite(encoded.queries_BD.sum(axis=1))
        for n, end in enumerate(length_B.cumsum().tolist()):
            user = EncodedUser(encoded.queries_BD[n], encoded.tokens_VD[begin:end], encoded.users_BD[n])
            found.append(user if finite_B[n] else DataError("the features give no usable query vector"))
            begin = end
        return found

    def queries(self, requests: Sequence[KnownFeatures], catalog: CatalogSnapshot) -> npt.NDArray[np.float32]:
        """Return the vectors to search with [B, D], which may have numbers that are not finite."""
        if not requests:
            return np.empty((0, 1), np.float32)
        length_B = self._encoder.lengths(requests)
        return self._tower.queries(*self._inputs(requests, length_B, catalog))

    def _inputs(
        self, requests: Sequence[KnownFeatures], length_B: npt.NDArray[np.int64], catalog: CatalogSnapshot
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], EncodedTable, EncodedTable, Goals]:
        users, context = self._encoder.profiles(requests), self._encoder.interactions(requests)
        latest = [request.rows[-self._history :] for request in requests]
        rows_V = latest[0] if len(latest) == 1 else np.concatenate(latest)
        return catalog.tokens(rows_V), length_B, users, context, [request.goals for request in requests]
