"""Routing of requests to bundles: A/B buckets.

A routing never changes: another bundle takes over when the retriever gets another routing. A request reads the retriever's
routing once, so its answer is made by one bundle; a bundle that no routing names is freed when its last request has ended.
"""

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Protocol, Self

from rf_serving.bundle.served import ServedBundle
from rf_serving.policies import CompiledPlacement, CompiledPolicy
from rf_serving.policies.compiled import unknown_placement
from rf_serving.retrieval.candidate_sources import check_sources
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Answer, Query, subject_key
from rf_serving.user_features.features import UserFeatures
from rf_serving.user_features.fetcher import FeatureFetcher

if TYPE_CHECKING:
    from feast import FeatureStore


@dataclass(frozen=True, eq=False, kw_only=True)
class Route:
    """One bundle, with the reader of the features that it was made for."""

    engine: Engine
    fetcher: FeatureFetcher
    policy: CompiledPolicy | None = None
    """Policy in the terms of the bundle; None: there is none."""

    def rules_of(self, query: Query) -> CompiledPlacement | None:
        """Return the rules that a query's answer follows; None: there are none.

        Raises:
            UsageError: there is no such placement, or it has no use for what the query brings.
        """
        rules = self.rules_named(query.placement) if self.policy is None else self.policy.placement(query.placement)
        check_sources(rules, query)
        return rules

    def rules_named(self, placement: str) -> CompiledPlacement | None:
        """Return the rules of a placement; None where none is named.

        Raises:
            UsageError: there is no such placement.
        """
        if not placement:
            return None
        if self.policy is None:
            raise unknown_placement(placement, {})
        return self.policy.placement(placement)

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


def bucket(salt: str, key: bytes) -> float:
    """Return the A/B bucket of a key, from 0 to 100: uniform, and the same in every process and for ever."""
    digest = blake2b(key, digest_size=8, key=salt.encode()[:64]).digest()
    return int.from_bytes(digest) / 2**64 * 100
