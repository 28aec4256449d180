"""``sample_uncertainty``: what each number is, its direction, and bad input."""

import warnings

import numpy as np
import pytest

from prmkit import Solution
from prmkit.data import load_candidates, load_samples
from prmkit.uncertainty import SampleUncertainty, sample_uncertainty

ANSWERS = ["4", "9", "4", "4", "1/2", "0.5", "7", "8"]
PROBLEMS = ["p", "p", "p", "p", "q", "q", "q", "q"]


def samples(answers=ANSWERS, problems=PROBLEMS, metas=None):
    return [
        Solution(problem, ["Let us see."] + ([f"The answer is {answer}."] if answer else []), id=str(i), meta=meta)
        for i, (problem, answer, meta) in enumerate(zip(problems, answers, metas or [None] * len(answers), strict=True))
    ]


def as_candidates(solutions):
    rows = [{"problem": one.problem, "steps": list(one.steps)} for one in solutions]
    return load_samples(rows, steps="steps")


def test_the_numbers_of_two_problems():
    found = sample_uncertainty(samples())
    np.testing.assert_allclose(found.disagreement, [1 / 3, 1, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1, 1])
    assert found.n_classes.tolist() == [2] * 4 + [3] * 4, "1/2 is 0.5"
    assert found.margin.tolist() == [0.5] * 4 + [0.25] * 4
    assert found.largest_share.tolist() == [0.75] * 4 + [0.5] * 4
    assert found.score is found.weighted_disagreement is found.surprisal_sum is None


def test_candidates_and_solutions_in_any_order_are_the_same():
    order = [4, 0, 5, 1, 6, 2, 7, 3]
    rng = np.random.default_rng(0)
    scores = rng.random(8)
    whole = sample_uncertainty(as_candidates(samples()), scores)
    mixed = sample_uncertainty([samples()[i] for i in order], scores[order])
    assert [one.id for one in mixed.solutions] == [str(i) for i in order]
    for name, values in whole.uncertainties().items():
        np.testing.assert_allclose(values[order], mixed.uncertainties()[name], err_msg=name)


def test_scores_weigh_the_answers():
    scores = np.array([0.9, 0.3, 0.6, 0.0, 0.5, np.nan, 0.2, 0.3])
    with pytest.warns(UserWarning, match="1 without a score"):
        found = sample_uncertainty(samples(), scores)
    expected = 1 - np.array([1.5 / 1.8, 0.3 / 1.8, 1.5 / 1.8, 1.5 / 1.8, 0.5, 0.5, 0.2, 0.3])
    np.testing.assert_allclose(found.weighted_disagreement, expected)
    np.testing.assert_array_equal(found.score, scores)


@pytest.mark.parametrize(
    ("scores", "told"), [([0.5] * 7, r"\(8,\)"), ([0.5] * 7 + [-2], "sample 7 is -2"), ([np.inf] * 8, "expit")]
)
def test_scores_that_cannot_weigh_are_refused(scores, told):
    with pytest.raises(ValueError, match=told):
        sample_uncertainty(samples(), scores)


def test_log_probabilities_of_the_whole_sample():
    metas = [{"token_logprobs": [[-0.5, -1.5], [-1.0]]}] * 8
    found = sample_uncertainty(samples(metas=metas))
    assert (found.surprisal_sum[0], found.surprisal_mean[0], found.surprisal_max[0]) == (3, 1, 1.5)


@pytest.mark.parametrize(
    ("lists", "told"),
    [
        (None, "missing"),
        ([[-1.0]], "1 lists"),
        ([[-1.0], [0.5]], "0.5"),
        ([[-1.0], ["a"]], "'a'"),
        ([[], []], "no token"),
        ([[-1.0], [np.nan]], "nan"),
    ],
)
def test_log_probabilities_that_cannot_be_read_cost_one_sample(lists, told):
    metas = [{"token_logprobs": [[-0.5], [-1]]}] * 7 + [{} if lists is None else {"token_logprobs": lists}]
    with pytest.warns(UserWarning, match=f"1 without log-probabilities.*{told}"):
        found = sample_uncertainty(samples(metas=metas))
    assert np.isnan(found.surprisal_mean).tolist() == [False] * 7 + [True]


