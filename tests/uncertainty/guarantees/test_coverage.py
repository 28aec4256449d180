"""The guarantees hold: over thousands of calibration sets from worlds in which the truth is known."""

import warnings

import numpy as np
import pytest

from prmkit.uncertainty import ErrorDetector, FirstErrorSet, PathTriage, PrefixCertifier, StepPredictionSets

# The bounds allow for the number of splits, so fewer of them test the same. One path per problem is a special case of
# several, so where slow tests run, all splits are for several.
N_SPLITS = [400, pytest.param(2000, marks=pytest.mark.slow)]
SIZES = [("one", 400), ("several", 400), pytest.param("several", 2000, marks=pytest.mark.slow)]
ALPHA, DELTA = 0.15, 0.1
PATH_RATES = {
    "prefix": (PrefixCertifier, {"alpha": ALPHA}, {"failure_rate": 1}),
    "detector": (ErrorDetector, {"recall": 1 - ALPHA}, {"recall": -1}),
    "first_error": (FirstErrorSet, {"alpha": ALPHA}, {"coverage": -1}),
    "triage": (
        PathTriage,
        {"accept_error": ALPHA, "reject_error": ALPHA},
        {"accepted_with_error": 1, "rejected_without_error": 1},
    ),
}


def failures(report, rates):
    """The numbers under guarantee, as failure rates."""
    return [report[name] if sign > 0 else 1 - report[name] for name, sign in rates.items()]


def splits(world, n_calibration, n_test, n_splits, seed=0):
    """Random calibration and test problems, disjoint."""
    rng = np.random.default_rng(seed)
    for _ in range(n_splits):
        problems = rng.choice(world.n_problems, n_calibration + n_test, replace=False)
        yield problems[:n_calibration], problems[n_calibration:]


@pytest.mark.parametrize(("size", "n_splits"), SIZES)
@pytest.mark.parametrize("name", list(PATH_RATES))
def test_mean_failure_over_splits(name, size, n_splits, request):
    """Conformal: mean failure on test problems lies within 3 standard errors below alpha, and not far below."""
    world = request.getfixturevalue(f"world_{size}")
    cls, params, rates = PATH_RATES[name]
    estimator = cls(**params)
    observed = []
    for calibration, test in splits(world, 50, 20, n_splits):
        estimator.fit(*world.draw(calibration))
        observed.append(failures(estimator.evaluate(*world.draw(test)), rates))
    mean, se = np.mean(observed, axis=0), np.std(observed, axis=0) / np.sqrt(n_splits)
    assert (mean <= ALPHA + 3 * se).all()
    n = 25 if name == "detector" else 50  # units of the calibration that count
    if name == "triage":  # in the overlap a path is decided one way only, so rates may stay below
        assert (mean > 0.3 * ALPHA).all()
    else:
        assert (mean >= ALPHA - 2 / (n + 1) - 3 * se).all()


@pytest.mark.parametrize(("size", "n_splits"), SIZES)
@pytest.mark.parametrize("name", ["prefix", "detector", "triage"])
def test_true_risk_with_confidence(name, size, n_splits, request):
    """Learn then Test: the true risk exceeds alpha for a share of at most delta of calibration sets."""
    world = request.getfixturevalue(f"world_{size}")
    cls, params, _ = PATH_RATES[name]
    estimator, plain = cls(**params, delta=DELTA), cls(**params)
    true_risk = TrueRisk(world, name)
    rng = np.random.default_rng(3)
    above, above_plain = [], []
    for _ in range(n_splits):
        drawn = rng.integers(world.n_problems, size=60)  # with replacement: independent, as the world is all there is
        X, first_errors, _ = world.draw(drawn)
        groups = np.repeat(np.arange(60), [len(world.paths_of([p])) for p in drawn])
        estimator.fit(X, first_errors, groups)
        above.append(true_risk(estimator) > ALPHA)
        above_plain.append(true_risk(plain.fit(X, first_errors, groups)) > ALPHA)
    for share in np.mean(above, axis=0):
        assert share <= DELTA + 3 * np.sqrt(DELTA * (1 - DELTA) / n_splits)
    if size == "one" or n_splits == 2000:  # it is not idle; the averages over several paths seldom exceed alpha
        assert np.mean(above) > (0.02 if size == "one" else 0.0)
    assert np.mean(above_plain) > DELTA, "without delta there is no such confidence"


