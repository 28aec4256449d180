"""Solutions that are alike, and prose that is unlike them."""

import numpy as np
import pytest

from prmkit import Solution
from prmkit.data import make_arithmetic_solutions

_SENTENCE = (
    "the sea was grey and old men sat by the harbour watching boats that would not leave before spring while a "
    "letter lay unread on her table because nobody in that house believed any more in what letters promise"
)


@pytest.fixture(scope="package")
def arithmetic():
    """Training and calibration data of different problems, and more of the same kind."""
    data = [make_arithmetic_solutions(70, 2, random_state=seed) for seed in range(3)]
    seen = set()
    kept = []
    for part in data:
        kept.append([solution for solution in part.solutions if solution.problem not in seen])
        seen |= {solution.problem for solution in part.solutions}
    return data[0], kept[1], kept[2]


@pytest.fixture(scope="package")
def prose():
    """Sixty paths of sentences without a number; about as long as the arithmetic ones."""
    rng, words = np.random.default_rng(0), _SENTENCE.split()

    def sentence():
        return " ".join(rng.choice(words, rng.integers(7, 13))).capitalize() + "."

    return [Solution(sentence(), [sentence() for _ in range(rng.integers(3, 8))]) for _ in range(60)]
