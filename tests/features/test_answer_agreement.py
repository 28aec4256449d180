"""Agreement of sampled answers against its definition, and at its edges."""

import numpy as np
import pytest

from prmkit.features.agreement.answers import answer_agreement


def by_definition(keys, groups):
    """Compare all pairs of samples of a problem."""
    for i, group in enumerate(groups):
        own = [j for j, other in enumerate(groups) if other == group]
        same = [j for j in own if j != i and keys[i] is not None and keys[j] == keys[i]]
        named = [keys[j] for j in own if keys[j] is not None]
        counts = sorted([named.count(key) for key in set(named)] + [1] * (len(own) - len(named)))
        yield len(same), len(own), counts


def test_counts_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 300)
    keys = [None if key == 6 else f"answer {key}" for key in rng.integers(0, 7, 300)]
    found = answer_agreement(keys, groups)
    for i, (n_same, n, counts) in enumerate(by_definition(keys, groups.tolist())):
        assert (found.n_samples[i], found.n_classes[i]) == (n, len(counts))
        assert found.largest_share[i] == counts[-1] / n
        if n > 1:
            assert found.agreement[i] == n_same / (n - 1)
            assert found.margin[i] == pytest.approx((counts[-1] - (counts[-2] if len(counts) > 1 else 0)) / n)


def test_order_and_names_of_problems_are_invisible():
    keys, groups = ["a", "b", "a", "c", "c", "a"], [0, 0, 0, 1, 1, 1]
    order = [3, 0, 5, 1, 4, 2]
    weights = np.array([0.5, 0.1, 0.9, np.nan, 1, 3])
    one = answer_agreement(keys, groups, weights)
    other = answer_agreement([keys[i] for i in order], [("p", "q")[groups[i]] for i in order], weights[order])
    for name, values in vars(one).items():
        np.testing.assert_array_equal(values[order], getattr(other, name))


def test_an_answer_counts_within_its_problem_alone():
    found = answer_agreement(["7", "7", "7", "8"], ["p", "q", "p", "q"])
    assert found.agreement.tolist() == [1, 0, 1, 0]


def test_one_sample_can_agree_with_nobody():
    found = answer_agreement(["7", "7", "7"], [0, 1, 1])
    assert np.isnan([found.agreement[0], found.disagreement[0], found.entropy[0], found.margin[0]]).all()
    assert (found.n_classes[0], found.largest_share[0]) == (1, 1)
    assert found.disagreement.tolist()[1:] == [0, 0]


@pytest.mark.parametrize("missing", [None, np.nan, "", " "])
def test_samples_without_an_answer_agree_with_nobody(missing):
    found = answer_agreement([missing, missing, "7", "7"], [0] * 4)
    np.testing.assert_allclose(found.agreement, [0, 0, 1 / 3, 1 / 3])
    assert found.n_classes.tolist() == [3] * 4


def test_weights_are_shared_by_answer():
    found = answer_agreement(["a", "b", "a", "x", "y", "z"], [0, 0, 0, 1, 1, 2], [1, 2, 1, 0, np.nan, 5])
    np.testing.assert_allclose(found.weighted_share, [0.5, 0.5, 0.5, np.nan, np.nan, np.nan])
    assert answer_agreement(["a"], [0]).weighted_share is None


def test_entropy_is_that_of_chao_and_shen():
    # Six of ten, three, one: the coverage is 1 - 1/10.
    keys = ["a"] * 6 + ["b"] * 3 + ["c"]
    share = 0.9 * np.array([0.6, 0.3, 0.1])
    expected = np.sum(-share * np.log(share) / (1 - (1 - share) ** 10))
    np.testing.assert_allclose(answer_agreement(keys, [0] * 10).entropy, expected)
    assert answer_agreement(["a"] * 5, [0] * 5).entropy.tolist() == [0] * 5
    assert np.isfinite(answer_agreement(["a", "b"], [0, 0]).entropy).all()


def test_four_and_eight_samples_compare():
    """The correction takes away most of what the entropy of the shares owes to the number of samples."""
    rng = np.random.default_rng(1)
    n = 4000
    mean, plain = {}, {}
    for size in (4, 8):
        keys = rng.choice(12, size=(n, size), p=[0.6, 0.2] + [0.02] * 10)
        found = answer_agreement([str(key) for key in keys.ravel()], np.repeat(np.arange(n), size))
        mean[size] = found.entropy.mean()
        counts = (keys[:, :, None] == np.arange(12)).sum(axis=1) / size
        plain[size] = -np.where(counts, counts * np.log(np.where(counts, counts, 1)), 0).sum(axis=1).mean()
    assert abs(mean[8] - mean[4]) < 0.5 * abs(plain[8] - plain[4])


def test_nothing_is_nothing_and_lengths_are_checked():
    assert len(answer_agreement([], []).entropy) == 0
    with pytest.raises(ValueError, match="one problem per key"):
        answer_agreement(["a", "b"], [0])
