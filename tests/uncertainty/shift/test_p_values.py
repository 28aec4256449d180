"""The p-values of every shift detector: a false-alarm rate that holds, by problem, and refusals where it cannot."""

import json
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from prmkit import PRMFeaturizer, Solution, flatten
from prmkit.features import StepStatistics
from prmkit.scoring import ScoredSolution
from prmkit.uncertainty import LengthShift, MahalanobisShift

DETECTORS = [LengthShift(), MahalanobisShift(StepStatistics()), MahalanobisShift(StepStatistics(), path_score="max")]
each = pytest.mark.parametrize("detector", DETECTORS, ids=["length", "mean", "max"])
LEVELS = np.array([0.05, 0.1, 0.2, 0.5, 0.9])


def on_a_line(scores=None):
    """A detector whose score of the path [[x]] grows with x from 0, calibrated on such paths."""
    rows = np.concatenate([-np.ones((50, 1)), np.ones((50, 1))])
    detector = MahalanobisShift("precomputed").fit(rows)
    return detector if scores is None else detector.calibrate(paths(scores))


def paths(scores):
    return [np.array([[score]], dtype=float) for score in scores]


def test_by_hand():
    detector = on_a_line([1, 2, 2, 4])
    assert detector.n_calibration_ == 4
    np.testing.assert_allclose(detector.p_value(paths([0, 1, 1.5, 2, 3, 4, 5])) * 5, [5, 5, 4, 4, 2, 2, 1])


def test_by_hand_with_groups():
    """A problem counts once: the share of its paths that score at least as high."""
    detector = on_a_line().calibrate(paths([1, 3, 5, 2, 9, 9]), groups=["a", "a", "a", "b", "c", "c"])
    assert detector.n_calibration_ == 3
    expected = [1 + 1 + 1, 2 / 3 + 1 + 1, 2 / 3 + 0 + 1, 0 + 0 + 1, 0]
    np.testing.assert_allclose(detector.p_value(paths([0, 2, 3, 6, 10])), (1 + np.array(expected)) / 4)


def test_problems_are_the_units_of_solutions(arithmetic):
    """Without groups, solutions of one problem make one unit, as brute force counts them."""
    train, calibration, more = arithmetic
    detector = LengthShift().fit(train.X).calibrate(calibration)
    problems = sorted({solution.problem for solution in calibration})
    assert detector.n_calibration_ == len(problems)
    known = detector.score(calibration)
    for p, score in zip(detector.p_value(more[:20]), detector.score(more[:20]), strict=True):
        shares = [
            np.mean([k >= score - 1e-9 for k, s in zip(known, calibration, strict=True) if s.problem == problem])
            for problem in problems
        ]
        assert p == pytest.approx((1 + sum(shares)) / (len(problems) + 1))


def test_groups_must_not_part_a_problem(arithmetic):
    train, calibration, _ = arithmetic
    detector = LengthShift().fit(train.X, train.y)
    with pytest.raises(ValueError, match="puts the paths of one problem into several groups"):
        detector.calibrate(calibration, groups=np.arange(len(calibration)))


def test_a_group_on_two_sides_is_refused(tmp_path):
    """Rows of numbers have no text: what the user calls a problem is all that it can be known by."""
    detector = on_a_line()
    assert len(detector.score(paths([1, 2]), groups=["a", "b"])) == 2  # before calibrate nothing can leak
    detector.calibrate(paths([1, 2, 3]), groups=["a", "b", "b"])
    detector.save(tmp_path / "detector")
    for fitted in (detector, MahalanobisShift.load(tmp_path / "detector")):
        for call in (fitted.score, fitted.p_value, fitted.flag):
            with pytest.raises(ValueError, match=r"1 of 2 problems .* calibrated on"):
                call(paths([1, 2]), groups=["b", "c"])
        assert len(fitted.p_value(paths([1, 2]), groups=["c", "d"])) == 2
        with pytest.raises(ValueError, match="groups has shape"):
            fitted.p_value(paths([1, 2]), groups=["c"])


