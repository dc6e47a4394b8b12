"""The rules of a placement, applied to ranked candidates in one order.

1. *Eligibility*: conditions of the placement and of the request together, and what the user has seen; the search has left the
   rest out, and pins and explored items have to pass it too.
2. *Boosts*, in their order, change the scores of candidates.
3. *Caps* say at each place which candidates may stand there; where none may, more candidates are looked at, and only if there
   is none among them either, caps yield, the last one first.
4. *Diversity* chooses among those.
5. *Pins* are put at their places, and what stood there moves down.
6. *Exploration* puts drawn items at places that are not pinned.

Shapes: C candidates, K items of the answer, D width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from random import Random

import numpy as np
import numpy.typing as npt

from rf_platform.policies import sources
from rf_protos.v1.explanation_pb2 import Reason, RuleCause
from rf_serving.bundle.served import ServedBundle
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.index.vector_index import NO_ROW
from rf_serving.policies.compiled import CompiledPlacement
from rf_serving.policies.exploration import NO_DRAW, Draw, Untrained, draw
from rf_serving.policies.selection import CapState, Selection, Variety
from rf_serving.search.columns import are_among
from rf_serving.search.condition import ItemFilter
from rf_serving.search.eligibility import Eligibility, Eligible

Rows = npt.NDArray[np.int64]
PIN, EXPLORATION = "pin", "exploration"
"""Sources of items that no search has found."""
MOST_CANDIDATES = 10_000
"""Items that caps look at before they yield, at most."""
Skipped = Callable[[CompiledPlacement, str], None]
"""Is told of a rule that an answer does without, since the catalog has changed: the placement, and the rule in words."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Items that may be returned, best first."""

    rows: Rows
    scores: npt.NDArray[np.float32]
    """[C]: the order is theirs."""
    sources: Sequence[str] | None = None
    """[C]: source of each; None: all of them are the model's."""

    def source_of(self, candidate: int) -> str:
        """Return the source of a candidate."""
        return sources.MODEL if self.sources is None else self.sources[candidate]


