"""What is asked and what is answered."""

from dataclasses import dataclass

from rf_protos.v1.filter_pb2 import Filter
from rf_protos.v1.retrieval_pb2 import SearchPlan, Session
from rf_serving.retrieval.features import UserFeatures
from rf_serving.retrieval.stopwatch import Stopwatch


@dataclass(frozen=True, kw_only=True)
class Query:
    """A request that was checked."""

    subject: int | str | Session
    """A user's id in the catalog's type, or a session."""
    k: int
    exclude_seen: bool
    filter: Filter | None = None
    """Which items may be returned; None means all."""


@dataclass(eq=False, kw_only=True)
class Ask:
    """A query on its way through an engine."""

    query: Query
    watch: Stopwatch
    features: UserFeatures | None
    """What is known of the user; None for a session, whose own features the engine reads and puts here."""
    degraded: bool = False
    """The user's features could not be read."""

    def __post_init__(self) -> None:
        """Remember whose features these are."""
        self.session = self.query.subject if self.features is None else None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one bundle found, written with its own ids: nothing of it has to be looked up afterwards."""

    bundle: str
    """Name of the bundle that answered."""
    spec_hash: str
    items: list[str]
    """Ids, best first."""
    scores: list[float]
    history: list[str]
    """Ids of the items in the history, oldest first."""
    cold: bool
    plan: SearchPlan
    sequence: int
    """Last change of the catalog that was taken into account."""
    seconds: dict[str, float]
    """By stage, in order."""
    begins: dict[str, float]
    """When each stage began, by :func:`time.perf_counter`."""
    degraded: bool = False
    """The user's features could not be read."""
