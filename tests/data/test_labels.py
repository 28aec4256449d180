import numpy as np
import pandas as pd
import pytest

from prmkit.data.labels import (
    first_error_to_ratings,
    names_to_ratings,
    ratings_to_first_error,
    ratings_to_names,
    resolve_label_order,
)


@pytest.mark.parametrize("container", [list, tuple, np.array, pd.Series, lambda r: np.array(r, dtype=float)])
def test_ratings_and_names_are_each_others_inverse(container):
    ratings = [1, 0, -1, 1]
    names = ratings_to_names(container(ratings))
    assert names.tolist() == ["positive", "neutral", "negative", "positive"]
    assert names.dtype.kind == "U"
    back = names_to_ratings(names)
    assert back.tolist() == ratings
    assert back.dtype == np.int64


def test_names_are_stripped_and_otherwise_exact():
    assert names_to_ratings([" neutral\n"]).tolist() == [0]
    with pytest.raises(
        ValueError, match=r"names\[1\] is 'Positive', expected one of 'negative', 'neutral', 'positive'"
    ):
        names_to_ratings(["positive", "Positive"])
    with pytest.raises(ValueError, match=r"names\[0\] is 1"):
        names_to_ratings([1])


@pytest.mark.parametrize("missing", [None, float("nan"), np.float64("nan")])
def test_an_unlabelled_step_has_no_name(missing):
    with pytest.raises(ValueError, match=r"ratings\[2\] is (None|nan): an unlabelled step has no name"):
        ratings_to_names([1, 0, missing])


@pytest.mark.parametrize("wrong", [2, 0.5, "positive", True, np.False_, pd.NA])
def test_other_values_are_no_ratings(wrong):
    with pytest.raises(ValueError, match=r"ratings\[1\] is .*expected -1, 0, \+1"):
        ratings_to_names([1, wrong])
    with pytest.raises(ValueError, match=r"ratings\[1\] is .*expected -1, 0, \+1"):
        ratings_to_first_error([1, wrong])


def test_one_string_and_nested_lists_are_refused():
    with pytest.raises(ValueError, match="one string"):
        names_to_ratings("positive")
    with pytest.raises(ValueError, match=r"shape \(2, 2\)"):
        ratings_to_names([[1, 0], [0, 1]])


def test_empty_lists_convert_to_empty_arrays():
    assert ratings_to_names([]).shape == (0,)
    assert names_to_ratings([]).shape == (0,)


@pytest.mark.parametrize(
    ("first_error", "n_steps", "ratings"),
    [
        (0, 3, (-1, None, None)),
        (1, 3, (1, -1, None)),
        (2, 3, (1, 1, -1)),
        (-1, 3, (1, 1, 1)),
        (None, 2, (None, None)),
        (np.int64(1), 2, (1, -1)),
        (-1, 0, ()),
    ],
)
def test_first_error_and_ratings(first_error, n_steps, ratings):
    assert first_error_to_ratings(first_error, n_steps) == ratings
    if n_steps:
        assert ratings_to_first_error(ratings) == first_error


@pytest.mark.parametrize("first_error", [3, -2, 100])
def test_a_first_error_outside_the_solution_is_never_clipped(first_error):
    with pytest.raises(ValueError, match=f"first_error is {first_error} in a solution of 3 steps"):
        first_error_to_ratings(first_error, 3)


@pytest.mark.parametrize("first_error", ["1", 1.0, True])
def test_a_first_error_is_an_int(first_error):
    with pytest.raises(ValueError, match="expected an int"):
        first_error_to_ratings(first_error, 3)


@pytest.mark.parametrize(
    ("ratings", "first_error", "if_right"),
    [
        ((1, 1, None, -1), None, 3),  # the worked example of PRM800K's trajectories
        (np.array([1.0, np.nan, -1.0, -1.0]), None, 2),
        ([None, -1], None, 1),
        ([1, -1, None, -1], 1, 1),
        ([1, 0, -1, None], 2, 2),
        ([1, 0, None], None, None),
        ([1, float("nan")], None, None),
        ([1, 0, 1], -1, -1),
        ([None], None, None),
        ([], -1, -1),
    ],
)
def test_an_unlabelled_step_before_the_first_error_hides_it_unless_it_is_right(ratings, first_error, if_right):
    assert ratings_to_first_error(ratings) == first_error
    assert ratings_to_first_error(ratings, unlabelled="right") == if_right


def test_an_unlabelled_step_has_one_of_two_meanings():
    with pytest.raises(ValueError, match="unlabelled is 'wrong', expected 'unknown' or 'right'"):
        ratings_to_first_error([1, -1], unlabelled="wrong")


@pytest.mark.parametrize(
    ("classes", "order"),
    [
        ([1, 0, -1], (-1, 0, 1)),
        ([-1, 1], (-1, 1)),
        ([-1, 0], (-1, 0)),
        (np.array([-1.0, 1.0]), (-1, 1)),
        (["positive", "neutral", "negative"], ("negative", "neutral", "positive")),
        (np.array(["negative", "positive"]), ("negative", "positive")),
        (["+", "-"], ("-", "+")),
        ([True, False], (False, True)),
        (np.array([False, True]), (False, True)),
        ([0, 1], (0, 1)),
        ([2, 0, 1], (0, 1, 2)),
        ([np.int8(0), np.int32(1)], (0, 1)),
        (["neutral", "positive"], None),
        ([1, 2], None),
        (["bad", "good"], None),
        ([0, 1, 2, 3], None),
        (["negative", "positive", "unsure"], None),
        ([0], None),
        ([0.0, 0.5], None),
        ([-1, 2], None),
    ],
)
def test_known_vocabularies_are_recognised_and_nothing_is_guessed(classes, order):
    assert resolve_label_order(classes) == order


def test_the_order_holds_plain_values_that_compare_with_the_classes():
    order = resolve_label_order(np.array(["negative", "positive"]))
    assert type(order[0]) is str


def test_a_given_order_wins_and_may_name_more_labels():
    assert resolve_label_order([0, 1], label_order=[1, 0]) == (1, 0)
    assert resolve_label_order(["good", "bad"], label_order=("bad", "fair", "good")) == ("bad", "good")


def test_a_given_order_must_name_every_class_once():
    with pytest.raises(ValueError, match=r"label_order=\['bad', 'good'\] lacks \['fair'\]"):
        resolve_label_order(["bad", "fair", "good"], label_order=["bad", "good"])
    with pytest.raises(ValueError, match="names a label twice"):
        resolve_label_order(["bad", "good"], label_order=["bad", "good", "bad"])
    with pytest.raises(ValueError, match="one string"):
        resolve_label_order(["bad", "good"], label_order="bad")
