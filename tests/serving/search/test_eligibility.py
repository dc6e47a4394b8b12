"""What may be returned: lists, conditions and their combination, in catalogs that change."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rf_platform.features.dtype import Dtype
from rf_serving.search import Condition, Eligibility, ItemFilter, columns
from rf_serving.search.columns import ItemColumns
from rf_serving.search.condition import Operator

COLUMNS = {
    "item__tags": [["a"], ["a", "b"], [], None, ["b"], ["c"]],
    "item__year": [1990, 1991, 1992, None, 1994, 1995],
}


def vectors(count: int) -> np.ndarray:
    return np.eye(count, 8, dtype=np.float32)


@pytest.fixture
def base(make_base: Callable[..., Any]) -> Any:
    return make_base(vectors(6), COLUMNS)


@pytest.fixture
def eligibility(base: Any, make_spec: Callable[..., Any]) -> Eligibility:
    return Eligibility(make_spec(*COLUMNS))


def tags(how: str, *values: str) -> Condition:
    return Condition(feature="item__tags", operator=Operator(how), values=values)


def year(how: str, *values: int) -> Condition:
    return Condition(feature="item__year", operator=Operator(how), values=values)


def rows(found: Any) -> list[int]:
    assert found.count == len(found.passing.rows) - len(found.denied)
    return sorted(set(found.passing.rows.tolist()) - set(found.denied.tolist()))


def test_everything_is_combined(base: Any, make_snapshot: Callable[..., Any], eligibility: Eligibility) -> None:
    catalog = make_snapshot(base)
    for asked, expected in (
        (ItemFilter(), [0, 1, 2, 3, 4, 5]),
        (ItemFilter(where=frozenset({tags("ANY_OF", "a", "b")})), [0, 1, 4]),
        (ItemFilter(where=frozenset({tags("ANY_OF", "a", "b"), year("AT_LEAST", 1991)})), [1, 4]),
        (ItemFilter(where=frozenset({tags("NONE_OF", "a"), year("PRESENT")})), [2, 4, 5]),
        (ItemFilter(allow=(5, 0, 99, 0)), [0, 5]),
        (ItemFilter(allow=(99,)), []),
        (ItemFilter(deny=(5, 0, 99)), [1, 2, 3, 4]),
        (ItemFilter(allow=(0, 1, 2), deny=(1, 4), where=frozenset({year("LESS", 1992)})), [0]),
    ):
        assert rows(eligibility.of(catalog, asked)) == expected


def test_seen_items_are_excluded_once_and_only_if_they_pass(
    base: Any, make_snapshot: Callable[..., Any], eligibility: Eligibility
) -> None:
    found = eligibility.of(make_snapshot(base), ItemFilter(deny=(0,), where=frozenset({tags("ANY_OF", "a", "b")})))
    assert found.excluded(np.array([4, 4, 0, 2])).tolist() == [0, 4]
    assert found.excluded(np.zeros(0, np.int64)).tolist() == [0]


def test_a_changed_catalog_is_filtered_as_it_is_now(
    base: Any, make_snapshot: Callable[..., Any], eligibility: Eligibility
) -> None:
    asked = ItemFilter(where=frozenset({tags("ANY_OF", "b")}))
    assert rows(eligibility.of(make_snapshot(base), asked)) == [1, 4]
    assert rows(eligibility.of(make_snapshot(base, dead=[4]), asked)) == [1]
    # Item 1 loses the tag, item 0 gains it, item 7 is new; rows 6 and on are the delta's.
    added = {
        1: (vectors(8)[1], {}),
        0: (vectors(8)[0], {"item__tags": ["b"]}),
        7: (vectors(8)[7], {"item__tags": ["b", "z"]}),
    }
    changed = make_snapshot(base, added=added)
    assert rows(eligibility.of(changed, asked)) == [4, 7, 8]
    assert rows(eligibility.of(changed, ItemFilter(allow=(0, 7)))) == [7, 8]
    assert rows(eligibility.of(changed, ItemFilter(deny=(0, 7), where=asked.where))) == [4]
    assert rows(eligibility.of(changed, ItemFilter(where=frozenset({tags("ABSENT")})))) == [2, 3, 6]
    assert rows(eligibility.of(make_snapshot(base), asked)) == [1, 4]


def test_a_new_base_is_ready_before_it_is_asked(
    base: Any, make_base: Callable[..., Any], make_snapshot: Callable[..., Any], eligibility: Eligibility
) -> None:
    asked = ItemFilter(where=frozenset({tags("ANY_OF", "b"), year("LESS", 1992)}))
    eligibility.of(make_snapshot(base), asked)
    reads: list[str] = []
    compacted = make_base(vectors(6), {**COLUMNS, "item__year": [2000] * 6})
    read = compacted.column

    def noted(name: str) -> Any:
        reads.append(name)
        return read(name)

    object.__setattr__(compacted, "column", noted)
    eligibility.warm(make_snapshot(compacted))
    assert sorted(reads) == ["item__tags", "item__year"]
    assert rows(eligibility.of(make_snapshot(base), asked)) == [1]
    assert rows(eligibility.of(make_snapshot(compacted), asked)) == []
    assert len(reads) == 2


def test_masks_are_kept_up_to_a_limit(base: Any, make_spec: Callable[..., Any]) -> None:
    columns = ItemColumns(6, base.column, {"item__year": Dtype("Int64")}, frozenset(), mask_bytes=12)
    first = columns.passes(year("LESS", 1991))
    assert columns.passes(year("LESS", 1991)) is first
    columns.passes(year("LESS", 1992))
    assert columns.passes(year("LESS", 1991)) is first
    # A third one: the one that was not asked for longest goes.
    columns.passes(year("LESS", 1993))
    assert columns.passes(year("LESS", 1991)) is first
    columns.passes(year("LESS", 1994))
    columns.passes(year("LESS", 1995))
    assert columns.passes(year("LESS", 1991)) is not first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = True


def test_lists_of_values_and_masks_let_the_same_rows_pass(
    make_base: Callable[..., Any], make_spec: Callable[..., Any], make_snapshot: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Values that few have, combined with ones that many have, one asked for before, ranges, deleted and added items."""
    draw = np.random.default_rng(0)
    names = np.array(list("abcdefgh"))
    many = [[*names[draw.random(8) < 2.0 ** -np.arange(1, 9)]] for _ in range(600)]
    base = make_base(vectors(600), {"item__tags": many, "item__year": draw.integers(1990, 2000, 600).tolist()})
    catalog = make_snapshot(
        base, dead=[*range(0, 600, 7)], added={700: (vectors(1)[0], {"item__tags": ["d", "a", "e"]})}
    )
    every = [*many, ["d", "a", "e"]]
    years = [*base.column("item__year").to_pylist(), None]
    for looked_up in (0, 4096):
        monkeypatch.setattr(columns, "LOOKED_UP", looked_up)
        eligibility = Eligibility(make_spec("item__tags", "item__year"))
        for first, second, year_, added in (
            (("d",), ("a",), 2000, True),
            (("d", "e"), ("b",), 1995, False),
            (("e",), ("d",), 2000, True),
            (("h",), ("h",), 1, False),
        ):
            asked = ItemFilter(where=frozenset({tags("ANY_OF", *first), tags("ALL_OF", *second), year("LESS", year_)}))
            passing = eligibility.of(catalog, asked).passing
            expected = [
                row
                for row, (has, made) in enumerate(zip(every, years, strict=True))
                if catalog.live_mask_N[row]
                and set(first) & set(has)
                and set(second) <= set(has)
                and made is not None
                and made < year_
            ]
            assert passing.listed
            assert passing.rows.tolist() == np.flatnonzero(passing.mask).tolist() == expected
            without_year = ItemFilter(where=frozenset({tags("ANY_OF", *first), tags("ALL_OF", *second)}))
            assert (600 in eligibility.of(catalog, without_year).passing.rows) == added
