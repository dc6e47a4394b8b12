"""Depths of a search: how many results are asked of an index, one number after the other, until enough of them are left.

Shapes: B requests, K results.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import compress, count

from rf_serving.index import Found
from rf_serving.index.tune import TUNED_FOR

ENOUGH = 1024
"""Most results that are asked for on account of seen items, unless twice ``k`` is more: beyond, the effort of an index grows in
proportion. A user with thousands of seen items nearly always has ``k`` others among the first thousand; if not, a scan runs."""


def depths(k: int, excluded: int) -> tuple[int, ...]:
    """Return how many results are asked of the index, one number after the other until ``k`` are left without the excluded rows.

    The best of what may be returned are among the best of all, wherever the excluded rows are: so what the index finds with its
    least effort is enough, unless it finds nearly nothing else than those.
    """
    least, most = (min(k + excluded, max(2 * k, enough)) for enough in (TUNED_FOR[0], ENOUGH))
    return tuple(dict.fromkeys((depth_of(least), depth_of(most))))


def search_deeper(
    depths_B: Sequence[tuple[int, ...]],
    search: Callable[[list[int], int], Found],
    take: Callable[[list[int], Found], Iterable[bool]],
) -> list[int]:
    """Search for requests, for those of one depth together, and deeper for those of which too little is left.

    Args:
        depths_B: depths of each request, as :func:`depths` has them; none: it is not searched for.
        search: returns what an index finds for requests, by their numbers, at a depth.
        take: is given what was found for some requests, and says of each whether it is enough.

    Returns:
        Numbers of the requests of which too little is left at every depth.
    """
    waiting = list(range(len(depths_B)))
    for turn in count():
        asking: dict[int, list[int]] = {}
        for number in waiting:
            if turn < len(depths_B[number]):
                asking.setdefault(depths_B[number][turn], []).append(number)
        if not asking:
            break
        done: set[int] = set()
        for depth, numbers in asking.items():
            done.update(compress(numbers, take(numbers, search(numbers, depth))))
        waiting = [number for number in waiting if number not in done]
    return waiting


def depth_of(needed: int) -> int:
    """Return how many results are asked of the index where ``needed`` are enough: one of few numbers.

    So requests can be searched together, and what is found for one does not depend on the others: an index may search more widely
    for more results. Up to 100 it makes the same effort; from 1,000 on the effort grows in proportion, and the numbers lie closer
    together.
    """
    if needed <= TUNED_FOR[0]:
        return TUNED_FOR[0]
    if needed <= 1024:
        return _power_above(needed)
    step = _power_above(needed) // 16
    return -(-needed // step) * step


def _power_above(number: int) -> int:
    return 1 << (number - 1).bit_length()
