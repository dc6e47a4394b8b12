"""Re-ranking policy: the order that a request asks for, or else the deployment's default."""

from dataclasses import dataclass
from typing import Literal

from rf_platform.errors import UnsupportedError
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RERANK_EXACT, RERANK_LIME, RERANK_NONE, RERANK_UNSPECIFIED, Rerank

Default = Literal["auto", "none", "exact", "lime"]
_ORDERS: dict[str, "Rerank"] = {"none": RERANK_NONE, "exact": RERANK_EXACT, "lime": RERANK_LIME}


@dataclass(frozen=True, kw_only=True)
class RerankPolicy:
    """The second stage of a deployment."""

    default: Default = "auto"
    """For requests that do not say: ``none``, ``exact``, ``lime``, or ``auto``, which is ``lime``; where the bundle has no
    re-ranker, the last two are ``none``."""
    candidates: int = 1000
    """Items that are found to be re-ranked; as many as are asked for, if that is more."""

    @classmethod
    def of(cls, settings: Settings) -> "RerankPolicy":
        """Return what ``RF_RERANK`` and ``RF_RERANK_CANDIDATES`` say."""
        return cls(default=settings.rerank, candidates=settings.rerank_candidates)

    def order(self, asked: "Rerank", bundle: str, *, reranker: bool) -> "Rerank":
        """Return what orders the items of one request.

        Args:
            asked: what the request says.
            bundle: what answers it.
            reranker: whether this bundle has a re-ranker.

        Raises:
            UnsupportedError: the request asks for a re-ranker, and the bundle has none.
        """
        if asked == RERANK_UNSPECIFIED:
            by_default = _ORDERS.get(self.default, RERANK_LIME)
            return by_default if by_default != RERANK_LIME or reranker else RERANK_NONE
        if asked == RERANK_LIME and not reranker:
            raise UnsupportedError(
                f"rerank: bundle '{bundle}' has no re-ranker; leave it to the deployment, ask for RERANK_EXACT or RERANK_NONE, "
                f"or build a bundle of a run that has one (`rf rerank train`, `rf index build`)"
            )
        return asked


def order_named(name: str | None) -> "Rerank":
    """Return an order by the name that commands have for it: ``none``, ``exact`` or ``lime``; None: as the deployment says."""
    return RERANK_UNSPECIFIED if name is None else _ORDERS[name]


def name_of(order: "Rerank") -> str:
    """Return the name that commands and logs have for an order; a server that knows none has that of its search."""
    return next((name for name, value in _ORDERS.items() if value == order), "none")
