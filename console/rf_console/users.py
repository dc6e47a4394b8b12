"""Users as the online store has them now, and the sessions that are made of them."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from math import isnan
from pathlib import Path
from typing import Any

from rf_platform.bundle.files import SPEC
from rf_platform.errors import RfError, UnavailableError
from rf_platform.features.dtype import MISSING_INTEGER, MISSING_STRING
from rf_platform.features.spec import FeatureSpec
from rf_platform.features.store import open_store, quiet
from rf_platform.registry import BundleRecord
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import Interaction, Session
from rf_serving.user_features.features import SeenRead, UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher
from rf_serving.wire.ids import parse_id
from rf_serving.wire.json_lines import feature_value

_READ_SECONDS = 30.0
"""The first read of a process imports Feast."""


@dataclass(frozen=True)
class _Described:
    spec: FeatureSpec


@dataclass(frozen=True, kw_only=True)
class Event:
    """An interaction of a history."""

    position: int
    """0 is the oldest."""
    item: str
    at: datetime | None
    context: Mapping[str, Any]
    """Context features by full name, those that are known."""


@dataclass(frozen=True, kw_only=True)
class User:
    """What the online store has of a user."""

    id: str
    profile: Mapping[str, Any]
    """User features by full name; missing ones are None."""
    moments: Mapping[str, datetime]
    """Since when they are as they are, by view; without those that were always so."""
    events: list[Event]
    """The oldest first."""
    seen: list[str]
    """Items of the seen set."""

    @property
    def known(self) -> bool:
        """Whether the store has anything of the user."""
        return bool(self.events or self.seen or any(value is not None for value in self.profile.values()))

    def session(self, *, without: Collection[int] = (), profile: Mapping[str, Any] | None = None) -> Session:
        """Return the user as a session that a server answers alike.

        Args:
            without: positions of events that are left out.
            profile: values in the place of the user's own; None is missing.
        """
        mine = {**self.profile, **(profile or {})}
        return Session(
            history=[
                Interaction(
                    item_id=each.item,
                    timestamp_us=int(each.at.timestamp() * 1_000_000) if each.at is not None else 0,
                    context={n: feature_value(v, n) for n, v in each.context.items()},
                )
                for each in self.events
                if each.position not in without
            ],
            profile={name: feature_value(value, name) for name, value in mine.items() if not is_missing(value)},
        )


class Users:
    """Reads users, in a thread that owns the connection to the store; safe from any thread.

    Args:
        settings: of the workspace.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, "rf-users")
        self._fetcher = lru_cache(maxsize=2)(self._open)

    def read(self, record: BundleRecord, user_id: str) -> User:
        """Return a user; of an unknown one, nothing is known.

        Args:
            record: bundle that says which features there are.
            user_id: the user.

        Raises:
            UsageError: it is no id of a user.
            UnavailableError: the online store cannot be read.
        """
        try:
            return self._thread.submit(self._read, record, user_id).result(_READ_SECONDS)
        except TimeoutError as error:
            raise UnavailableError(f"the online store did not answer within {_READ_SECONDS:g} s") from error

    def warm(self, record: BundleRecord | None) -> None:
        """Import what reading needs, in the background."""
        if record is not None:
            self._thread.submit(self._fetcher, record.path)

    def close(self) -> None:
        """Close the connection."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _open(self, bundle: Path) -> tuple[FeatureSpec, FeatureFetcher]:
        spec = FeatureSpec.load(bundle / SPEC)
        with quiet():
            return spec, FeatureFetcher(open_store(self._settings), _Described(spec))

    def _read(self, record: BundleRecord, user_id: str) -> User:
        spec, fetcher = self._fetcher(record.path)
        key = parse_id(user_id, spec.user.id_type, "user")
        found = fetcher.fetch(key, seen=SeenRead.ITEMS)
        return User(
            id=user_id,
            profile=found.profile,
            moments=_moments(fetcher, key),
            events=_events(found),
            seen=[str(item) for item in (found.seen if found.seen is not None else found.items)],
        )


def _moments(fetcher: FeatureFetcher, key: int | str) -> dict[str, datetime]:
    try:
        return {view: moment for view, moment in fetcher.moments(key).items() if moment.timestamp() > 0}
    except RfError:
        return {}  # ages are a courtesy; what they are of was read


def _events(found: UserFeatures) -> list[Event]:
    return [
        Event(
            position=position,
            item=str(item),
            at=None if found.timestamps is None else datetime.fromtimestamp(int(found.timestamps[position]) / 1e6, UTC),
            context={n: column[position] for n, column in found.context.items() if not is_missing(column[position])},
        )
        for position, item in enumerate(found.items)
    ]


def is_missing(value: Any) -> bool:
    """Say whether a value of a feature is missing, or marked so inside a history."""
    nan = isinstance(value, float) and isnan(value)
    return value is None or nan or value in ([], MISSING_STRING, MISSING_INTEGER)
