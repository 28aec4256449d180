"""A verifier overrules the vote where it loses few right ones: the promise over random problems."""

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from prmkit.data import Candidates, CandidateSet, Solution, make_arithmetic_solutions
from prmkit.metrics import aggregate, select
from prmkit.models import PathClassifier
from prmkit.uncertainty import CertifiedSelection


def made(answers, correct, first=0, texts=None):
    """Candidates with these answers, a problem per row."""
    sets = []
    for i, (keys, right) in enumerate(zip(answers, correct, strict=True), first):
        text = f"problem {i}" if texts is None else texts[i - first]
        solutions = (Solution(text, ["a step"]),) * len(keys)
        sets.append(CandidateSet(text, solutions, tuple(right), tuple(keys), tuple(keys), None, str(i)))
    return Candidates(tuple(sets))


def drawn(n, rng, power):
    """Answers of five samples, whether they are right, and scores with ties, more or less informative."""
    right = rng.random((n, 5)) < rng.beta(2, 1, n)[:, None]
    answers = np.where(right, 0, rng.integers(1, 4, right.shape))
    scores = np.round(1 / (1 + np.exp(-(power * right + rng.normal(size=right.shape)))), 2)
    return answers, scores


def challenges(answers, scores):
    """For each problem the margin of the best other answer, and whether the vote and it are right, by hand."""
    counts = (answers[:, :, None] == answers[:, None, :]).sum(axis=2)
    # The most votes, and of equals the first.
    vote = np.take_along_axis(answers, np.argmax(counts, axis=1)[:, None], axis=1)
    highest = np.where(answers == vote, scores, -1).max(axis=1)
    others = np.where(answers != vote, scores, -np.inf)
    other = np.take_along_axis(answers, np.argmax(others, axis=1)[:, None], axis=1)
    margin = others.max(axis=1) - highest
    return margin, (vote == 0)[:, 0], (other == 0)[:, 0]


def certified(margin, vote_right, other_right, alpha, delta=None):
    """The smallest threshold with so few losses as the level allows."""
    n = len(margin)
    n_allowed = int(np.floor(alpha * (n + 1) - 1 + 1e-9))
    if delta is not None:
        n_allowed = int((binom.cdf(np.arange(n), n, alpha) <= delta).sum()) - 1
    failing = np.sort(margin[vote_right & ~other_right & (margin > 0)])[::-1]
    return np.nextafter(failing[n_allowed], 9) if n_allowed < len(failing) else 0


def most_right(margin, vote_right, other_right, lowest):
    """Of the thresholds from the lowest up, the one with the most right choices, the highest of equals."""
    best, found = 0, np.inf
    for cut in np.unique(margin[(margin >= lowest) & (margin > 0)])[::-1]:
        passes = margin >= cut
        gained = other_right[passes].sum() - vote_right[passes].sum()
        if gained > best:
            best, found = gained, cut
    return found


def test_thresholds_by_hand():
    rng = np.random.default_rng(0)
    for alpha, power in [(0.05, 2.0), (0.1, 1.0), (0.03, 3.0)]:
        answers, scores = drawn(60, rng, power)
        rule = CertifiedSelection(alpha).fit(made(answers.tolist(), (answers == 0).tolist()), scores.ravel())
        found = challenges(answers, scores)
        lowest = certified(*found, alpha)
        assert rule.threshold_ == most_right(*found, lowest)
        assert rule.certified_threshold_ == pytest.approx(lowest) or lowest == 0
        sure = CertifiedSelection(alpha, 0.3).fit(made(answers.tolist(), (answers == 0).tolist()), scores.ravel())
        assert sure.threshold_ == most_right(*found, certified(*found, alpha, 0.3))
        new, new_scores = drawn(50, rng, power)
        chosen = rule.predict(made(new.tolist(), (new == 0).tolist(), first=60), new_scores.ravel())
        margin, *_ = challenges(new, new_scores)
        for i, (keys, row) in enumerate(zip(new.tolist(), new_scores, strict=True)):
            overruled = margin[i] >= rule.threshold_
            voted = select(keys, row, rule="majority")
            others = [-1 if key == keys[voted] else score for key, score in zip(keys, row, strict=True)]
            assert chosen[i] == (int(np.argmax(others)) if overruled else voted)


