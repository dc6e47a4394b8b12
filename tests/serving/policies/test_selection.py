"""Lists filled by hand: caps and diversity on a few candidates; and, on many, against all of them compared at every place."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_platform.policies import Cap
from rf_serving.policies.selection import CapState, Selection, Variety

RELEVANCE = np.array([1.0, 0.9, 0.5, 0.0])
VECTORS = np.array([[2, 0], [1, 0], [0, 1], [0, 3]], np.float32)  # two pairs of the same direction


@pytest.mark.parametrize(
    ("trade", "order"),
    [
        (1.0, [0, 1, 2, 3]),
        (0.5, [0, 2, 1, 3]),  # 0.45 - 0.5 < 0.25, then -0.05 > -0.5
        (0.9, [0, 1, 2, 3]),  # 0.81 - 0.1 > 0.45
        (0.0, [0, 2, 1, 3]),
    ],
)
def test_diversity_takes_the_best_of_what_is_unlike(trade: float, order: list[int]) -> None:
    selection = Selection(4, [], Variety(trade, RELEVANCE, lambda part: VECTORS[part]))
    assert list(selection.fill(9, keep=True)) == order


def cap(most: int, codes: list[list[int]], window: int | None = None) -> CapState:
    codes_CV = np.array(codes, np.int32)
    return CapState(Cap(feature=f"v__{len(codes[0])}", most=most, window=window), lambda part: codes_CV[part])


def test_a_window_moves_and_several_values_each_count() -> None:
    codes = [[0, -1], [0, 1], [0, -1], [1, 2], [-1, -1]]
    assert list(Selection(5, [cap(1, codes, 2)]).fill(5, keep=False)) == [0, 3, 2, 4, 1]


def test_a_cap_that_cannot_be_kept_yields_and_the_others_stay() -> None:
    one, other = cap(1, [[0], [0], [0]]), cap(1, [[0, -1], [0, -1], [1, -1]])
    selection = Selection(3, [one, other])
    assert list(selection.fill(3, keep=True)) == [0]
    assert selection.blocked
    one, other = cap(1, [[0], [0], [0]]), cap(1, [[0, -1], [0, -1], [1, -1]])
    selection = Selection(3, [one, other])
    assert list(selection.fill(2, keep=False)) == [0, 2]  # the second cap is kept, though the first is not
    assert list(selection.yielded) == ["v__1 1"]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 1000),
    total=st.integers(1, 400),
    trade=st.sampled_from([0.0, 0.2, 0.5, 0.8, 0.95, None]),
    caps=st.lists(st.tuples(st.integers(1, 3), st.sampled_from([None, 4, 9]), st.integers(2, 30)), max_size=2),
    places=st.integers(1, 30),
)
def test_what_is_not_looked_at_could_not_have_been_chosen(
    seed: int, total: int, trade: float | None, caps: list[tuple[int, int | None, int]], places: int
) -> None:
    rng = np.random.default_rng(seed)
    relevance = np.sort(rng.normal(size=total).round(1))[::-1]  # with equal ones
    vectors = rng.normal(size=(total, 3)).astype(np.float32)
    codes = [rng.integers(-1, kinds, (total, 2)).astype(np.int32) for _, _, kinds in caps]

    def selection() -> Selection:
        states = [
            CapState(Cap(feature=f"v__{number}", most=most, window=window), of.__getitem__)
            for number, ((most, window, _), of) in enumerate(zip(caps, codes, strict=True))
        ]
        variety = None if trade is None else Variety(trade, relevance, lambda part: vectors[part])
        return Selection(total, states, variety)

    yielding, strict = selection(), selection()
    whole, first = list(yielding.fill(places, keep=False)), list(strict.fill(places, keep=True))
    # As long as all caps can be kept, both say the same; behind that place some cap yields.
    assert first == whole[: len(first)]
    assert strict.blocked == (len(first) < min(places, total)) == bool(yielding.yielded)
    assert not strict.yielded
    chosen: list[int] = []
    for found in whole:
        open_ = [each for each in range(total) if each not in chosen]
        for (most, window, _), of in zip(caps, codes, strict=True):
            kept = [each for each in open_ if fits(of, most, window, [*chosen, each])]
            open_ = kept or open_
        values = {each: value(each, trade, relevance, vectors, chosen) for each in open_}
        assert values.get(found, -9.0) == pytest.approx(max(values.values()), abs=1e-5)
        assert trade is not None or found == open_[0]
        chosen.append(found)
    assert len(chosen) == min(places, total)


def fits(codes: npt.NDArray[np.int32], most: int, window: int | None, chosen: Sequence[int]) -> bool:
    """Whether the last one of a list may stand there."""
    counts = Counter(code for each in chosen[-(window or len(chosen)) :] for code in {*codes[each].tolist()} - {-1})
    return all(counts[code] <= most for code in {*codes[chosen[-1]].tolist()} - {-1})


def value(
    candidate: int,
    trade: float | None,
    relevance: npt.NDArray[np.float64],
    vectors: npt.NDArray[np.float32],
    chosen: Sequence[int],
) -> float:
    """Return what diversity makes of a candidate."""
    span = relevance[0] - relevance[-1]
    score = float((relevance[candidate] - relevance[-1]) / span) if span else 0.0
    if trade is None:
        return score
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    likeness = max([0.0, *(float(units[each] @ units[candidate]) for each in chosen)])
    return trade * score - (1 - trade) * likeness