def test_generators_are_read_whole(arithmetic):
    train, calibration, more = arithmetic
    detector = on_a_line([1, 2, 3])
    np.testing.assert_array_equal(detector.p_value(path for path in paths(range(9))), detector.p_value(paths(range(9))))
    detector = LengthShift().fit(train.X).calibrate(solution for solution in calibration)
    assert len(detector.p_value(solution for solution in more)) == len(more)


@each
def test_scored_solutions_count_as_their_solutions(detector, arithmetic):
    train, calibration, more = arithmetic
    scored = [ScoredSolution(one, [[0.2, 0.8]] * one.n_steps, [-1, 1]) for one in more[:6]]
    detector = clone(detector).fit(train.X, train.y).calibrate([*scored, *calibration])
    expected = clone(detector).fit(train.X, train.y).calibrate([*more[:6], *calibration])
    np.testing.assert_array_equal(detector.calibration_scores_, expected.calibration_scores_)
    mixed = [ScoredSolution(more[6], [[0.2, 0.8]] * more[6].n_steps, [-1, 1]), *more[7:9]]
    np.testing.assert_array_equal(detector.score(mixed), detector.score(more[6:9]))
    np.testing.assert_array_equal(detector.p_value(mixed), expected.p_value(more[6:9]))


def test_precomputed_refuses_scored_solutions():
    with pytest.raises(TypeError, match="X holds Solution, but featurizer='precomputed'"):
        on_a_line([1, 2]).score([ScoredSolution(Solution("p", ["a"]), [[0.2, 0.8]], [-1, 1])])


def rejection_rates(draw_problem, n_problems, several, n_splits=2000):
    """Shares of p <= level for a random path of each of 5 new problems, over fresh calibration sets."""
    rng = np.random.default_rng(0)
    detector = on_a_line()
    rates = np.empty((n_splits, len(LEVELS)))
    for split in range(n_splits):
        drawn = [draw_problem(rng) for _ in range(n_problems + 5)]
        known = np.concatenate(drawn[:n_problems])
        groups = np.repeat(np.arange(n_problems), [len(scores) for scores in drawn[:n_problems]])
        detector.calibrate(paths(known), groups=groups if several else None)
        p = detector.p_value(paths([rng.choice(scores) for scores in drawn[n_problems:]]))
        rates[split] = (p[:, None] <= LEVELS + 1e-12).mean(axis=0)
    return rates.mean(axis=0), rates.std(axis=0, ddof=1) / np.sqrt(n_splits)


def test_super_uniform_with_one_path_per_problem():
    rate, error = rejection_rates(lambda rng: rng.exponential(size=1), 19, several=False)
    assert (rate <= LEVELS + 3 * error).all()
    assert (rate >= LEVELS - 3 * error).all()  # 20 divides into every level: the bound is attained


def several_paths(rng):
    """Usual problems have up to ten paths, unusual ones a single one; the paths of a problem are alike."""
    level = rng.exponential()
    return level + 0.1 * rng.random(rng.integers(5, 11) if level < 1 else 1)


@pytest.mark.slow
def test_super_uniform_with_several_paths_per_problem():
    rate, error = rejection_rates(several_paths, 19, several=True)
    assert (rate <= LEVELS + 3 * error).all()
    assert (rate >= LEVELS - 0.06).all()  # and not by giving nothing away


def test_paths_of_one_problem_are_no_units():
    """What groups are for: in the same simulation, with every path as a unit, false alarms exceed their level."""
    rate, error = rejection_rates(several_paths, 19, several=False, n_splits=300)
    assert (rate > LEVELS + 10 * error).any()


def test_too_few_problems_for_alpha():
    detector = on_a_line(np.arange(1, 10))  # n = 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert detector.flag(paths([50, 1]), alpha=0.1).tolist() == [True, False]
    with pytest.warns(UserWarning, match="not attainable with 9 .* at least 19"):
        assert not detector.flag(paths([50, 1]), alpha=0.05).any()
    for alpha in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="alpha"):
            detector.flag(paths([1]), alpha=alpha)


