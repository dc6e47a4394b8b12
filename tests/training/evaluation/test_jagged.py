import numpy as np

from rf_training.evaluation.sequences import Jagged, gather

ROWS = Jagged(np.array([5, 6, 7, 8], dtype=np.int32), np.array([0, 3, 3, 4]))


def test_rows() -> None:
    assert len(ROWS) == 3
    assert ROWS.lengths.tolist() == [3, 0, 1]
    assert ROWS.row_of_value.tolist() == [0, 0, 0, 2]


def test_last_keeps_the_end_of_each_row() -> None:
    last = ROWS.last(2)
    assert last.values.tolist() == [6, 7, 8]
    assert last.offsets.tolist() == [0, 2, 2, 3]


def test_last_of_more_than_there_is() -> None:
    assert ROWS.last(9).values.tolist() == ROWS.values.tolist()


def test_gather_copies_slices_in_any_order() -> None:
    source = np.arange(10, dtype=np.int32)
    rows = gather(source, np.array([7, 0, 4]), np.array([9, 3, 4]))
    assert rows.values.tolist() == [7, 8, 0, 1, 2]
    assert rows.offsets.tolist() == [0, 2, 5, 5]
    assert not np.shares_memory(rows.values, source)
