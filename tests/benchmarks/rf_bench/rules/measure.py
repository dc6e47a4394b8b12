"""Cost of the rules of a placement, one kind at a time and together, and the trade of diversity.

Shapes: N items, D width of the towers, K items of an answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import thread_time

import numpy as np
import numpy.typing as npt

from rf_platform.dataset import Dataset
from rf_platform.policies import Diversity, Placement
from rf_protos.v1.retrieval_pb2 import Interaction, Session
from rf_serving.bundle.served import ServedBundle
from rf_serving.policies import CompiledPlacement, CompiledPolicy
from rf_serving.retrieval.engine import Engine
from rf_serving.retrieval.query import Query
from rf_serving.stage_timer import StageTimer
from rf_serving.threads import use_one_thread
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import Split

KINDS = ("eligibility", "boosts", "caps", "diversity", "pins", "exploration")
NOTHING, ALL = "none", "all together"
_WARM = 20


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of rules in an answer."""

    rules: str
    rules_ms: float
    """Median time of the stage that applies them."""
    rules_p99_ms: float
    total_ms: float
    """Median CPU time of the whole answer."""
    added_ms: float
    """Median of what the answer takes more than without rules."""


@dataclass(frozen=True, kw_only=True)
class Trade:
    """Answers of one λ, over the users of a split."""

    trade: float
    """λ of maximal marginal relevance; 1: no diversity."""
    ndcg: float
    recall: float
    coverage: float
    """Share of the catalog that stands in any answer."""
    likeness: float
    """Mean cosine between two items of an answer."""


def costs(bundle: ServedBundle, policy: CompiledPolicy, name: str, sessions: Sequence[Session], k: int) -> list[Cost]:
    """Answer the same sessions by each kind of rules that a placement has, in turns, in one thread.

    Args:
        bundle: the bundle that answers.
        policy: compiled for it.
        name: placement.
        sessions: requests; the first ones warm up.
        k: items asked for.
    """
    use_one_thread()
    given = policy.placements[name].placement
    parts: dict[str, CompiledPlacement | None] = {NOTHING: None}
    parts |= {kind: _only(bundle, policy, given, (kind,)) for kind in KINDS if getattr(given, kind)}
    parts[ALL] = _only(bundle, policy, given, KINDS)
    engine = Engine(bundle)
    stage: dict[str, list[float]] = {part: [] for part in parts}
    total: dict[str, list[float]] = {part: [] for part in parts}
    for number, session in enumerate(sessions):
        for part, rules in parts.items():
            watch = StageTimer(lambda stage, seconds: None)
            begin = thread_time()
            engine.rank(None, Query(subject=session, k=k, exclude_seen=True), watch, rules=rules)
            used = thread_time() - begin
            if number >= _WARM:
                stage[part].append(watch.seconds.get("rules", 0.0))
                total[part].append(used)
    plain = np.array(total[NOTHING])
    return [
        Cost(
            rules=part,
            rules_ms=_ms(np.array(stage[part])),
            rules_p99_ms=float(np.percentile(stage[part], 99)) * 1000,
            total_ms=_ms(np.array(total[part])),
            added_ms=_ms(np.array(total[part]) - plain),
        )
        for part in parts
    ]


def trades(
    bundle: ServedBundle,
    policy: CompiledPolicy,
    dataset: Dataset,
    trade: Sequence[float],
    users: int,
    seed: int,
    k: int,
) -> Iterator[Trade]:
    """Yield quality and variety of the answers for each λ, on the validation split; histories are asked as sessions."""
    cases = EvaluationCases.from_sequences(dataset.sequences, n_items=dataset.n_items, split=Split.VALIDATION)
    cases = cases.sampled(users, seed)
    history = cases.histories(0, len(cases))
    ids = np.asarray(dataset.item_ids)
    sessions = [
        Session(history=[Interaction(item_id=str(ids[row])) for row in history.values[history.row_of_value == number]])
        for number in range(len(cases))
    ]
    unit_ND = bundle.vectors_ND[:, : bundle.model.config.dim]
    unit_ND = unit_ND / np.linalg.norm(unit_ND, axis=1, keepdims=True)
    row_of = {str(item): row for row, item in enumerate(bundle.item_ids)}
    engine = Engine(bundle)
    for each in trade:
        diversity = Diversity.model_validate({"lambda": each})
        rules = _only(bundle, policy, Placement(diversity=diversity, candidates=1000), ("diversity",))
        answers = [_items(engine, session, rules, k) for session in sessions]
        rows = [np.array([row_of[item] for item in answer]) for answer in answers]
        wanted = [str(ids[target]) for target in cases.targets]
        found = [answer.index(item) for answer, item in zip(answers, wanted, strict=True) if item in answer]
        yield Trade(
            trade=each,
            ndcg=float(sum(1 / np.log2(place + 2) for place in found)) / len(cases),
            recall=len(found) / len(cases),
            coverage=len(np.unique(np.concatenate(rows))) / len(row_of),
            likeness=float(np.mean([_likeness(unit_ND[row]) for row in rows if len(row) > 1])),
        )


def _items(engine: Engine, session: Session, rules: CompiledPlacement, k: int) -> list[str]:
    watch = StageTimer(lambda stage, seconds: None)
    return engine.rank(None, Query(subject=session, k=k, exclude_seen=True), watch, rules=rules).items


def _likeness(unit_KD: npt.NDArray[np.float32]) -> float:
    cosines_KK, count = unit_KD @ unit_KD.T, len(unit_KD)
    return float(cosines_KK.sum() - np.trace(cosines_KK)) / (count * (count - 1))


def _only(bundle: ServedBundle, policy: CompiledPolicy, given: Placement, kinds: Sequence[str]) -> CompiledPlacement:
    """Return a placement with some kinds of its rules, compiled."""
    kept: Mapping[str, object] = {kind: getattr(given, kind) for kind in kinds} | {"candidates": given.candidates}
    placement = Placement().model_copy(update=dict(kept))
    only = policy.policy.model_copy(update={"placements": {"measured": placement}, "default": None})
    return CompiledPolicy.compile(only, bundle.spec).placements["measured"]


def _ms(seconds: npt.NDArray[np.float64]) -> float:
    return float(np.median(seconds)) * 1000
