"""Query and answer of a retrieval."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rf_platform.policies import SeenRule
from rf_protos.v1.explanation_pb2 import Explanation
from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import (
    DEGRADED_REASON_UNSPECIFIED,
    RERANK_NONE,
    RERANK_UNSPECIFIED,
    DegradedReason,
    Rerank,
    SearchPlan,
    Session,
)
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.policies import CompiledPlacement, Ruled
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import KnownFeatures, SeenRead, UserFeatures


@dataclass(frozen=True, kw_only=True)
class Query:
    """A request that was checked."""

    subject: int | str | Session
    """A user's id in the catalog's type, or a session."""
    k: int
    exclude_seen: bool
    filter: Filter | None = None
    """Filter of the items to return; None means all."""
    rerank: "Rerank" = RERANK_UNSPECIFIED
    """Order of the items found; unspecified: the deployment's default."""
    history: bool = True
    """Whether the answer says what it was made from."""
    explain: bool = False
    """Whether to say why each item has its score."""
    goals: Mapping[str, float] = field(default_factory=dict)
    """Weights by goal, a type of event; empty for those of the model."""
    placement: str = ""
    """Placement of the policy; empty: its default one, if it has any."""
    candidates: tuple[int | str, ...] = ()
    """The caller's own list, best first."""
    category: str = ""
    """Value of the feature that lists are made by; empty: all items."""
    interleave: bool = False
    """Whether a challenger and the served bundle may fill the list in turns."""
    seen: tuple[SeenRule, ...] = ()
    """Rules for what the user has seen, in place of the placement's; empty: as the placement says, else ``exclude_seen``."""

    logged: bool = False
    """Whether the answer goes into the serving log: then the times of the features are read as well."""

    def seen_rules(self, rules: CompiledPlacement | None) -> tuple[SeenRule, ...] | None:
        """Return the rules for what the user has seen; None: ``exclude_seen`` decides.

        Args:
            rules: of the placement; None: there are none.
        """
        return self.seen or (None if rules is None else rules.placement.seen)

    def seen_read(self, rules: CompiledPlacement | None = None) -> SeenRead:
        """Return what of the user's seen set is needed."""
        asked = self.seen_rules(rules)
        if asked is None:
            return SeenRead.ITEMS if self.exclude_seen else SeenRead.NOTHING
        return SeenRead.EVENTS if asked else SeenRead.NOTHING


@dataclass(eq=False, kw_only=True)
class RankRequest:
    """A query on its way through an engine."""

    query: Query
    watch: StageTimer
    features: UserFeatures | None
    """Features of the user; None until they were read, and for a session: the engine reads its features and puts them here."""
    order: "Rerank" = RERANK_UNSPECIFIED
    """Order of the items, if there is a history, as :meth:`Engine.order_of` decides; unspecified until it was decided."""
    degraded: "DegradedReason" = DEGRADED_REASON_UNSPECIFIED
    """Whether, and why, the user's features could not be read."""
    rules: CompiledPlacement | None = None
    """Rules that the answer follows, in the terms of the bundle that answers; None: none."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ranked:
    """Inputs of an answer, for its explanation.

    Shapes: K items of the answer.
    """

    known: KnownFeatures
    catalog: CatalogSnapshot
    """The snapshot that was searched; rows mean nothing in another one."""
    rows_K: npt.NDArray[np.int64]
    """Best first."""
    rerank: "Rerank"
    """Order of the items."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Answer of one bundle, with item ids: nothing of it has to be looked up afterwards."""

    bundle: str
    """Name of the bundle that answered."""
    spec_hash: str
    items: list[str]
    """Ids, best first."""
    scores: list[float]
    history: list[str]
    """Ids of the items in the history, oldest first; empty if not asked for."""
    cold: bool
    plan: SearchPlan
    sequence: int
    """Last change of the catalog that was taken into account."""
    seconds: dict[str, float]
    """By stage, in order."""
    begins: dict[str, float]
    """Start of each stage, by :func:`time.perf_counter`."""
    degraded: "DegradedReason" = DEGRADED_REASON_UNSPECIFIED
    """Whether, and why, the user's features could not be read, or are not what they were."""
    rerank: "Rerank" = RERANK_NONE
    """Order of the items."""
    ruled: Ruled | None = None
    """Items as the rules of a placement chose them; None: there are no rules."""
    placement: str = ""
    """Placement with the rules; empty: none."""
    policy_version: int = 0
    teams: Sequence[str] = ()
    """Bundle of each item, where two filled the list in turns; else empty."""
    ranked: Ranked | None = field(default=None, compare=False, repr=False)
    """Inputs, for an explanation; None for the most popular items."""
    unknown: Sequence[str] = ()
    """Items of the session's history that the catalog does not have."""
    features: UserFeatures | None = field(default=None, compare=False, repr=False)
    """Features as they were read, for the serving log; None: they could not be."""
    explanations: Sequence[Explanation] = ()
    """If asked for: of the first items, as many as there was time for."""


def subject_key(subject: int | str | Session) -> bytes:
    """Return the identity of a subject; a session without an id has that of its first interaction, or its profile."""
    if not isinstance(subject, Session):
        return str(subject).encode()
    if subject.session_id:
        return b"session:" + subject.session_id.encode()
    first = subject.history[0] if subject.history else subject
    return b"session:" + first.SerializeToString(deterministic=True)
