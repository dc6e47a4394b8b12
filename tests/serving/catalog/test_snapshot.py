"""A catalog that changes at random, held against a plain list of its items, with every kind of index."""

from dataclasses import dataclass, replace
from pathlib import Path
from time import process_time
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from rf_platform.features.spec import EntitySpec, FeatureSpec, FieldSpec
from rf_serving.catalog.base_segment import BaseSegment
from rf_serving.catalog.item_schema import ItemSchema
from rf_serving.catalog.mem_segment import LiveItems
from rf_serving.catalog.snapshot import CatalogSnapshot
from rf_serving.catalog.state import CatalogState
from rf_serving.index import ExactIndex, HnswIndex, VectorIndex
from rf_serving.index.vector_index import NO_ROW

DIM = 8
SPEC = FeatureSpec(
    service="retrieval",
    user=EntitySpec(name="user", join_key="user_id", id_type="string"),
    item=EntitySpec(name="item", join_key="item_id", id_type="string"),
    fields=(FieldSpec(view="item", field="name", side="item", kind="categorical", role="display", dtype="String"),),
    domains=(),
    history_length=5,
)
SCHEMA = ItemSchema(SPEC, {})
Vector = npt.NDArray[np.float32]


def vectors_of(count: int, seed: int) -> Vector:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM)).astype(np.float32)
    unit: Vector = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def states_of(vectors: Vector) -> npt.NDArray[np.float16]:
    """What a re-ranker would keep of items."""
    sides: npt.NDArray[np.float16] = vectors[:, 1:4].astype(np.float16)
    return sides


def table(ids: list[str], sequences: list[int]) -> pa.Table:
    return SCHEMA.table(ids, [{"item__name": f"{item} at {n}"} for item, n in zip(ids, sequences, strict=True)])


def base_of(count: int, kind: type[VectorIndex] = ExactIndex) -> BaseSegment:
    ids, vectors = [f"built {n}" for n in range(count)], vectors_of(count, 1)
    return BaseSegment(
        path=Path(),
        schema=SCHEMA,
        ids=ids,
        row_of={item: row for row, item in enumerate(ids)},
        index=kind.build(vectors),
        vectors_ND=vectors,
        tokens_ND=-vectors,
        item_states_NW=states_of(vectors),
        read_items=lambda: table(ids, [0] * count),
    )


def live(ids: list[str], vectors: Vector, sequence: int) -> LiveItems:
    sequences = [sequence + n for n in range(len(ids))]
    return LiveItems(ids, sequences, table(ids, sequences), vectors, -vectors, states_of(vectors))


@dataclass
class Model:
    """What the catalog should be: vector and change by item."""

    items: dict[str, tuple[Vector, int]]

    def best(self, query: Vector, k: int) -> list[str]:
        return sorted(self.items, key=lambda item: -float(self.items[item][0] @ query))[:k]

    def check(self, snapshot: CatalogSnapshot, queries: Vector, *, exact: bool = True) -> None:
        assert snapshot.alive == len(self.items) == np.count_nonzero(snapshot.live_mask_N)
        assert snapshot.alive_base == np.count_nonzero(snapshot.live_mask_N[: snapshot.base.rows])
        for k in (1, 5, len(self.items), len(self.items) + 10):
            found = snapshot.search(queries, k)
            assert found.rows.shape == found.scores.shape == (len(queries), min(k, len(self.items)))
            assert (found.rows != NO_ROW).all()
            assert snapshot.live_mask_N[found.rows].all()
            for rows, scores, query in zip(found.rows, found.scores, queries, strict=True):
                assert len(set(rows.tolist())) == len(rows)
                np.testing.assert_allclose(scores, snapshot.vectors(rows) @ query, atol=1e-5)
                assert (np.diff(scores) <= 1e-6).all()
                if exact:
                    assert snapshot.texts(rows) == self.best(query, k)
        scanned = snapshot.scan(queries[0])
        assert snapshot.texts(scanned.rows) == self.best(queries[0], len(self.items))
        some = list(self.items)[::3]
        rows = snapshot.rows_of(some)
        np.testing.assert_array_equal(snapshot.vectors(rows), np.stack([self.items[item][0] for item in some]))
        np.testing.assert_array_equal(snapshot.tokens(rows), -np.stack([self.items[item][0] for item in some]))
        sides = snapshot.item_states(rows)
        assert sides.dtype == np.float16
        np.testing.assert_array_equal(sides, states_of(snapshot.vectors(rows)))
        assert snapshot.sequences(rows) == [self.items[item][1] for item in some]
        assert snapshot.values(rows) == [{"item__name": f"{item} at {self.items[item][1]}"} for item in some]
        assert snapshot.texts(rows.tolist()) == some
        blocks = list(snapshot.blocks(7))
        assert sum(len(block) for _, block in blocks) == snapshot.rows
        assert all((block == snapshot.vectors(np.arange(first, first + len(block)))).all() for first, block in blocks)