def test_every_score_states_its_direction():
    names = set(SampleUncertainty.descriptions)
    assert set(SampleUncertainty.higher_is_more_uncertain) == names
    metas = [{"token_logprobs": [[-0.5], [-1]]}] * 8
    found = sample_uncertainty(samples(metas=metas), [0.5] * 8)
    assert set(found.uncertainties()) == names
    for name, turned in found.uncertainties().items():
        sign = 1 if found.higher_is_more_uncertain[name] else -1
        np.testing.assert_allclose(turned, sign * getattr(found, name))
        assert SampleUncertainty.descriptions[name].endswith(
            f"{'higher' if found.higher_is_more_uncertain[name] else 'lower'} is more uncertain"
        )


def test_directions_are_true():
    """Where samples disagree, every score of agreement is more uncertain than where they agree."""
    sure = samples(["3"] * 4 + ["5", "6", "5", "7"])
    for name, turned in sample_uncertainty(sure).uncertainties().items():
        assert turned[:4].max() < turned[4:].min(), name


def test_frames():
    pytest.importorskip("pandas")
    found = sample_uncertainty(as_candidates(samples()), np.arange(8) / 8)
    frame = found.to_frame()
    assert len(frame) == 8
    assert frame["disagreement"].tolist() == found.disagreement.tolist()
    assert frame["correct"].isna().all()
    assert frame.attrs["higher_is_more_uncertain"]["margin"] is False
    of_problems = found.to_frame("problem")
    assert of_problems["n_samples"].tolist() == [4, 4]
    assert of_problems["n_classes"].tolist() == [2, 3]
    np.testing.assert_allclose(of_problems["disagreement"], [0.5, 5 / 6])
    assert "answer_key" not in of_problems
    with pytest.raises(ValueError, match="'sample' or 'problem'"):
        found.to_frame("step")


def test_one_sample_per_problem_is_counted_and_said_once():
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = sample_uncertainty(samples(problems=list("abcdefgh")), [0.5] * 8)
    [one] = said
    assert "8 the only samples of their problems" in str(one.message)
    for name in ("disagreement", "entropy", "margin", "weighted_disagreement"):
        assert np.isnan(getattr(found, name)).all(), name
    assert found.n_classes.tolist() == [1] * 8
    assert "nan" not in repr(found)


def test_samples_without_an_answer_agree_with_no_other():
    with pytest.warns(UserWarning, match="2 without an answer"):
        found = sample_uncertainty(samples([None, None, "4", "4"], ["p"] * 4))
    np.testing.assert_allclose(found.disagreement, [1, 1, 2 / 3, 2 / 3])
    assert found.counts["without an answer, which agree with no other"] == 2


@pytest.mark.parametrize("right", [0, 1])
def test_correctness_is_not_read(right):
    row = {"prompt": "2 + 3?", "answers": ["Yes.\nA: 5", "No.\nA: 6"], "label": [right] * 2}
    found = sample_uncertainty(load_candidates([row]))
    assert found.disagreement.tolist() == [1, 1]
    assert found.correct.tolist() == [bool(right)] * 2


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="no sample"):
        sample_uncertainty([])
    with pytest.raises(TypeError, match="list of Solution"):
        sample_uncertainty(Solution("p", ["a"]))
    with pytest.raises(TypeError, match=r"solutions\[1\] is str"):
        sample_uncertainty([Solution("p", ["a"]), "So 5."])


@pytest.mark.parametrize("samples", [["a", "b"], "a", [Solution("2 + 3?", ["So 5."]), "So 6."], None, {"problem": "a"}])
def test_what_is_no_solution_is_named(samples):
    with pytest.raises(TypeError, match=r"expected (a list of Solution|Solution\(problem, steps\))"):
        sample_uncertainty(samples)


@pytest.mark.parametrize("scores", [["high", "low"], ["0.9", "0.1"], [[0.9, 0.1], [0.5]]])
def test_scores_that_are_no_numbers_are_named(scores):
    with pytest.raises(ValueError, match=r"scores\[0\] (is the text|is a list of length 2)"):
        sample_uncertainty([Solution("2 + 3?", ["So 5."])] * 2, scores)