@each
def test_a_problem_on_two_sides_is_refused(detector, arithmetic):
    train, calibration, more = arithmetic
    detector = clone(detector).fit(train.X, train.y)
    again = Solution(f"  {train.solutions[0].problem.upper()}", ["other steps"])
    with pytest.raises(ValueError, match=r"1 of .* fitted on"):
        detector.calibrate([*calibration, again])
    detector.calibrate(calibration)
    with pytest.raises(ValueError, match="fitted on"):
        detector.p_value([again])
    with pytest.raises(ValueError, match="calibrated on"):
        detector.p_value([*more, calibration[0]])
    with pytest.raises(ValueError, match="calibrated on"):
        detector.flag([calibration[0]])
    assert len(detector.score([again, calibration[0]])) == 2  # a raw score promises nothing


@each
def test_order_and_company_change_nothing(detector, arithmetic, prose):
    train, calibration, more = arithmetic
    detector = clone(detector).fit(train.X, train.y).calibrate(calibration)
    mixed = [*more[:20], *prose[:20]]
    p = detector.p_value(mixed)
    order = np.random.default_rng(0).permutation(len(mixed))
    np.testing.assert_array_equal(detector.p_value([mixed[i] for i in order]), p[order])
    np.testing.assert_array_equal(np.concatenate([detector.p_value([path]) for path in mixed]), p)
    turned = clone(detector).fit(train.X, train.y).calibrate(calibration[::-1])
    np.testing.assert_allclose(turned.p_value(mixed), p, rtol=1e-12)
    assert (p >= 1 / (detector.n_calibration_ + 1)).all()
    assert (p <= 1).all()


def test_a_path_like_one_of_calibration_ties_with_it():
    """Alone or among others, though matrix products of other shapes round otherwise."""
    rng = np.random.default_rng(0)
    known = list(rng.normal(size=(200, 3, 150)))
    detector = MahalanobisShift("precomputed").fit(rng.normal(size=(400, 150))).calibrate(known)
    expected = (1 + np.arange(200, 0, -1)) / 201
    np.testing.assert_allclose(np.sort(detector.p_value(known))[::-1], expected)
    alone = np.concatenate([detector.p_value([path]) for path in known])
    np.testing.assert_allclose(np.sort(alone)[::-1], expected)


@each
def test_steps_do_not_read_ahead(detector, arithmetic):
    train, calibration, _ = arithmetic
    detector = clone(detector).fit(train.X, train.y)
    whole = calibration[0]
    cut = Solution(whole.problem, whole.steps[:2])
    np.testing.assert_allclose(
        detector.step_scores(flatten([whole]))[:2], detector.step_scores(flatten([cut])), rtol=1e-9
    )


@each
def test_before_fit_and_before_calibrate(detector, arithmetic):
    train, calibration, more = arithmetic
    detector = clone(detector)
    for call in (detector.score, detector.p_value, detector.calibrate):
        with pytest.raises(NotFittedError):
            call(more)
    detector.fit(train.X, train.y)
    with pytest.raises(NotFittedError, match="calibrate"):
        detector.flag(more)
    detector.calibrate(calibration).fit(train.X, train.y)  # a new fit forgets the calibration of the old one
    with pytest.raises(NotFittedError, match="calibrate"):
        detector.p_value(more)


@each
def test_clone_keeps_settings_and_nothing_learnt(detector, arithmetic):
    train, calibration, _ = arithmetic
    fitted = clone(detector).fit(train.X, train.y).calibrate(calibration)
    fresh = clone(fitted)
    assert str(fresh) == str(detector)
    assert not any(name.endswith("_") for name in vars(fresh))


@each
def test_wrong_paths(detector, arithmetic):
    train, calibration, _ = arithmetic
    detector = clone(detector).fit(train.X, train.y).calibrate(calibration)
    with pytest.raises(ValueError, match="no steps"):
        detector.score([Solution("p", [])])
    with pytest.raises(TypeError, match="expected Solution"):
        detector.score(flatten([Solution("p", ["a"])]))
    with pytest.raises(TypeError, match="list of Solution"):
        detector.score(Solution("p", ["a"]))
    with pytest.raises(ValueError, match="empty"):
        detector.calibrate([])
    with pytest.raises(ValueError, match="groups has shape"):
        detector.calibrate(calibration, groups=[1, 2])
    assert detector.score([]).shape == detector.p_value([]).shape == detector.flag([]).shape == (0,)