def change(state: CatalogState, model: Model, rng: np.random.Generator, sequence: int) -> int:
    """Put and remove some items at random; return the next change's number."""
    known = sorted(model.items)
    ids = [*rng.choice(known, min(3, len(known)), replace=False).tolist(), *(f"new {sequence + n}" for n in range(3))]
    vectors = vectors_of(len(ids), 100 + sequence)
    state.put(live(ids, vectors, sequence))
    model.items.update(
        {item: (vector, sequence + n) for n, (item, vector) in enumerate(zip(ids, vectors, strict=True))}
    )
    sequence += len(ids)
    gone = [*rng.choice(sorted(model.items), 4, replace=False).tolist(), "never was"]
    state.remove({item: sequence + n for n, item in enumerate(gone)})
    for item in gone:
        model.items.pop(item, None)
    return sequence + len(gone)


@pytest.mark.parametrize("kind", [ExactIndex, HnswIndex])
def test_a_catalog_that_changes_is_what_a_plain_list_is(kind: type[VectorIndex]) -> None:
    base = base_of(60, kind)
    state = CatalogState(cast(Any, None), base)
    model = Model({str(item): (vector, 0) for item, vector in zip(base.ids, base.vectors_ND, strict=True)})
    rng, queries = np.random.default_rng(0), vectors_of(4, 9)
    past = []
    sequence = 1
    for _ in range(25):
        sequence = change(state, model, rng, sequence)
        past.append((state.snapshot(sequence - 1), Model(dict(model.items))))
        model.check(past[-1][0], queries)
    for snapshot, then in past:  # none of them has changed since
        then.check(snapshot, queries)


def test_a_catalog_on_a_new_base_is_the_same_catalog() -> None:
    base = base_of(40)
    state = CatalogState(cast(Any, None), base)
    model = Model({str(item): (vector, 0) for item, vector in zip(base.ids, base.vectors_ND, strict=True)})
    rng, queries = np.random.default_rng(1), vectors_of(4, 9)
    sequence = 1
    for _ in range(5):
        sequence = change(state, model, rng, sequence)
    then, last = Model(dict(model.items)), sequence - 1
    for _ in range(5):
        sequence = change(state, model, rng, sequence)
    ids, vectors = list(then.items), np.stack([vector for vector, _ in then.items.values()])
    sequences = [n for _, n in then.items.values()]
    compacted = BaseSegment(
        path=Path(),
        schema=SCHEMA,
        ids=ids,
        row_of={item: row for row, item in enumerate(ids)},
        index=ExactIndex.build(vectors),
        vectors_ND=vectors,
        tokens_ND=-vectors,
        item_states_NW=states_of(vectors),
        read_items=lambda: table(ids, sequences),
        sequence=last,
        sequence_N=np.array(sequences),
    )
    moved = state.moved_to(compacted)
    model.check(moved.snapshot(sequence - 1), queries)
    for _ in range(5):
        sequence = change(moved, model, rng, sequence)
    model.check(moved.snapshot(sequence - 1), queries)


@pytest.mark.parametrize("kind", [ExactIndex, HnswIndex])
def test_k_items_are_found_while_k_live_though_all_that_is_near_is_dead(kind: type[VectorIndex]) -> None:
    base = base_of(3000, kind)
    state = CatalogState(cast(Any, None), base)
    query = vectors_of(1, 9)
    near = np.argsort(-(base.vectors_ND @ query[0]))[:2900]
    state.remove({base.ids[row]: 1 + n for n, row in enumerate(near)})
    living = {str(base.ids[row]): (base.vectors_ND[row], 0) for row in set(range(3000)) - set(near.tolist())}
    Model(living).check(state.snapshot(2900), query, exact=kind.exact)
    found = state.snapshot(2900).search(query, 50)
    assert state.snapshot(2900).texts(found.rows[0]) == Model(living).best(query[0], 50)


