"""``TokenStates``: rows of different numbers of tokens, which scikit-learn cuts as it cuts arrays."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold
from sklearn.utils import _safe_indexing

from prmkit.features import TokenStates


@pytest.fixture
def states() -> TokenStates:
    """Four steps of two problems with 2, 0, 3 and 1 tokens in two layers."""
    lengths = np.array([2, 0, 3, 1])
    values = np.arange(6 * 2 * 5, dtype=np.float16).reshape(6, 2, 5)
    columns = np.arange(8, dtype=np.float32).reshape(4, 2)
    return TokenStates(values, lengths, columns, ("step_index", "step_tokens"), np.array([0, 0, 7, 7]))


@pytest.mark.parametrize(
    "index",
    [[3, 0], np.array([3, 0]), np.array([True, False, True, False]), [False, True, True, False], slice(1, 3), []],
)
def test_a_part_holds_the_tokens_of_its_steps(states, index):
    part = states[index]
    rows = np.arange(4)[np.asarray(index, dtype=int) if isinstance(index, list) and not index else index]
    ends = np.cumsum(states.lengths)
    expected = [states.values[ends[row] - states.lengths[row] : ends[row]] for row in rows]
    assert part.shape == (len(rows),) == (len(part),)
    np.testing.assert_array_equal(part.values, np.concatenate([states.values[:0], *expected]))
    np.testing.assert_array_equal(part.columns, states.columns[rows])
    np.testing.assert_array_equal(part.problems, states.problems[rows])
    assert part.names == states.names


def test_scikit_learn_cuts_it_as_an_array(states):
    for train, test in GroupKFold(2).split(states, groups=states.problems):
        assert set(_safe_indexing(states, train).problems) & set(_safe_indexing(states, test).problems) == set()
    whole = pickle.loads(pickle.dumps(states))[:]
    assert whole.nbytes == states.nbytes
    assert repr(whole) == repr(states)


def test_rows_are_steps_of_one_token():
    rows = np.random.default_rng(0).normal(size=(3, 4))
    one = TokenStates.from_rows(rows)
    assert one.values.shape == (3, 1, 4)
    assert one.lengths.tolist() == [1, 1, 1]
    assert one.names == ()
    assert len(set(one.problems)) == 3
    with pytest.raises(ValueError, match="expected two dimensions: one row per step"):
        TokenStates.from_rows([1.0, 2.0])


def test_parts_that_do_not_fit_are_refused(states):
    with pytest.raises(ValueError, match="6 tokens, expected 5"):
        TokenStates(states.values, np.array([2, 0, 2, 1]), states.columns, states.names, states.problems)
    with pytest.raises(ValueError, match=r"columns has shape \(4, 2\), expected \(4, 1\)"):
        TokenStates(states.values, states.lengths, states.columns, ("step_index",), states.problems)