@pytest.mark.slow
@pytest.mark.parametrize("power", [0.0, 1.5])
def test_the_promise_over_random_problems(power):
    """2,000 calibrations on problems of their own, with a verifier that knows nothing and one that knows something."""
    rng = np.random.default_rng(int(power))
    alpha, delta, n, n_splits = 0.06, 0.2, 100, 2000
    problems = [column.reshape(n_splits, n) for column in challenges(*drawn(n * n_splits, rng, power))]
    margin, vote_right, other_right = challenges(*drawn(40_000, rng, power))
    losing = np.sort(margin[vote_right & ~other_right & (margin > 0)])

    def risks(cuts):
        return (len(losing) - np.searchsorted(losing, cuts)) / len(margin)

    splits = list(zip(*problems, strict=True))
    of_mean = risks([certified(*split, alpha) for split in splits])
    assert of_mean.mean() <= alpha + 3 * of_mean.std() / np.sqrt(n_splits)
    failures = (risks([certified(*split, alpha, delta) for split in splits]) > alpha).mean()
    assert failures <= delta + 3 * np.sqrt(delta * (1 - delta) / n_splits)
    if power == 0:
        assert of_mean.mean() > alpha / 2, "the level is used, not only kept"
    # What is chosen above the limit loses no more, split by split.
    some = slice(0, n_splits, 20)
    chosen = risks([most_right(*split, certified(*split, alpha)) for split in splits[some]])
    assert (chosen <= of_mean[some]).all()


def test_a_good_verifier_overrules_and_a_bad_one_does_not():
    rng = np.random.default_rng(1)
    for power, gains in [(4, True), (-4, False)]:
        answers, scores = drawn(300, rng, power)
        candidates = made(answers.tolist(), (answers == 0).tolist())
        rule = CertifiedSelection(alpha=0.05).fit(candidates[:200], scores[:200].ravel())
        report = rule.evaluate(candidates[200:], scores[200:].ravel())
        assert (report["won"] > 0) == gains
        assert report["right"] == pytest.approx(report["right_by_vote"] + report["won"] - report["lost"])
        if not gains:
            assert (rule.threshold_, report["overruled"]) == (np.inf, 0)


@pytest.mark.parametrize("rule", ["best", "weighted", "combine", "pessimistic"])
def test_without_a_limit_and_with_a_perfect_verifier_the_rule_itself_is_followed(rule):
    rng = np.random.default_rng(2)
    answers, _ = drawn(80, rng, 0)
    right = answers == 0
    scores = np.where(right, 0.98, 0.01)
    candidates = made(answers.tolist(), right.tolist())
    chooser = CertifiedSelection(alpha=0.5, rule=rule).fit(candidates[:40], scores[:40].ravel())
    chosen = chooser.predict(candidates[40:], scores[40:].ravel())
    by_rule = [select(keys, row, rule=rule) for keys, row in zip(answers[40:].tolist(), scores[40:], strict=True)]
    right_then = np.take_along_axis(right[40:], chosen[:, None], axis=1)
    assert right_then.mean() == np.take_along_axis(right[40:], np.array(by_rule)[:, None], axis=1).mean()


def test_nothing_known_is_never_a_challenge():
    """No score, no answer, one sample, one answer: the vote stands."""
    answers = [["a", "b"], ["a", None, "a"], ["a"], ["a", "a"], [None, None], ["a", "b", "a"]]
    correct = [[False, True], [False] * 3, [True], [True, True], [False, False], [False, True, False]]
    scores = [np.nan, 0.9, 0.1, 0.9, 0.1, 0.5, 0.2, 0.3, 0.1, 0.9, 0.1, 0.9, 0.2]
    with pytest.warns(UserWarning, match="never overruled"):
        rule = CertifiedSelection().fit(made(answers, correct), scores)
    assert (rule.attainable_, rule.threshold_) == (False, np.inf)
    rule = CertifiedSelection(alpha=0.4).fit(made(answers, correct), scores)
    assert rule.attainable_
    assert rule.predict(made(answers, correct, first=10), scores).tolist() == [0, 0, 0, 1, 0, 1], (
        "its best-scored sample stands for the vote"
    )


