"""Rule of evidence: an item's vector moves from what it was built as towards what its users say, by the number of these.

The model stays frozen. The first users of an item had the unit query vectors x just before they took it; the item's vector v is
the unit vector that maximises

    sum(x . v) / t  -  n * log(mean over q of exp(q . v / t) / Z(q))  -  w * (1 - v . p) / t

with the model's temperature t, n users, queries q of a population of users, and the normaliser Z(q) of a query over the trained
items. The first two parts are the log-likelihood of the users under the softmax that the model was trained with, the item's own
bias at its best. The last is a von Mises-Fisher prior around the vector p that the item was built with, and weighs as much as w
users: :attr:`FoldIn.prior` for one that training never met, with a p of content alone, and one more for every training event.
So an item of no event is where its content puts it, one of five thousand stays where training put it, and nothing jumps between.

Shapes: N items, Q queries of the population, D width.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rf_platform.failures import reading

PRIOR = 2.0
"""Users that the content of an item counts as, unless validation says otherwise; chosen on the validation splits of two sets
(docs/evaluation.md)."""
PRIOR_BEFORE = 5.0
"""The same in rules of bundles that do not say it."""
RATE_PRIOR = 5.0
"""Events that the average rate counts as, in an item's bias."""
MOST_USERS = 50
"""Most events of an item, those of its training included, that still move it: by then the next training knows more."""
POPULATION = 2048
"""Most queries that stand for the population."""
_STEPS = 20
_AT_ONCE = 512

Floats = npt.NDArray[np.float32]


def unit(vectors_ND: Floats) -> Floats:
    """Return vectors of length one; one without a direction stays zero."""
    length_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND: Floats = np.divide(vectors_ND, length_N1, out=np.zeros_like(vectors_ND), where=length_N1 > 0)
    return unit_ND


@dataclass(frozen=True, eq=False)
class Evidence:
    """Evidence about some items: of each the sum of its users' unit query vectors, and their number.

    A user counts once for an item and with a vector of length one, so nobody moves an item by more than one event's worth.
    """

    sum_ND: Floats
    count_N: npt.NDArray[np.int64]

    @classmethod
    def gather(
        cls, row_E: npt.NDArray[np.int64], user_E: npt.NDArray[np.int64], query_ED: Floats, n_items: int
    ) -> "Evidence":
        """Sum up events, given in order: the first one of a user with an item counts, unless its query is no finite direction.

        Args:
            row_E: item of each event, below ``n_items``.
            user_E: its user, as any number.
            query_ED: query vector of the user just before it, of any length.
            n_items: number of items.
        """
        length_E = np.linalg.norm(query_ED, axis=1)
        usable = np.flatnonzero(np.isfinite(length_E) & (length_E > 0))
        _, first = np.unique(np.stack([row_E[usable], user_E[usable]]), axis=1, return_index=True)
        chosen = usable[np.sort(first)]
        sum_ND = np.zeros((n_items, query_ED.shape[1]), np.float32)
        np.add.at(sum_ND, row_E[chosen], unit(query_ED[chosen]))
        return cls(sum_ND, np.bincount(row_E[chosen], minlength=n_items))