def test_nan_and_other_shapes_raise():
    rows = np.random.default_rng(0).normal(size=(30, 2))
    detector = MahalanobisShift("precomputed").fit(rows).calibrate([rows[:3], rows[3:5]])
    broken = rows[:3].copy()
    broken[1, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        MahalanobisShift("precomputed").fit(broken)
    for call in (detector.score, detector.p_value, detector.calibrate):
        with pytest.raises(ValueError, match="NaN"):
            call([rows[:2], broken])
    with pytest.raises(ValueError, match="expected 2"):
        detector.step_scores(np.ones((2, 3)))
    for wrong in (rows, [rows[0]], [rows[:0]]):
        with pytest.raises(ValueError, match="shape"):
            detector.score(wrong)
    with pytest.raises(ValueError, match="3 labels"):
        MahalanobisShift("precomputed").fit(rows, [0, 1, 0])
    with pytest.raises(TypeError, match="precomputed"):
        detector.score([Solution("p", ["a"])])


def test_wrong_settings():
    rows = np.ones((30, 2))
    for detector in (MahalanobisShift("tokens"), MahalanobisShift("precomputed", path_score="last")):
        with pytest.raises(ValueError, match="must be"):
            detector.fit(rows)


@pytest.mark.parametrize(
    "detector",
    [*DETECTORS, MahalanobisShift("precomputed"), MahalanobisShift(PRMFeaturizer(context="none"))],
    ids=["length", "mean", "max", "precomputed", "embeddings"],
)
def test_save_and_load(detector, arithmetic, tmp_path):
    train, calibration, more = arithmetic
    solutions = [train.solutions[:10], calibration[:10], more[:10]]
    if getattr(detector, "featurizer", None) == "precomputed":
        rng = np.random.default_rng(0)
        fitted = clone(detector).fit(rng.normal(size=(40, 3)), rng.choice(["bad", "good"], 40))
        fitted.calibrate(list(rng.normal(size=(20, 4, 3))))
        new = list(rng.normal(size=(10, 4, 3)))
    else:
        X = flatten(solutions[0])
        fitted = clone(detector).fit(X, np.arange(len(X)) % 3).calibrate(solutions[1])
        new = solutions[2]
    fitted.save(tmp_path / "detector")
    loaded = type(detector).load(tmp_path / "detector")
    np.testing.assert_array_equal(loaded.p_value(new), fitted.p_value(new))
    np.testing.assert_array_equal(loaded.score(new), fitted.score(new))
    assert clone(loaded).get_params(deep=False).keys() == detector.get_params(deep=False).keys()
    if fitted.training_problems_ is not None:
        with pytest.raises(ValueError, match="fitted on"):
            loaded.p_value(solutions[0])
    with pytest.raises(FileNotFoundError):
        type(detector).load(tmp_path)


def test_detectors_of_an_earlier_version(tmp_path):
    """They had ``relative``: without it they load, with it they say what to do."""
    rng = np.random.default_rng(0)
    fitted = MahalanobisShift("precomputed").fit(rng.normal(size=(40, 3)))
    fitted.save(tmp_path / "detector")
    file = tmp_path / "detector" / "config.json"
    config = json.loads(file.read_text())
    new = list(rng.normal(size=(10, 4, 3)))
    for relative in (False, True):
        config["settings"]["params"]["relative"] = relative
        file.write_text(json.dumps(config))
        if relative:
            with pytest.raises(ValueError, match="earlier version of prmkit offered: fit it anew"):
                MahalanobisShift.load(tmp_path / "detector")
        else:
            loaded = MahalanobisShift.load(tmp_path / "detector")
            np.testing.assert_array_equal(loaded.score(new), fitted.score(new))


def test_global_generators_are_left_alone(arithmetic):
    train, calibration, _ = arithmetic
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    MahalanobisShift(StepStatistics()).fit(train.X, train.y).calibrate(calibration)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