def test_saved_and_loaded(tmp_path):
    rng = np.random.default_rng(4)
    answers, scores = drawn(120, rng, 3)
    candidates = made(answers.tolist(), (answers == 0).tolist())
    rule = CertifiedSelection(0.1, 0.3, rule="weighted").fit(candidates[:80], scores[:80].ravel())
    rule.save(tmp_path / "rule")
    loaded = CertifiedSelection.load(tmp_path / "rule")
    assert loaded.get_params() == rule.get_params()
    np.testing.assert_array_equal(
        loaded.predict(candidates[80:], scores[80:].ravel()), rule.predict(candidates[80:], scores[80:].ravel())
    )
    with pytest.raises(ValueError, match="CertifiedSelection was calibrated on"):
        loaded.predict(candidates[70:90], scores[70:90].ravel())


def test_problems_without_a_text_are_told_apart_by_their_ids():
    answers, correct = [["a", "b"]] * 30, [[True, False]] * 30
    rule = CertifiedSelection(alpha=0.1).fit(made(answers, correct, texts=[""] * 30), [0.5, 0.4] * 30)
    assert rule.n_calibration_ == 30


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        (([["a"]],), TypeError, "load_samples"),
        ((made([["a"]], [[True]]),), ValueError, "scores is None"),
        ((made([["a"]], [[True]]), [0.1, 0.2]), ValueError, r"expected \(1,\)"),
        ((made([["a", "b"]], [[None, True]]), [0.1, 0.2]), ValueError, "in 1 of 1 problems it is not known"),
    ],
)
def test_bad_input_is_named(arguments, error, said):
    with pytest.raises(error, match=said):
        CertifiedSelection().fit(*arguments)


def test_a_classifier_scores_the_samples(fitted):
    classifier, calibration, test = fitted

    def sampled(dataset):
        """Each problem with a solution, and one that stops early and says something else."""
        whole = {solution.problem: solution for solution in dataset.solutions}
        pairs = [(Solution(one.problem, one.steps[:1]), one) for one in whole.values()]
        return Candidates(
            tuple(
                CandidateSet(one.problem, (short, one), (False, True), ("a", "b"), ("a", "b"), None, "")
                for short, one in pairs
            )
        )

    def scores_of(candidates):
        return aggregate([one.rewards for one in classifier.score_solutions(candidates.solutions)], "mean")

    known, new = sampled(calibration), sampled(test)
    rule = CertifiedSelection(alpha=0.3, classifier=classifier, aggregation="mean").fit(known)
    by_scores = CertifiedSelection(alpha=0.3).fit(known, scores_of(known))
    assert rule.threshold_ == pytest.approx(by_scores.threshold_)
    assert rule.predict(new).tolist() == by_scores.predict(new, scores_of(new)).tolist()
    assert "certified_threshold_" in rule._repr_mimebundle_()["text/html"]
    with pytest.raises(ValueError, match="both scores and a classifier"):
        rule.predict(new, scores_of(new))
    with pytest.raises(ValueError, match="the classifier was trained on"):
        clone(rule).fit(sampled(make_arithmetic_solutions(40, 2, random_state=0)))
    with pytest.raises(NotFittedError):
        CertifiedSelection().predict(new, scores_of(new))


def test_a_classifier_of_whole_solutions_scores_the_samples():
    rng = np.random.default_rng(6)
    answers, scores = drawn(150, rng, 3)
    right = answers == 0
    sets = []
    for i, (keys, row, of_row) in enumerate(zip(answers.tolist(), scores.tolist(), right.tolist(), strict=True)):
        solutions = tuple(Solution(f"problem {i}", ["a step"], meta={"step_scores": [score]}) for score in row)
        texts = tuple(map(str, keys))
        sets.append(CandidateSet(f"problem {i}", solutions, tuple(of_row), texts, texts, None, str(i)))
    candidates = Candidates(tuple(sets))
    classifier = PathClassifier().fit(candidates[:60])
    rule = CertifiedSelection(alpha=0.1, classifier=classifier).fit(candidates[60:110])
    by_scores = CertifiedSelection(alpha=0.1).fit(
        candidates[60:110], classifier.predict_proba(candidates[60:110])[:, 1]
    )
    new = candidates[110:]
    chosen = by_scores.predict(new, classifier.predict_proba(new)[:, 1])
    np.testing.assert_array_equal(rule.predict(new), chosen)
    with pytest.raises(ValueError, match="PathClassifier was trained on"):
        rule.predict(candidates[50:60])