@dataclass(frozen=True, eq=False, kw_only=True)
class FoldIn:
    """The rule of one model: its temperature, and the population that an item's users are told apart from."""

    temperature: float
    query_QD: Floats
    """Unit query vectors of users."""
    log_z_Q: Floats
    """Logarithm of the normaliser of each over the trained items."""
    curvature: float
    """Largest variance of the population in any direction, which bounds the length of a step."""
    until_us: int = 0
    """Time of the last event that training may have met, in microseconds since 1970; 0 if it is not known."""
    prior: float = PRIOR
    """Users that the content of an item counts as."""

    @classmethod
    def of(cls, query_QD: Floats, trained_ND: Floats, temperature: float, until_us: int = 0) -> "FoldIn":
        """Prepare the rule.

        Args:
            query_QD: unit query vectors of users, :data:`POPULATION` of them or so.
            trained_ND: unit vectors of the items that training met.
            temperature: of the softmax that the model was trained with.
            until_us: time of the last event of the training.
        """
        log_z_Q = np.concatenate(
            [
                _log_sum_exp(query_QD[i : i + _AT_ONCE] @ trained_ND.T / temperature)
                for i in range(0, len(query_QD), _AT_ONCE)
            ]
        )
        weight_Q = np.exp(log_z_Q.min() - log_z_Q)
        centred_QD = query_QD - np.average(query_QD, axis=0, weights=weight_Q)
        covariance_DD = (centred_QD * (weight_Q / weight_Q.sum())[:, None]).T @ centred_QD
        return cls(
            temperature=temperature,
            query_QD=query_QD,
            log_z_Q=log_z_Q.astype(np.float32),
            curvature=float(np.linalg.eigvalsh(covariance_DD)[-1]),
            until_us=until_us,
        )

    def learned(self, trained_B: npt.NDArray[np.int64], timestamp_B: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which events the model knows from training, which are no evidence [B].

        Args:
            trained_B: training events of the item of each.
            timestamp_B: time of each, in microseconds since 1970.
        """
        known: npt.NDArray[np.bool_] = (trained_B > 0) & (timestamp_B <= self.until_us)
        return known

    def moved(self, built_ND: Floats, trained_N: npt.NDArray[np.int64], evidence: Evidence) -> Floats:
        """Return where evidence moves items [N, D]; an item without any keeps its vector, to the last bit.

        Every step maximises a lower bound of the objective that touches it where the item is, in closed form: the log of the
        mean curves at most as much as the population varies.

        Args:
            built_ND: unit vectors that the items were built with.
            trained_N: training events of each.
            evidence: of their users since.
        """
        out_ND = built_ND.copy()
        rows = np.flatnonzero(evidence.count_N)
        for start in range(0, len(rows), _AT_ONCE):
            some = rows[start : start + _AT_ONCE]
            n_N1 = evidence.count_N[some, None].astype(np.float32)
            weight_N1 = (self.prior + trained_N[some, None]).astype(np.float32)
            pull_ND, v_ND = evidence.sum_ND[some] + weight_N1 * built_ND[some], built_ND[some]
            for _ in range(_STEPS):
                v_ND = unit(pull_ND + n_N1 * (self.curvature / self.temperature * v_ND - self._typical(v_ND)))
            out_ND[some] = v_ND
        return out_ND

    def with_prior(self, prior: float) -> "FoldIn":
        """Return the same rule with another weight of the content."""
        return replace(self, prior=prior)

    def log_likelihood(self, v_ND: Floats, query_ND: Floats) -> Floats:
        """Return how likely a user with the unit query vector of each row is to be the next one of the item there [N]."""
        found: Floats = np.einsum("nd,nd->n", v_ND, query_ND) / self.temperature - _log_sum_exp(self._logits(v_ND))
        return found

    def _logits(self, v_ND: Floats) -> Floats:
        logit_NQ: Floats = v_ND @ self.query_QD.T
        logit_NQ /= self.temperature
        logit_NQ -= self.log_z_Q
        return logit_NQ

    def _typical(self, v_ND: Floats) -> Floats:
        """Return the mean query of the users that would take each item [N, D]."""
        logit_NQ = self._logits(v_ND)
        logit_NQ -= logit_NQ.max(axis=1, keepdims=True)
        np.exp(logit_NQ, out=logit_NQ)
        logit_NQ /= logit_NQ.sum(axis=1, keepdims=True)
        typical_ND: Floats = logit_NQ @ self.query_QD
        return typical_ND

    def save(self, path: Path) -> None:
        """Write the rule to a file of NumPy's."""
        np.savez(
            path,
            temperature=np.float32(self.temperature),
            query_QD=self.query_QD,
            log_z_Q=self.log_z_Q,
            curvature=np.float32(self.curvature),
            until_us=np.int64(self.until_us),
            prior=np.float32(self.prior),
        )

    @classmethod
    def load(cls, path: Path) -> "FoldIn":
        """Read what :meth:`save` wrote.

        Raises:
            CorruptError: the file cannot be read.
        """
        with reading(path, "build the bundle again with `rf index build`"), np.load(path) as found:
            return cls(
                temperature=float(found["temperature"]),
                query_QD=found["query_QD"],
                log_z_Q=found["log_z_Q"],
                curvature=float(found["curvature"]),
                until_us=int(found["until_us"]),
                prior=float(found["prior"]) if "prior" in found else PRIOR_BEFORE,
            )


def popularity_bias(count_N: npt.NDArray[np.int64], expected_N: npt.NDArray[np.floating], temperature: float) -> Floats:
    """Return what is added to the scores of items for being taken more or less often than others of their age [N].

    The bias that a softmax of this temperature gives to an item by its rate, with a Gamma prior of :data:`RATE_PRIOR` events: 0
    without an event expected or seen, and for an item that is taken as often as the average.

    Args:
        count_N: events of each item.
        expected_N: events of an average item in the same time.
        temperature: of the model.
    """
    bias_N: Floats = (temperature * np.log((count_N + RATE_PRIOR) / (expected_N + RATE_PRIOR))).astype(np.float32)
    return bias_N


def _log_sum_exp(logit_NQ: Floats) -> Floats:
    most_N1 = logit_NQ.max(axis=1, keepdims=True)
    found: Floats = np.log(np.exp(logit_NQ - most_N1).sum(axis=1)) + most_N1[:, 0]
    return found