def test_an_emptied_catalog_finds_nothing() -> None:
    base = base_of(5)
    state = CatalogState(cast(Any, None), base)
    state.remove({item: 1 + n for n, item in enumerate(base.ids)})
    found = state.snapshot(5).search(vectors_of(2, 9), 3)
    assert found.rows.shape == found.scores.shape == (2, 0)
    state.put(live(["only"], vectors_of(1, 3), 6))
    assert state.snapshot(6).texts(state.snapshot(6).search(vectors_of(2, 9), 3).rows[0]) == ["only"]


def test_the_row_of_an_item_that_was_deleted_is_still_known() -> None:
    """It may be in histories, whose other items it helps to read."""
    base = base_of(5)
    state = CatalogState(cast(Any, None), base)
    state.put(live(["new"], vectors_of(1, 3), 1))
    state.remove({"new": 2, "built 3": 3})
    snapshot = state.snapshot(3)
    assert snapshot.rows_of(["new", "built 3", "never"]).tolist() == [5, 3, NO_ROW]


def test_ten_thousand_changed_items_cost_a_search_less_than_a_millisecond() -> None:
    dim, rows = 64, 10_000
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((rows, dim)).astype(np.float32)
    ids = [f"built {n}" for n in range(100)]
    base = BaseSegment(
        path=Path(),
        schema=SCHEMA,
        ids=ids,
        row_of={item: row for row, item in enumerate(ids)},
        index=ExactIndex.build(vectors[:100]),
        vectors_ND=vectors[:100],
        tokens_ND=vectors[:100],
        item_states_NW=states_of(vectors[:100]),
        read_items=lambda: table(ids, [0] * 100),
    )
    state = CatalogState(cast(Any, None), base)
    alone = state.snapshot(0)
    state.put(live([f"new {n}" for n in range(rows)], vectors, 1))
    state.remove({f"new {n}": rows + n + 1 for n in range(0, rows, 10)})
    snapshot, query = state.snapshot(2 * rows), vectors[:1].copy()

    def seconds(of: CatalogSnapshot) -> float:
        times = []
        for _ in range(50):
            start = process_time()
            of.search(query, 100)
            times.append(process_time() - start)
        return min(times)

    assert seconds(snapshot) - seconds(alone) < 1e-3


@pytest.mark.parametrize("integers", [False, True])
def test_many_ids_are_looked_up_as_one_is(integers: bool) -> None:
    """Ids of the base in any order, of items changed since, of new ones, and of none; in a snapshot before others."""
    texts = [*(f"built {n}" for n in np.random.default_rng(2).permutation(40)), *(f"new {n}" for n in range(9))]
    name: dict[str, Any] = {text: n * 7919 % 101 - 50 if integers else text for n, text in enumerate(texts)}
    ids = [name[text] for text in texts[:40]]
    base = replace(base_of(40), ids=ids, row_of={item: row for row, item in enumerate(ids)})
    state = CatalogState(cast(Any, None), base)
    snapshots = [state.snapshot(0)]
    for sequence, changed in ((1, ["new 0", "built 3"]), (3, ["new 0", "built 3", "built 7", "new 5"])):
        items = live(changed, vectors_of(len(changed), sequence), sequence)
        state.put(replace(items, ids=[name[each] for each in changed]))
        snapshots.append(state.snapshot(sequence + len(changed) - 1))

    def found(snapshot: CatalogSnapshot, asked: list[Any]) -> list[int]:
        rows: list[int] = snapshot.find_rows(np.array(asked, np.int64) if integers else asked).tolist()
        return rows

    asked = [*sorted(name.values()), *name.values(), 10_000 if integers else "nothing"]
    for snapshot in snapshots:
        assert found(snapshot, asked) == snapshot.rows_of(asked).tolist()
        assert found(snapshot, []) == []
    assert [found(snapshot, [name["new 0"]]) for snapshot in snapshots] == [[NO_ROW], [40], [42]]
    nothing = replace(base, ids=[], row_of={}, vectors_ND=base.vectors_ND[:0])
    assert nothing.find_rows(np.array([3, 4]) if integers else ["a", "b"]).tolist() == [NO_ROW, NO_ROW]
