"""Query and answer of a retrieval."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

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
from rf_serving.stage_timer import StageTimer
from rf_serving.user_features.features import KnownFeatures, UserFeatures


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
    ranked: Ranked | None = field(default=None, compare=False, repr=False)
    """Inputs, for an explanation; None for the most popular items."""
    explanations: Sequence[Explanation] = ()
    """If asked for: of the first items, as many as there was time for."""
