"""A world with known truth: reasoning paths whose risks know something, but not all, of where the error is."""

import numpy as np
import pytest


class World:
    """Many problems with one or several paths each; ``draw`` takes some of them, end to end."""

    def __init__(self, n_problems=4000, most_paths=1, seed=0):
        rng = np.random.default_rng(seed)
        n_paths = rng.integers(1, most_paths + 1, n_problems)
        self.units = np.repeat(np.arange(n_problems), n_paths)
        hard = np.repeat(rng.normal(size=n_problems), n_paths)  # what the paths of a problem share
        lengths = rng.integers(1, 7, len(self.units))
        wrong = rng.random(len(lengths)) < 1 / (1 + np.exp(-0.3 - hard))
        self.first_errors = np.where(wrong, rng.integers(0, lengths), -1)
        place = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        bad = place == np.repeat(self.first_errors, lengths)
        logits = -1.5 + 2 * bad + 0.5 * np.repeat(hard, lengths) + rng.normal(size=len(place))
        # Two decimals: ties, as with any coarse model.
        self.risks = np.split(np.round(1 / (1 + np.exp(-logits)), 2), np.cumsum(lengths)[:-1])
        self.n_problems = n_problems
        self._ends = np.cumsum(n_paths)
        self._starts = self._ends - n_paths

    def paths_of(self, problems):
        """Indices of the paths of these problems."""
        return np.concatenate([np.arange(self._starts[p], self._ends[p]) for p in problems])

    def draw(self, problems):
        """X, first_errors, groups of these problems."""
        rows = self.paths_of(problems)
        return [self.risks[i] for i in rows], self.first_errors[rows], self.units[rows]


@pytest.fixture(scope="session")
def make_world():
    return World


@pytest.fixture(scope="session")
def world_one():
    """One path per problem."""
    return World()


@pytest.fixture(scope="session")
def world_several():
    """One to four paths per problem, of like difficulty."""
    return World(most_paths=4, seed=1)


@pytest.fixture(scope="session")
def fitted():
    """A fast fitted classifier, and data of other problems to calibrate and to test on."""
    from prmkit import PRMClassifier
    from prmkit.data import make_arithmetic_solutions
    from prmkit.features import StepStatistics

    train, calibration, test = (make_arithmetic_solutions(n, 2, random_state=i) for i, n in enumerate((40, 60, 40)))
    return PRMClassifier(StepStatistics()).fit(train.X, train.y), calibration, test
