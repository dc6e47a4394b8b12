"""A bundle in this process: recommendations without a server, and the vectors behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rf_platform.bundle import verify
from rf_platform.bundle.signature import check_signature
from rf_platform.errors import DataError, UsageError
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import Interaction, Session
from rf_serving.batch.vectors import write_item_vectors
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query
from rf_serving.search.written import predicate_of
from rf_serving.stage_timer import StageTimer, unobserved
from rf_serving.user_features.session import SessionReader
from rf_serving.wire.json_lines import feature_value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Event:
    """An interaction of a history."""

    item: int | str
    """Id of the item."""
    time: datetime | None = None
    """Moment of the interaction, with a time zone; all events of a history have one, ascending, or none has."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Context features by full name, ``view__field``: a text, a number or a list each."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """An item of an answer."""

    item: int | str
    """Id of the item."""
    score: float
    """Dot product of the query's vector and the item's."""
    features: Mapping[str, Any]
    """Features and display fields of the item by full name, such as its title."""


class Bundle:
    """Both towers, index and catalog of one version, ready to answer in this process; safe from several threads at once.

    It knows the items that the bundle was built with: changes of a live catalog, and users' stored features, are a server's.
    """

    def __init__(self, served: ServedBundle) -> None:
        """Take a bundle that was opened; see :func:`load_bundle`."""
        self._served, self._engine = served, Engine(served)
        self._sessions = SessionReader(served)

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self._served.name

    @property
    def item_ids(self) -> Sequence[int | str]:
        """Ids of the items, in the order of :attr:`item_vectors`."""
        return self._served.item_ids

    @property
    def item_vectors(self) -> npt.NDArray[np.float32]:
        """Vectors that are searched [items, width], memory-mapped; their dot product with a query's vector is the score."""
        return self._served.vectors_ND

    def recommend(
        self,
        history: Sequence[int | str | Event] = (),
        *,
        k: int = 10,
        profile: Mapping[str, Any] | None = None,
        exclude_seen: bool = True,
        where: Sequence[str] = (),
        strict: bool = False,
    ) -> list[Recommendation]:
        """Return the best items for a history, best first.

        Args:
            history: ids or events, oldest first; the model reads the latest ones. Empty for a visitor of whom nothing is known.
            k: how many items.
            profile: user features by full name, ``view__field``.
            exclude_seen: leave out the items of the history.
            where: conditions that items have to meet, as `rf query --where` takes them, such as ``kind=tea`` or ``price<20``.
            strict: refuse items that the bundle does not have; else they are left out of the history.

        Raises:
            UsageError: a field is wrong; the message begins with its path, such as ``session.history[3].item_id``.
        """
        if k < 1:
            raise UsageError(f"k={k} must be at least 1")
        conditions = Filter(where=[predicate_of(each, "where") for each in where]) if where else None
        session = _session(history, profile or {}, strict)
        query = Query(subject=session, k=k, exclude_seen=exclude_seen, filter=conditions, history=False)
        answer = self._engine.rank(None, query, StageTimer(unobserved))
        catalog = self._engine.catalog.snapshot
        whole = self._served.spec.item.id_type == "int64"
        ids: list[int | str] = [int(text) if whole else text for text in answer.items]
        features = catalog.values(catalog.rows_of(ids))
        return [
            Recommendation(item=item, score=score, features=dict(values))
            for item, score, values in zip(ids, answer.scores, features, strict=True)
        ]

    def user_vectors(
        self, histories: Sequence[Sequence[int | str | Event]], profiles: Sequence[Mapping[str, Any]] | None = None
    ) -> npt.NDArray[np.float32]:
        """Return the vectors to search with, one for each history [histories, width].

        Args:
            histories: as :meth:`recommend` takes them.
            profiles: user features of each; default: none.

        Raises:
            UsageError: a field is wrong.
            DataError: the features give no usable vector.
        """
        catalog = self._engine.catalog.snapshot
        given = [{}] * len(histories) if profiles is None else profiles
        sessions = [_session(history, profile, False) for history, profile in zip(histories, given, strict=True)]
        encoded = self._engine.encode([self._sessions.read(each, catalog).known(catalog) for each in sessions])
        if wrong := next((each for each in encoded if isinstance(each, DataError)), None):
            raise wrong
        return np.stack([each for each in encoded if not isinstance(each, DataError)])

    def export_item_vectors(self, path: str | Path) -> int:
        """Write all items to a Parquet file, with their join key and ``vector``; returns how many."""
        return write_item_vectors(self._engine, Path(path))


def load_bundle(path: str | Path, *, signed_by: str | Path | None = None) -> Bundle:
    """Open a bundle in this process, with its checksums verified.

    Args:
        path: directory of the bundle, ``bundles/NAME`` in a workspace, or a copy of it anywhere.
        signed_by: file of public keys (PEM), one of which has to have signed it; default: it need not be signed.

    Raises:
        NotFoundError: there is no bundle.
        CorruptError: a file of it is damaged.
        UntrustedError: it has to be signed, and is not.
        ConfigError: this version cannot read it, or a part of your own that its model has cannot be imported.
    """
    directory = Path(path).resolve()
    if signed_by is not None:
        check_signature(directory, Path(signed_by))
    verify(directory)
    return Bundle(ServedBundle.open(directory))


def _session(history: Sequence[int | str | Event], profile: Mapping[str, Any], strict: bool) -> Session:
    events = [each if isinstance(each, Event) else Event(item=each) for each in history]
    return Session(
        history=[
            Interaction(
                item_id=str(each.item),
                timestamp_us=_microseconds(each.time, place),
                context={name: feature_value(value, f"context {name}") for name, value in each.context.items()},
            )
            for place, each in enumerate(events)
        ],
        profile={name: feature_value(value, f"profile {name}") for name, value in profile.items()},
        strict=strict,
    )


def _microseconds(time: datetime | None, place: int) -> int:
    if time is None:
        return 0
    if time.tzinfo is None:
        raise UsageError(f"history[{place}].time: {time!r} has no time zone; give one, such as datetime.UTC")
    return (time - _EPOCH) // timedelta(microseconds=1)
