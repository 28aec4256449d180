"""Rows end to end: against loops over lists."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from prmkit.utils.ragged import Ragged, row_starts

ROWS = st.lists(st.lists(st.integers(-9, 9), max_size=5), max_size=8)


@given(ROWS)
def test_ragged_agrees_with_lists(rows):
    ragged = Ragged.from_arrays(rows)
    assert len(ragged) == len(rows)
    assert [part.tolist() for part in ragged.split()] == rows
    assert ragged.rows.tolist() == [i for i, row in enumerate(rows) for _ in row]
    assert ragged.positions.tolist() == [i for row in rows for i in range(len(row))]
    assert row_starts(ragged.lengths).tolist() == [sum(map(len, rows[:i])) for i in range(len(rows))]
    assert ragged.cumsum().tolist() == [sum(row[: i + 1]) for row in rows for i in range(len(row))]
    backwards = list(range(len(rows)))[::-1]
    assert [part.tolist() for part in ragged.take(backwards).split()] == rows[::-1]


@given(st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=5), max_size=8))
def test_reduce_gives_one_number_per_row(rows):
    ragged = Ragged.from_arrays(rows)
    assert ragged.reduce(np.add).tolist() == [sum(row) for row in rows]
    assert ragged.reduce(np.minimum).tolist() == [min(row) for row in rows]


def test_reduce_refuses_empty_rows():
    with pytest.raises(ValueError, match="row 1 is empty"):
        Ragged.from_arrays([[1], [], [2]]).reduce(np.add)


def test_a_running_sum_stays_in_its_row():
    ragged = Ragged.from_arrays([[-np.inf, 1.0], [1e-9, 2.0]])
    assert ragged.cumsum()[2:].tolist() == [1e-9, 2.0 + 1e-9]
