"""The map of the item vectors as a chart."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from rf_training.report.drawing import HALO, REST, SERIES, TEXT, Chart, finish, panel
from rf_training.report.item_map import ItemMap

LABELS = 14
"""Most titles written beside their points."""
SIZES = 6
"""Different sizes of points."""
LONGEST_LABEL = 26
"""Characters of a title that are shown."""


def map_chart(items: ItemMap) -> Chart:
    """Draw the item vectors with the titles of popular items where there is room for them."""
    title = "Item vectors" if items.colouring is None else f"Item vectors by {items.colouring.field.replace('_', ' ')}"
    with panel(title, width=7.4, height=5.9) as (figure, axes):
        _scatter(axes, items)
        axes.set(
            xlabel=f"first principal component ({items.explained[0]:.0%} of the variance)",
            ylabel=f"second ({items.explained[1]:.0%})",
        )
        axes.tick_params(labelbottom=False, labelleft=False)
        axes.margins(0.04)
        axes.grid(visible=False)
        if items.colouring is not None:
            figure.legend(loc="outside lower left", ncols=4, handletextpad=0.2, columnspacing=1.0)
        if items.titles is not None:
            _label(figure, axes, items)
        return finish(figure, name="item-map", title=title, note=_note(items), wide=True)


def _scatter(axes: Axes, items: ItemMap) -> None:
    """Draw the points, the smallest first; few sizes and one element for each colour of a size keep the page small."""
    share = np.sqrt(items.counts / max(1, items.counts.max()))
    sizes = np.linspace(2.2, 7.5, SIZES)[np.minimum((share * SIZES).astype(np.int64), SIZES - 1)]
    inks, names = [SERIES[0]], [""]
    codes = np.zeros(len(items.points), np.int64)
    if items.colouring is not None:
        codes = items.colouring.codes
        inks = [*SERIES[: len(items.colouring.values)], REST]
        names = [*map(shorten, items.colouring.values), "other or none"]
    for size in np.unique(sizes):
        for code in reversed(range(len(inks))):
            chosen = items.shown[(codes[items.shown] == code) & (sizes[items.shown] == size)]
            if len(chosen):
                axes.plot(
                    *items.points[chosen].T, "o", markersize=size, color=inks[code].light, alpha=0.7, markeredgewidth=0
                )
    for code, name in enumerate(names):
        if name and (codes[items.shown] == code).any():
            axes.plot([], [], "o", markersize=6, color=inks[code].light, markeredgewidth=0, label=name)


def _label(figure: Figure, axes: Axes, items: ItemMap) -> None:
    """Write titles from the most popular item on, to the right or left of the point, where they cover no other title."""
    assert items.titles is not None
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    taken: list[Bbox] = []
    for item in items.shown[::-1][: 6 * LABELS]:
        if len(taken) == LABELS or items.counts[item] == 0:
            break
        if not items.titles[item].strip():
            continue
        for side, align in ((6, "left"), (-6, "right")):
            text: Text = axes.annotate(
                shorten(items.titles[item]),
                (float(items.points[item, 0]), float(items.points[item, 1])),
                xytext=(side, 0),
                textcoords="offset points",
                ha=align,
                va="center",
                fontsize=8.5,
                color=TEXT.light,
                gid=f"{HALO}-{item}",
            )
            box = text.get_window_extent().expanded(1.05, 1.25)
            if frame.containsx(box.x0) and frame.containsx(box.x1) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _note(items: ItemMap) -> str:
    note = "Each point is an item of the catalog; its size grows with the number of training events."
    if len(items.shown) < len(items.points):
        note = (
            f"{len(items.shown):,} of {len(items.points):,} items, the most popular and a random part of the others; "
            "the size of a point grows with the number of training events."
        )
    if items.colouring is None:
        note += " No item feature is categorical, so all points have one colour."
    else:
        note += f" The colour is the item's {items.colouring.field}: of several values the one most frequent in the catalog."
    if items.titles is None:
        note += " The feature service has no display field for items (tag role=display), so no item is named."
    return note


def shorten(text: str) -> str:
    """Return a text on one line, cut where it is longer than :data:`LONGEST_LABEL`."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1].rstrip() + "…"
