"""Sets of first errors: the score, ties with the threshold, and sets that are never empty."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from prmkit.metrics import first_error_distribution
from prmkit.uncertainty import FirstErrorSet

risk = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 0.5]))
paths = st.lists(st.lists(risk, min_size=1, max_size=6), min_size=1, max_size=25)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(paths, st.data())
def test_sets_by_the_definition(X, data):
    """Score 1 - f(truth); k-th smallest; outcomes up to it; the likeliest where there is none."""
    first_errors = [data.draw(st.integers(-1, len(path) - 1)) for path in X]
    n, alpha = len(X), 0.3
    distributions = first_error_distribution(X)
    scores = sorted(1 - f[first] for f, first in zip(distributions, first_errors, strict=True))
    k = int(np.ceil((n + 1) * (1 - alpha) - 1e-9))
    sets = FirstErrorSet(alpha=alpha)
    if k > n:
        with pytest.warns(UserWarning, match="every set will be full"):
            sets.fit(X, first_errors)
    else:
        sets.fit(X, first_errors)
    quantile = scores[k - 1] if k <= n else np.inf
    assert sets.threshold_ == pytest.approx(quantile, abs=1e-12)
    for f, found in zip(distributions, sets.predict(X), strict=True):
        labels = [*range(len(f) - 1), -1]
        clear = np.abs(1 - f - quantile) > 1e-12  # rounding decides nothing here
        expected = {label for label, p in zip(labels, f, strict=True) if 1 - p <= quantile}
        unclear = {label for label, sure in zip(labels, clear, strict=True) if not sure}
        assert found
        if expected - unclear:
            assert found - unclear == expected - unclear
        elif not unclear:
            assert found == {labels[int(np.argmax(f))]}


def test_too_few_paths_give_the_full_set():
    with pytest.warns(UserWarning, match="at least 9 are needed"):
        sets = FirstErrorSet(alpha=0.1).fit([[0.5]] * 8, [0] * 8)
    assert (sets.attainable_, sets.threshold_) == (False, np.inf)
    assert sets.predict([[0.0, 0.0], [1.0]]) == [{0, 1, -1}, {0, -1}]


def test_an_empty_set_gets_the_likeliest_outcome():
    sets = FirstErrorSet(alpha=0.3).fit([[0.99]] * 5 + [[0.01]] * 5, [0] * 5 + [-1] * 5)
    assert sets.threshold_ == pytest.approx(0.01)
    assert sets.predict([[0.2, 0.3], [0.6, 0.5], [0.5]]) == [{-1}, {0}, {0}]


def test_certain_risks_and_neighbours_do_not_disturb():
    """A risk of 1 in one path leaves the paths after it as they are alone."""
    X = [[0.1, 0.4], [1.0, 1.0], [0.1, 0.4], [0.3], [0.1, 0.4]] * 3
    sets = FirstErrorSet(alpha=0.2).fit(X, [1, 0, -1, -1, 0] * 3)
    together = sets.predict([[1.0, 0.2], [0.1, 0.4], [0.2, 0.2, 1.0]])
    assert together == [sets.predict([path])[0] for path in ([1.0, 0.2], [0.1, 0.4], [0.2, 0.2, 1.0])]
    assert together[0] == {0}


def test_evaluate():
    sets = FirstErrorSet(alpha=0.3).fit([[0.9]] * 5 + [[0.4]] * 5, [0] * 5 + [-1] * 5)
    assert sets.threshold_ == pytest.approx(0.4)
    report = sets.evaluate([[0.95], [0.5], [0.1, 0.1]], [0, -1, 1], groups=["p", "p", "q"])
    assert report == {"coverage": 0.25, "mean_size": 1.0, "singletons": 1.0, "n_units": 2, "n_paths": 3}
