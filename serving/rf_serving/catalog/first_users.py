"""Evidence about items in the space of one bundle: the vectors of items move towards what their first users say.

Shapes: B first users, N items, D width.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.registry.evidence import EvidenceJournal, Noted
from rf_serving.bundle.served import ServedBundle
from rf_serving.index.vector_index import NO_ROW
from rf_serving.wire.ids import id_of
from rf_training.fold_in.rule import Evidence, FoldIn, popularity_bias, unit

Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]
"""Encodes profiles and histories, as the evidence keeps them, to query vectors [B, D]; not finite where one cannot be encoded."""


@dataclass
class _Sum:
    """Evidence about one item."""

    queries: npt.NDArray[np.float64]
    count: int = 0
    first: int = 0
    """Number of the first event in the log."""
    last: int = 0
    """Number of the last one."""


class FirstUsers:
    """Follows the evidence, and says where the items of a bundle are by it. Used by one thread at a time."""

    def __init__(self, bundle: ServedBundle, rule: FoldIn, journal: EvidenceJournal, encode: Encode) -> None:
        """Begin without evidence.

        Args:
            bundle: has the items' training events.
            rule: of the bundle's model.
            journal: what to follow.
            encode: the user tower, for evidence that was recorded with another one.
        """
        self.encode = encode
        self._bundle, self._rule, self._journal = bundle, rule, journal
        self._width = bundle.model.config.dim
        self._sums: dict[str, _Sum] = {}
        self._gone: set[str] = set()
        """Items that were deleted since; their evidence is read again: they may be back, with other first users."""
        self._sequence = 0

    @property
    def items(self) -> set[str]:
        """Ids of the items with evidence, as text."""
        return set(self._sums)

    def trained(self, items: Sequence[int | str]) -> npt.NDArray[np.int64]:
        """Return the training events of items [N]; 0 for those that the bundle does not have."""
        popularity_N = self._bundle.popularity_N
        assert popularity_N is not None  # every bundle with a rule has it
        rows_N = np.array([self._bundle.row_of_item.get(item, NO_ROW) for item in items], np.int64)
        return np.where(rows_N == NO_ROW, 0, popularity_N[rows_N]) if len(popularity_N) else np.zeros_like(rows_N)

    def catch_up(self) -> set[str]:
        """Take in all evidence that is recorded by now; return the ids of the items that it is about.

        Raises:
            UnavailableError: the registry cannot be read.
        """
        again = list(self._journal.read_of(sorted(self._gone), self._sequence)) if self._gone else []
        fresh = list(self._journal.read(self._sequence))
        changed = set(self._gone)
        noted = self._unlearned([*again, *fresh])
        query_BD = self._queries(noted)
        usable_B = np.isfinite(query_BD).all(axis=1) & query_BD.any(axis=1)
        for place in np.flatnonzero(usable_B).tolist():
            user = noted[place]
            known = self._sums.setdefault(user.item_id, _Sum(np.zeros(self._width)))
            known.queries += unit(query_BD[[place]])[0]
            known.count += 1
            known.first, known.last = min(known.first or user.event, user.event), max(known.last, user.event)
            changed.add(user.item_id)
        self._gone.clear()
        if fresh:
            self._sequence = fresh[-1].sequence
        return changed

    def forget(self, items: Iterable[str]) -> None:
        """Drop the evidence about deleted items; what there is since is taken in next."""
        for item in items:
            if self._sums.pop(item, None) is not None:
                self._gone.add(item)

    def moved(self, items: Sequence[int | str], built_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the vectors of items with what is known of their first users; the given ones where nothing is.

        Args:
            items: their ids.
            built_ND: the vectors that the item tower gives them, with the dimension of the bias where the model has it.
        """
        known = [place for place, item in enumerate(items) if str(item) in self._sums]
        if not known:
            return built_ND
        sums = [self._sums[str(items[place])] for place in known]
        count_N = np.array([each.count for each in sums], np.int64)
        evidence = Evidence(np.stack([each.queries for each in sums]).astype(np.float32), count_N)
        moved_ND = built_ND.copy()
        trained_N = self.trained([items[place] for place in known])
        moved_ND[known, : self._width] = self._rule.moved(built_ND[known, : self._width], trained_N, evidence)
        if moved_ND.shape[1] > self._width:
            # As many as an average item has while the log went from the first to the last of them.
            passed_N = np.array([each.last - each.first for each in sums], np.float64)
            expected_N = count_N.clip(max=1) + passed_N / max(1, len(self._bundle.item_ids))
            moved_ND[known, self._width] += popularity_bias(count_N, expected_N, self._rule.temperature)
        return moved_ND

    def _unlearned(self, noted: Sequence[Noted]) -> list[Noted]:
        """Return the first users that an item's vector does not know from training already."""
        items = [id_of(user.item_id, self._bundle.spec.item.id_type) for user in noted]
        trained_B = self.trained([-1 if item is None else item for item in items])
        learned = self._rule.learned(trained_B, np.array([user.timestamp_us for user in noted], np.int64))
        return [
            user
            for user, item, known in zip(noted, items, learned.tolist(), strict=True)
            if item is not None and not known
        ]

    def _queries(self, noted: Sequence[Noted]) -> npt.NDArray[np.float32]:
        own = [user.bundle == self._bundle.name for user in noted]
        query_BD = np.zeros((len(noted), self._width), np.float32)
        foreign = [place for place, is_own in enumerate(own) if not is_own]
        if foreign:
            query_BD[foreign] = self.encode([noted[place].features for place in foreign])
        for place, is_own in enumerate(own):
            if is_own:
                query_BD[place] = np.frombuffer(noted[place].query, "<f4")
        return query_BD