@dataclass(frozen=True, eq=False, kw_only=True)
class Asked:
    """Parts of a request that rules read."""

    k: int
    query_D: npt.NDArray[np.float32]
    filter: ItemFilter
    """Of the request and the placement together."""
    eligible: Eligible
    """Items that pass it."""
    excluded: Rows
    """Distinct rows among these that may not be returned, rising: those denied, and those the user has seen."""
    seed: Callable[[], bytes]
    """Returns what decides draws: equal for equal requests."""
    reasons: bool = False
    """Whether the answer says what moved each item."""
    origins: Callable[[int, str], list[Reason]] | None = None
    """Returns why the item of a row is a candidate of a source; None: all candidates are the model's."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Ruled:
    """The items of an answer, by the rules."""

    rows: list[int]
    scores: list[float]
    """After boosts; of pins and drawn items that are no candidates, the dot product."""
    sources: list[str]
    propensities: list[float]
    """Probability of each drawn item; 0 of every other."""
    yielded: Sequence[str]
    """Caps that were not kept."""
    reasons: list[list[Reason]]
    """Of each item: the rules that moved it; empty if not asked for."""


@dataclass(eq=False)
class _Boosted:
    """Candidates in the order of their scores after boosts."""

    candidates: Candidates
    scores: npt.NDArray[np.float64]
    reasons: dict[int, list[Reason]] = field(default_factory=dict)
    """By row."""

    def tell(self, boost: str, moved: Rows, gains_C: npt.NDArray[np.float64]) -> None:
        """Add what a boost did to some candidates to the reasons."""
        for row, gain in zip(self.candidates.rows[moved].tolist(), gains_C[moved].tolist(), strict=True):
            cause = RuleCause(kind=RuleCause.BOOST, name=boost)
            self.reasons.setdefault(row, []).append(Reason(rule=cause, contribution=gain))


class Rules:
    """Applies the rules of placements for one bundle. Safe from any thread."""

    def __init__(self, bundle: ServedBundle, eligibility: Eligibility, skipped: Skipped = lambda placement, what: None):
        self._width = bundle.model.config.dim
        self._eligibility, self._untrained = eligibility, Untrained(bundle)
        self.skipped = skipped
        """Is told of rules that an answer does without."""

    def apply(
        self,
        placement: CompiledPlacement,
        candidates: Candidates,
        asked: Asked,
        catalog: CatalogSnapshot,
        deeper: Callable[[], Candidates | None],
    ) -> Ruled:
        """Return the answer of a request: ``k`` items as long as so many may be returned.

        Args:
            placement: the rules.
            candidates: at least ``k`` and the number of pins together, if there are so many.
            asked: the request.
            catalog: the snapshot that the rows belong to.
            deeper: returns more candidates, these among them, or None if there are no more.
        """
        pins = self._pins(placement, asked, catalog) if placement.pins else {}
        boosted, selection, chosen = self._chosen(placement, candidates, asked, catalog, set(pins.values()), deeper)
        explored = self._explored(placement, asked, pins, catalog)
        return self._ruled(boosted, selection, chosen, pins, explored, asked, catalog)

    def _pins(self, placement: CompiledPlacement, asked: Asked, catalog: CatalogSnapshot) -> dict[int, int]:
        """Return the rows of pinned items that may be returned, by place from 0."""
        pins: dict[int, int] = {}
        for item, place in placement.pins:
            if place > asked.k:
                break
            row = catalog.row_of(item)
            if row == NO_ROW or not catalog.live_mask_N[row]:
                self.skipped(placement, f"pin of {item}: the catalog does not have the item")
            else:
                pins[place - 1] = row
        if not pins:
            return pins
        rows = np.fromiter(pins.values(), np.int64, len(pins))
        may = asked.eligible.passing.contain(rows) & ~are_among(rows, asked.excluded)
        return {place: row for (place, row), keep in zip(pins.items(), may.tolist(), strict=True) if keep}

    def _chosen(
        self,
        placement: CompiledPlacement,
        candidates: Candidates,
        asked: Asked,
        catalog: CatalogSnapshot,
        pinned: set[int],
        deeper: Callable[[], Candidates | None],
    ) -> tuple[_Boosted, Selection, list[int]]:
        """Return the candidates in order, the list as it was filled, and the places among the candidates that fill it."""
        boosted = self._boosted(placement, _without(candidates, pinned), catalog, reasons=asked.reasons)
        selection = self._selection(placement, boosted, catalog)
        chosen = list(selection.fill(asked.k, keep=True))
        if not selection.blocked:
            return boosted, selection, chosen
        if (more := deeper()) is not None:
            boosted = self._boosted(placement, _without(more, pinned), catalog, reasons=asked.reasons)
        selection = self._selection(placement, boosted, catalog)
        return boosted, selection, list(selection.fill(asked.k, keep=False))

    def _boosted(
        self, placement: CompiledPlacement, candidates: Candidates, catalog: CatalogSnapshot, *, reasons: bool
    ) -> _Boosted:
        scores_C = candidates.scores.astype(np.float64)
        boosted = _Boosted(candidates, scores_C)
        if not placement.boosts:
            return boosted
        for boost, where in placement.boosts:
            passing_C = self._eligibility.of(catalog, ItemFilter(where=where)).passing.contain(candidates.rows)
            before_C = scores_C.copy() if reasons else scores_C
            if (factor := boost.factor) is None:
                np.add(scores_C, boost.offset or 0.0, out=scores_C, where=passing_C)
            else:
                by_C = np.where(scores_C > 0, factor, 1 / factor)
                np.multiply(scores_C, by_C, out=scores_C, where=passing_C)
            if reasons:
                boosted.tell(boost.name, np.flatnonzero(passing_C), scores_C - before_C)
        order = np.argsort(-scores_C, kind="stable")
        named = candidates.sources
        ordered = Candidates(
            candidates.rows[order],
            candidates.scores[order],
            None if named is None else [named[place] for place in order.tolist()],
        )
        return replace(boosted, candidates=ordered, scores=scores_C[order])

    def _selection(self, placement: CompiledPlacement, boosted: _Boosted, catalog: CatalogSnapshot) -> Selection:
        rows, rules = boosted.candidates.rows, placement.placement
        caps = [CapState(cap, partial(self._codes, catalog, cap.feature, rows)) for cap in rules.caps]
        variety = None
        if rules.diversity is not None and rules.diversity.trade < 1:
            width = self._width
            variety = Variety(
                rules.diversity.trade, boosted.scores, lambda part: catalog.vectors(rows[part])[:, :width]
            )
        return Selection(len(rows), caps, variety)

    def _codes(self, catalog: CatalogSnapshot, feature: str, rows: Rows, part: slice) -> npt.NDArray[np.int32]:
        return self._eligibility.codes(catalog, feature, rows[part])

    def _explored(
        self, placement: CompiledPlacement, asked: Asked, pins: dict[int, int], catalog: CatalogSnapshot
    ) -> Draw:
        rules = placement.placement.exploration
        if rules is None:
            return NO_DRAW
        if placement.among is None:
            among = self._untrained.among(asked.eligible.passing, catalog)
        else:
            asking = replace(asked.filter, where=asked.filter.where | placement.among)
            among = self._eligibility.of(catalog, asking).passing.rows
        barred = np.sort(np.append(asked.excluded, [*pins.values()])) if pins else asked.excluded
        random = Random(int.from_bytes(asked.seed()[:16]))
        return draw(among, barred, rules.share, asked.k, random, most=asked.k - len(pins))

    def _ruled(
        self,
        boosted: _Boosted,
        selection: Selection,
        chosen: Sequence[int],
        pins: dict[int, int],
        explored: Draw,
        asked: Asked,
        catalog: CatalogSnapshot,
    ) -> Ruled:
        drawn = dict(_free_places(explored, pins, asked.k)) if explored.rows else {}
        candidates, taken = boosted.candidates, {*pins.values(), *drawn.values()}
        rest = [pair for pair in zip(candidates.rows[chosen].tolist(), chosen, strict=True) if pair[0] not in taken]
        total = min(asked.k, len(rest) + len(taken))
        found: list[tuple[int, int | None, str]] = []
        """Row, place among the candidates, source."""
        waiting = iter(rest)
        for place in range(asked.k):
            if place in pins:
                found.append((pins[place], None, PIN))
            elif place in drawn:
                found.append((drawn[place], _place_of(drawn[place], candidates), EXPLORATION))
            elif (pair := next(waiting, None)) is not None:
                found.append((*pair, candidates.source_of(pair[1])))
        assert len(found) == total
        added = [row for row, place, _ in found if place is None]
        dots = iter((catalog.vectors(np.array(added, np.int64)) @ asked.query_D).tolist() if added else ())
        scores = [next(dots) if place is None else float(boosted.scores[place]) for _, place, _ in found]
        return Ruled(
            rows=[row for row, _, _ in found],
            scores=scores,
            sources=[source for _, _, source in found],
            propensities=[explored.propensity if source == EXPLORATION else 0.0 for _, _, source in found],
            yielded=tuple(selection.yielded),
            reasons=_reasons(boosted, chosen, found, asked) if asked.reasons else [],
        )


def _place_of(row: int, candidates: Candidates) -> int | None:
    """Return where a row stands among the candidates; None if it is none of them."""
    places = np.flatnonzero(candidates.rows == row)
    return int(places[0]) if len(places) else None


def _without(candidates: Candidates, rows: set[int]) -> Candidates:
    if not rows:
        return candidates
    kept = ~are_among(candidates.rows, np.array(sorted(rows), np.int64))
    named = candidates.sources
    return Candidates(
        candidates.rows[kept],
        candidates.scores[kept],
        None if named is None else [each for each, keep in zip(named, kept.tolist(), strict=True) if keep],
    )


def _free_places(explored: Draw, pins: dict[int, int], k: int) -> Sequence[tuple[int, int]]:
    """Return where drawn items stand: at their place, or at the next one that is free."""
    taken, found = set(pins), []
    for row, place in zip(explored.rows, explored.places, strict=True):
        free = next(each % k for each in range(place, place + k) if each % k not in taken)
        taken.add(free)
        found.append((free, row))
    return found


def _reasons(
    boosted: _Boosted, chosen: Sequence[int], found: Sequence[tuple[int, int | None, str]], asked: Asked
) -> list[list[Reason]]:
    reordered = {place for number, place in enumerate(chosen) if number != place}
    reasons = []
    for row, candidate, source in found:
        of_item = [] if asked.origins is None else asked.origins(row, source)
        of_item += boosted.reasons.get(row, ())
        if source in (PIN, EXPLORATION):
            kind = RuleCause.PIN if source == PIN else RuleCause.EXPLORATION
            of_item.insert(0, Reason(rule=RuleCause(kind=kind)))
        elif candidate in reordered:
            of_item.append(Reason(rule=RuleCause(kind=RuleCause.REORDERED, place=candidate + 1)))
        reasons.append(of_item)
    return reasons
