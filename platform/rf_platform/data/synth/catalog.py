"""Items: cells of alike ones, attributes that tell the cells apart, popularity by Zipf's law, times of entry.

A *cell* is a style within a category. Users choose cells by taste and items within a cell by popularity; an item's category,
brand, tags and price follow from its cell but for some noise, so they explain choices of it, also before its first event.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rf_platform.data.synth.options import SynthOptions

START = 1_704_067_200_000_000
"""2024-01-01T00:00Z, when the first events may happen, in microseconds since 1970."""
DAY = 86_400_000_000
DAYS = 366
"""Length of the period; new items enter during it."""

ZIPF_EXPONENT, ZIPF_SHIFT = 1.2, 10.0
"""Popularity of the item of rank r is (r + shift) ** -exponent (Zipf-Mandelbrot); the shift keeps the head from being all."""
ITEMS_PER_CELL = 25
MOST_CATEGORIES, MOST_STYLES = 400, 40
BRANDS_PER_CATEGORY, BRANDS_PER_STYLE = 8, 2
TAGS_PER_CATEGORY, TAGS_PER_STYLE, TAGS_PER_ITEM = 4, 3, 3
NEW_SHARE = 0.3
"""Share of the items that enter during the period."""
TRUE_BRAND, TRUE_TAG = 0.9, 0.9
"""Probability that a brand or a tag is that of the style."""

_ITEMS, _CELLS = 1, 2


@dataclass(frozen=True, kw_only=True, eq=False)
class SynthCatalog:
    """All items; they are few enough to be in memory: about 70 bytes each."""

    categories: int
    styles: int
    """Per category; cell = category * styles + style."""
    premium: npt.NDArray[np.float64]
    """[cells]: price level, standard normal."""
    cell: npt.NDArray[np.int32]
    """[items]"""
    brand: npt.NDArray[np.int32]
    """[items]: category * BRANDS_PER_CATEGORY + number."""
    tags: npt.NDArray[np.int32]
    """[items, TAGS_PER_ITEM]; one may occur twice."""
    price: npt.NDArray[np.float32]
    """[items]"""
    entry: npt.NDArray[np.int64]
    """[items]: microseconds since 1970."""
    anchor: npt.NDArray[np.int32]
    """[cells]: an item of the cell that was there before the period."""
    by_cell: npt.NDArray[np.int32]
    """[items]: items in the order of their cells."""
    reach: npt.NDArray[np.float64]
    """[items + 1]: summed popularity before each item in that order."""
    cell_start: npt.NDArray[np.int64]
    """[cells + 1]: where each cell begins in that order."""

    @property
    def tag_count(self) -> int:
        """Number of different tags."""
        return self.categories * TAGS_PER_CATEGORY

    @property
    def mass(self) -> npt.NDArray[np.float64]:
        """[cells]: summed popularity."""
        mass: npt.NDArray[np.float64] = np.diff(self.reach[self.cell_start])
        return mass

    @property
    def cheapest(self) -> npt.NDArray[np.int64]:
        """[categories]: cell of the style with the lowest price level."""
        premium = self.premium.reshape(self.categories, self.styles)
        cells: npt.NDArray[np.int64] = np.arange(self.categories) * self.styles + premium.argmin(axis=1)
        return cells

    def draw(self, cells: npt.NDArray[np.integer], uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.int32]:
        """Draw an item of each cell by popularity, given numbers from [0, 1)."""
        first, last = self.cell_start[cells], self.cell_start[cells + 1] - 1
        low = self.reach[first]
        position = np.searchsorted(self.reach, low + uniform * (self.reach[last + 1] - low), side="right") - 1
        items: npt.NDArray[np.int32] = self.by_cell[np.clip(position, first, last)]
        return items


def make_catalog(options: SynthOptions) -> SynthCatalog:
    """Make the items of a synthetic catalog."""
    items, rng, cells_rng = options.items, options.random(_ITEMS), options.random(_CELLS)
    side = max(2, round(math.sqrt(items / ITEMS_PER_CELL)))
    categories, styles = min(side, MOST_CATEGORIES), min(side, MOST_STYLES)
    cells = categories * styles
    premium = cells_rng.standard_normal(cells)
    share = np.repeat(1 / np.arange(2, categories + 2) ** 0.7, styles) * cells_rng.gamma(3, size=cells)
    style_brands = cells_rng.integers(0, BRANDS_PER_CATEGORY, (cells, BRANDS_PER_STYLE))
    tag_count = categories * TAGS_PER_CATEGORY
    style_tags = cells_rng.integers(0, tag_count, (cells, TAGS_PER_STYLE))

    # One item of each cell is set, so that none is empty; a permutation keeps ids from telling anything.
    order = rng.permutation(items)
    anchor = order[:cells].astype(np.int32)
    cell = np.empty(items, np.int32)
    cell[order] = np.concatenate([np.arange(cells), _choose(share, rng.random(items - cells))])
    popularity = (rng.permutation(items) + 1 + ZIPF_SHIFT) ** -ZIPF_EXPONENT
    brand = np.where(
        rng.random(items) < TRUE_BRAND,
        style_brands[cell, rng.integers(0, BRANDS_PER_STYLE, items)],
        rng.integers(0, BRANDS_PER_CATEGORY, items),
    )
    brand += (cell // styles) * BRANDS_PER_CATEGORY
    tags = np.where(
        rng.random((items, TAGS_PER_ITEM)) < TRUE_TAG,
        style_tags[cell[:, None], rng.integers(0, TAGS_PER_STYLE, (items, TAGS_PER_ITEM))],
        rng.integers(0, tag_count, (items, TAGS_PER_ITEM)),
    )
    price = np.exp(3 + 0.7 * premium[cell] + 0.3 * rng.standard_normal(items)).round(2)
    new = rng.random(items) < NEW_SHARE
    new[anchor] = False
    entry = START + (np.where(new, 0.95 * rng.random(items), -rng.random(items)) * DAYS * DAY).astype(np.int64)
    by_cell = np.argsort(cell, kind="stable").astype(np.int32)
    return SynthCatalog(
        categories=categories,
        styles=styles,
        premium=premium,
        cell=cell,
        brand=brand.astype(np.int32),
        tags=tags.astype(np.int32),
        price=price.astype(np.float32),
        entry=entry,
        anchor=anchor,
        by_cell=by_cell,
        reach=np.concatenate([[0], np.cumsum(popularity[by_cell])]),
        cell_start=np.searchsorted(cell[by_cell], np.arange(cells + 1)),
    )


def _choose(weights: npt.NDArray[np.float64], uniform: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return indices drawn by weight, given numbers from [0, 1)."""
    reach = np.cumsum(weights)
    chosen: npt.NDArray[np.int64] = np.searchsorted(reach, uniform * reach[-1], side="right")
    return chosen.clip(max=len(weights) - 1)
