"""Selection of an answer's items from the candidates: at each place, caps say what may stand there, and diversity chooses.

Only the beginning of the candidates is looked at, as far as no one behind it can be better; its values and vectors are fetched at
once, and every place takes a few operations on whole arrays.

Shapes: C candidates looked at, the first ones, T of them new, V values of a feature in the candidate with most, D width,
E = D + 1.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from rf_platform.policies import Cap
from rf_serving.search.value_codes import NO_VALUE

FIRST = 64
"""Candidates that are looked at first; where these do not do, twice as many."""
FIRST_VARIED = 256
"""The same for diversity: to begin with few and fetch more costs it more than a longer product of a matrix."""
BLOCK = np.float32(4.0)
"""Added to what blocks a candidate by each of its values that are at their most: more than values of candidates differ by."""
_TAKEN, _FREE = np.float32(1 << 24), np.float32(1 << 23)
"""Blocks of a candidate that has a place, and a bound above all others."""
_OPEN = np.float32(2.0)
"""Bound between what candidates lack, 1 at most, and that with a block, 3 at least."""
Blocks = npt.NDArray[np.float32]
"""[C]: 0 of candidates that may stand at the next place."""
Fetch = Callable[[slice], npt.NDArray[np.float32]]
"""Returns the vectors of a stretch of the candidates [T, D]."""


class CapState:
    """One cap while a list is filled: which candidates it keeps out of the next place."""

    def __init__(self, cap: Cap, codes: Callable[[slice], npt.NDArray[np.int32]]) -> None:
        """Begin an empty list.

        Args:
            cap: the rule.
            codes: returns the values of a stretch of the candidates [T, V], :data:`NO_VALUE` where one has no more.
        """
        self.cap, self._fetch = cap, codes
        self._codes_CV = np.zeros((0, 1), np.int32)
        self._having: dict[int, npt.NDArray[np.int64]] = {}
        self._counts: defaultdict[int, int] = defaultdict(int)
        self._places: deque[list[int]] = deque()
        self.full: set[int] = set()
        """Values that are at their most, by :meth:`count`."""

    def look_at(self, more: slice, blocks_C: Blocks) -> None:
        """Take in the candidates behind those looked at so far, and add what the cap blocks of them."""
        codes_TV = self._fetch(more)
        if len(self._codes_CV):
            wide = max(codes_TV.shape[1], self._codes_CV.shape[1])
            codes_TV = np.concatenate([_widened(self._codes_CV, wide), _widened(codes_TV, wide)])
        self._codes_CV, self._having = codes_TV, {}
        for code, count in self._counts.items():
            if count >= self.cap.most:
                having = self._with(code)
                blocks_C[having[having >= more.start]] += BLOCK

    def take(self, candidate: int, blocks_C: Blocks) -> None:
        """Put a candidate at the next place, and change what is blocked."""
        codes = [code for code in set(self._codes_CV[candidate].tolist()) if code != NO_VALUE]
        counts, most = self._counts, self.cap.most
        for code in codes:
            counts[code] += 1
            if counts[code] == most:
                blocks_C[self._with(code)] += BLOCK
        if self.cap.window is None:
            return
        self._places.append(codes)
        if len(self._places) == self.cap.window:  # the next place begins a stretch without the first of these
            for code in self._places.popleft():
                if counts[code] == most:
                    blocks_C[self._with(code)] -= BLOCK
                counts[code] -= 1

    def values(self, part: slice) -> list[list[int]]:
        """Return the values of a stretch of the candidates, for :meth:`count`."""
        found: list[list[int]] = self._fetch(part).tolist()
        return found

    def count(self, codes: list[int]) -> None:
        """Put a candidate with these values at the next place of a list without windows; see :attr:`full`."""
        counts, most = self._counts, self.cap.most
        for code in codes if len(codes) == 1 else {*codes}:
            if code != NO_VALUE:
                counts[code] = count = counts[code] + 1
                if count >= most:
                    self.full.add(code)

    def lets_pass(self) -> npt.NDArray[np.bool_]:
        """Return which candidates the cap does not block [C]."""
        passing_C = np.ones(len(self._codes_CV), np.bool_)
        for code, count in self._counts.items():
            if count >= self.cap.most:
                passing_C[self._with(code)] = False
        return passing_C

    def _with(self, code: int) -> npt.NDArray[np.int64]:
        """Return the candidates that have a value; one that has it twice comes twice."""
        if (having := self._having.get(code)) is None:
            having = (self._codes_CV.ravel() == code).nonzero()[0]
            if (values := self._codes_CV.shape[1]) > 1:
                having //= values
            self._having[code] = having
        return having


class Variety:
    """Diversity while a list is filled: the value of each candidate, which falls with every item that is like it.

    The value is the least of ``λ·score`` and ``λ·score - (1-λ)·likeness`` to each item chosen. Kept is what it lacks to 0, the
    most of these so far: a product of matrices gives ``(1-λ)·likeness - λ·score``.
    """

    def __init__(self, trade: float, relevance: npt.NDArray[np.float64], vectors: Fetch) -> None:
        """Begin an empty list.

        Args:
            trade: λ, see :class:`rf_platform.policies.Diversity`.
            relevance: of all candidates, falling.
            vectors: fetches their vectors, of any length.
        """
        least, most = (relevance[-1], relevance[0]) if len(relevance) else (0.0, 0.0)
        lost = (least - relevance) * (trade / (most - least)) if most > least else np.zeros(len(relevance))
        self.bounds: npt.NDArray[np.float32] = lost.astype(np.float32)
        """Of all candidates, what they begin with: ``-λ·score``, the score from 0 to 1; it never becomes less."""
        self._fetch, self._weight = vectors, np.float32(np.sqrt(1 - trade))
        self.lacks_C = np.zeros(0, np.float32)
        """[C]: 0 less the value."""
        self._asked_CE = np.zeros((0, 0), np.float32)
        """Vectors of the candidates, with -λ·score as their last number."""
        self._chosen: list[npt.NDArray[np.float32]] = []
        """Vectors of the chosen, with 1 as their last number."""

    def look_at(self, more: slice) -> None:
        """Take in the candidates behind those looked at so far."""
        vectors_TD = self._fetch(more)
        lengths_T = np.sqrt(np.einsum("td,td->t", vectors_TD, vectors_TD))
        scales_T = self._weight / np.maximum(lengths_T, np.finfo(np.float32).tiny)
        asked_TE = np.empty((len(vectors_TD), vectors_TD.shape[1] + 1), np.float32)
        np.multiply(vectors_TD, scales_T[:, None], out=asked_TE[:, :-1])
        lacks_T = asked_TE[:, -1] = self.bounds[more]
        if self._chosen:
            lacks_T = np.maximum(lacks_T, (asked_TE @ np.stack(self._chosen, axis=1)).max(axis=1))
        self.lacks_C = np.concatenate([self.lacks_C, lacks_T])
        self._asked_CE = np.concatenate([self._asked_CE, asked_TE]) if len(self._asked_CE) else asked_TE

    def best(self, blocks_C: Blocks) -> int:
        """Return the best candidate that nothing blocks; any one where there is none."""
        return int((self.lacks_C + blocks_C).argmin())

    def take(self, candidate: int) -> None:
        """Put a candidate at the next place."""
        chosen_E = self._asked_CE[candidate].copy()
        chosen_E[-1] = 1.0
        self._chosen.append(chosen_E)
        np.maximum(self.lacks_C, self._asked_CE.dot(chosen_E), out=self.lacks_C)


class Selection:
    """A list that is filled place by place from candidates."""

    def __init__(self, total: int, caps: Sequence[CapState], variety: Variety | None = None) -> None:
        """Begin an empty list.

        Args:
            total: number of candidates, which come by falling relevance.
            caps: the first one is kept longest.
            variety: for diversity; None: in the order of relevance.
        """
        self._total, self._caps, self._variety = total, caps, variety
        self._blocks_C: Blocks = np.zeros(0, np.float32)
        self.yielded: dict[str, None] = {}
        """Caps that were not kept, in the order in which they first were not."""
        self.blocked = False
        """Whether the next place has no candidate that all caps let pass."""

    def fill(self, count: int, *, keep: bool) -> Iterator[int]:
        """Yield the candidates of up to ``count`` places.

        Args:
            count: most places.
            keep: whether to stop at a place that caps leave empty (:attr:`blocked`), instead of letting caps yield.
        """
        if not self._caps and self._variety is None:
            yield from range(min(count, self._total))
            return
        if keep and all(cap.cap.window is None for cap in self._caps):
            yield from self._scanned(count) if self._variety is None else self._varied(count, self._variety)
            return
        for _ in range(count):
            candidate = self._next(keep)
            if candidate is None:
                return
            self._blocks_C[candidate] = _TAKEN
            for cap in self._caps:
                cap.take(candidate, self._blocks_C)
            if self._variety is not None:
                self._variety.take(candidate)
            yield candidate

    def _scanned(self, count: int) -> Iterator[int]:
        """Yield the candidates that caps of the whole list let pass, in order: what one keeps out, it keeps out for good."""
        known = found = 0
        full = [cap.full for cap in self._caps]
        while found < count and known < self._total:
            more = slice(known, min(self._total, max(FIRST, 2 * known)))
            values = zip(*(cap.values(more) for cap in self._caps), strict=True)
            for place, codes in zip(range(more.start, more.stop), values, strict=True):
                for each, own in zip(full, codes, strict=False):
                    if not each.isdisjoint(own):
                        break
                else:
                    for cap, own in zip(self._caps, codes, strict=True):
                        cap.count(own)
                    found += 1
                    yield place
                    if found == count:
                        return
            known = more.stop
        self.blocked = found < min(count, self._total)

    def _varied(self, count: int, variety: Variety) -> Iterator[int]:
        """Yield the candidates of diversity, with caps of the whole list alone: a block is part of what a candidate lacks."""
        known = found = 0
        while found < count:
            best = int(variety.lacks_C.argmin()) if known else 0
            if known < self._total and (not known or variety.lacks_C[best] > variety.bounds[known]):
                more = slice(known, min(self._total, max(FIRST_VARIED, 2 * known)))
                variety.look_at(more)
                for cap in self._caps:
                    cap.look_at(more, variety.lacks_C)
                known = more.stop
                continue
            if not known or variety.lacks_C[best] > _OPEN:
                self.blocked = found < self._total
                return
            variety.lacks_C[best] = _TAKEN
            variety.take(best)
            for cap in self._caps:
                cap.take(best, variety.lacks_C)
            found += 1
            yield best

    def _next(self, keep: bool) -> int | None:
        """Return the candidate of the next place; None: there is none."""
        while True:
            best, known = self._best(self._blocks_C), len(self._blocks_C)
            if known == self._total or (best is not None and self._certain(best)):
                break
            self._look_at(slice(known, min(self._total, max(FIRST, 2 * known))))
        return self._yielding(keep) if best is None and (self._blocks_C < _FREE).any() else best

    def _best(self, blocks_C: Blocks) -> int | None:
        """Return the best candidate that nothing blocks; None: there is none."""
        if not len(blocks_C):
            return None
        best = int(blocks_C.argmin()) if self._variety is None else self._variety.best(blocks_C)
        return None if blocks_C[best] else best

    def _certain(self, candidate: int) -> bool:
        """Whether no candidate that was not looked at is better."""
        of = self._variety
        return of is None or bool(of.lacks_C[candidate] <= of.bounds[len(self._blocks_C)])

    def _look_at(self, more: slice) -> None:
        self._blocks_C = np.append(self._blocks_C, np.zeros(more.stop - more.start, np.float32))
        for cap in self._caps:
            cap.look_at(more, self._blocks_C)
        if self._variety is not None:
            self._variety.look_at(more)

    def _yielding(self, keep: bool) -> int | None:
        """Return the candidate of a place where not all caps can be kept; None: caps are to be kept."""
        if keep:
            self.blocked = True
            return None
        open_C = self._blocks_C < _FREE
        for cap in self._caps:  # the first ones are kept wherever they can be
            kept_C = open_C & cap.lets_pass()
            if kept_C.any():
                open_C = kept_C
            else:
                self.yielded[cap.cap.name] = None
        return self._best(np.where(open_C, np.float32(0), BLOCK))


def _widened(codes_CV: npt.NDArray[np.int32], values: int) -> npt.NDArray[np.int32]:
    if codes_CV.shape[1] == values:
        return codes_CV
    missing = np.full((len(codes_CV), values - codes_CV.shape[1]), NO_VALUE, np.int32)
    return np.concatenate([codes_CV, missing], axis=1)
