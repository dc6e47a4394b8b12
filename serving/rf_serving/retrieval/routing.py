"""Routing of requests to bundles: A/B buckets.

A routing never changes: another bundle takes over when the retriever gets another routing. A request reads the retriever's
routing once, so its answer is made by one bundle; a bundle that no routing names is freed when its last request has ended.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, Self

from rf_protos.v1.retrieval_pb2 import Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query
from rf_serving.user_features.features import UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True, eq=False, kw_only=True)
class Route:
    """One bundle, with the reader of the features that it was made for."""

    engine: Engine
    fetcher: FeatureFetcher

    @classmethod
    def of(cls, bundle: ServedBundle, store: "FeatureStore") -> Self:
        """Return the route of a bundle with its catalog as it was built."""
        return cls(engine=Engine(bundle), fetcher=FeatureFetcher(store, bundle))


class Observer(Protocol):
    """Sees what the active bundle answered."""

    def offer(self, query: Query, features: UserFeatures, answer: Answer) -> None:
        """Receive an answer; returns at once and never fails."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Routing:
    """The bundles that requests are shared out to."""

    active: Route
    challenger: Route | None = None
    """Takes :attr:`percent` of the users."""
    percent: float = 0.0
    salt: str = ""
    """Of the split: another salt is another choice of users."""
    shadow: Observer | None = None

    @property
    def routes(self) -> tuple[Route, ...]:
        """All bundles with answers that are returned."""
        return (self.active,) if self.challenger is None else (self.active, self.challenger)

    def route_of(self, query: Query) -> Route:
        """Return the bundle of a subject: the same one as long as the split lasts; a growing share only adds users."""
        if self.challenger is None or bucket(self.salt, subject_key(query.subject)) >= self.percent:
            return self.active
        return self.challenger

    def answered(self, route: Route, query: Query, features: UserFeatures, answer: Answer) -> None:
        """Show the shadow what the active bundle answered."""
        if self.shadow is not None and route is self.active:
            self.shadow.offer(query, features, answer)


def subject_key(subject: int | str | Session) -> bytes:
    """Return the identity of a subject; a session without an id has that of its first interaction, or its profile."""
    if not isinstance(subject, Session):
        return str(subject).encode()
    if subject.session_id:
        return b"session:" + subject.session_id.encode()
    first = subject.history[0] if subject.history else subject
    return b"session:" + first.SerializeToString(deterministic=True)


def bucket(salt: str, key: bytes) -> float:
    """Return the A/B bucket of a key, from 0 to 100: uniform, and the same in every process and for ever."""
    digest = blake2b(key, digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest) / 2**64 * 100