class TrueRisk:
    """The failure rate of a threshold in the whole world, from sorted values and their cumulated weights."""

    def __init__(self, world, name):
        wrong = world.first_errors >= 0
        self.name = name
        if name == "prefix":
            values = np.array(
                [
                    max(path[: first + 1], default=np.inf)
                    for path, first in zip(world.risks, world.first_errors, strict=True)
                ]
            )
            self.tables = [self._table(values, world.units)]
        elif name == "detector":
            values = np.array([max(path) for path in world.risks])
            self.tables = [self._table(values[wrong], world.units[wrong])]
        else:
            risks = np.array([1 - np.prod(1 - path) for path in world.risks])
            self.tables = [
                self._table(np.where(wrong, risks, np.inf), world.units),
                self._table(np.where(wrong, np.inf, -risks), world.units),
            ]

    def _table(self, values, units):
        weights = 1 / np.bincount(units)[units]
        order = np.argsort(values)
        return values[order], np.concatenate([[0], np.cumsum(weights[order])]) / len(np.unique(units))

    def __call__(self, estimator):
        if self.name == "triage":
            (accept, accept_share), (reject, reject_share) = self.tables
            # The rates of the full sides, which bound those of the decisions.
            return np.array(
                [
                    accept_share[np.searchsorted(accept, estimator.accept_threshold_ - 1e-12)],
                    reject_share[np.searchsorted(reject, -estimator.reject_threshold_ - 1e-12)],
                ]
            )
        ((values, share),) = self.tables
        return share[np.searchsorted(values, [estimator.threshold_], side="right")]


@pytest.fixture(scope="module")
def step_world():
    """Class probabilities that are off, with one to six steps per problem that are alike."""
    rng = np.random.default_rng(5)
    sizes = rng.integers(1, 7, 3000)
    units = np.repeat(np.arange(3000), sizes)
    logits = rng.normal(size=(len(units), 3)) + np.repeat(rng.normal(size=(3000, 3)), sizes, axis=0) + [-1.5, 0, 1]
    true = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (true.cumsum(axis=1) < rng.random((len(units), 1))).sum(axis=1) - 1
    off = true**1.7
    return off / off.sum(axis=1, keepdims=True), labels, units


@pytest.mark.parametrize("options", [{}, {"joint": True}, {"class_conditional": True}], ids=str)
@pytest.mark.parametrize("n_splits", N_SPLITS)
def test_step_sets_over_splits(step_world, options, n_splits):
    proba, labels, units = step_world
    sets = StepPredictionSets(alpha=ALPHA, **options)
    rng = np.random.default_rng(0)
    observed = []
    for _ in range(n_splits):
        problems = rng.permutation(3000)[:75]
        rows = np.flatnonzero(np.isin(units, problems[:60]))
        test = np.flatnonzero(np.isin(units, problems[60:]))
        report = sets.fit(proba[rows], labels[rows], units[rows]).evaluate(proba[test], labels[test], units[test])
        key = "joint_coverage" if options.get("joint") else "coverage"
        covered = list(report["coverage_per_class"].values()) if "class_conditional" in options else [report[key]]
        observed.append([np.nan if value is None else 1 - value for value in covered])
    mean = np.nanmean(observed, axis=0)
    se = np.nanstd(observed, axis=0) / np.sqrt(np.sum(np.isfinite(observed), axis=0))
    assert (mean <= ALPHA + 3 * se).all()
    assert (mean >= ALPHA - 0.06).all()


def test_marginal_sets_sacrifice_the_rare_class(step_world):
    proba, labels, units = step_world
    rows = units < 1500
    reports = [
        StepPredictionSets(alpha=ALPHA, class_conditional=conditional)
        .fit(proba[rows], labels[rows], units[rows])
        .evaluate(proba[~rows], labels[~rows], units[~rows])
        for conditional in (False, True)
    ]
    assert reports[0]["coverage_per_class"][-1] < 1 - 2 * ALPHA
    assert reports[1]["coverage_per_class"][-1] > 1 - 1.3 * ALPHA


@pytest.mark.slow
def test_what_grouping_prevents(make_world):
    """Copies of a few problems counted as new ones: the threshold is far too sure, and new problems fail too often."""
    world = make_world(most_paths=1, seed=4)
    true_risk = TrueRisk(world, "prefix")
    pooled, grouped, leaked = [], [], []
    for calibration, test in splits(world, 12, 12, 600, seed=1):
        X, first_errors, groups = world.draw(np.repeat(calibration, 10))
        on = world.draw(test)
        certifier = PrefixCertifier(alpha=0.3, delta=0.1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            certifier.fit(X, first_errors)  # each path a problem of its own
        pooled.append(true_risk(certifier)[0] > 0.3)
        leaked.append(certifier.evaluate(X, first_errors)["failure_rate"])  # "tested" on the same problems: fine!
        certifier.fit(X, first_errors, groups)
        grouped.append(true_risk(certifier)[0] > 0.3)
        with pytest.raises(ValueError, match=r"12 of 12 problems .* PrefixCertifier was calibrated on"):
            certifier.evaluate(X, first_errors, groups)
        certifier.predict(on[0], on[2])
    assert np.mean(leaked) < 0.3, "on the leaked side nothing looks wrong"
    assert np.mean(grouped) <= 0.1 + 3 * np.sqrt(0.09 / 600)
    assert np.mean(pooled) > 0.25, "without groups the confidence of 90 % is not there"
