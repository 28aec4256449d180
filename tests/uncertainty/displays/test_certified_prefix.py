"""The plot of certified prefixes: each cell, mark and number is the certifier's own."""

import numpy as np
import pytest

from prmkit import PRMClassifier
from prmkit.data import make_arithmetic_solutions
from prmkit.features import StepStatistics
from prmkit.uncertainty import CertifiedPrefixDisplay, PrefixCertifier

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")

RISKS = [[0.1, 0.2, 0.9, 0.3], [0.1, 0.6], [0.3, 0.2, 0.1], [0.05, 0.1, 0.4]]
FIRST_ERRORS = [2, 1, -1, 1]


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def certifier():
    fitted = PrefixCertifier(alpha=0.4).fit([[0.1, 0.2, 0.9], [0.1, 0.6], [0.3, 0.2], [0.05, 0.1, 0.4]], [2, 1, -1, 2])
    assert 0.4 < fitted.threshold_ < 0.6  # certifies 2, 1, 3 and 3 steps of RISKS
    return fitted


def random_paths(n, seed=0):
    rng = np.random.default_rng(seed)
    risks = [rng.random(size) for size in rng.integers(1, 9, n)]
    return risks, np.array([rng.integers(-1, len(path)) for path in risks])


def cells(ax, label):
    """Row and step of the cells with a legend entry."""
    bars = next((c for c in ax.containers if c.get_label() == label), ())
    return sorted((round(bar.get_y() + bar.get_height() / 2), int(bar.get_x())) for bar in bars)


def marks(ax, label):
    lines = [line for line in ax.lines if line.get_label() == label]
    return [(int(y), float(x)) for line in lines for x, y in line.get_xydata()]


def test_a_cell_for_each_step_and_a_mark_for_each_first_error(certifier, tmp_path):
    display = CertifiedPrefixDisplay.from_certifier(certifier, RISKS, FIRST_ERRORS)
    assert display.certified.tolist() == certifier.predict(RISKS).tolist() == [2, 1, 3, 3]
    ax = display.ax_
    # Most certified first: paths 2 and 3 (3 steps), path 0 (2 of 4), path 1 (1 of 2).
    assert [label.get_text() for label in ax.get_yticklabels()] == ["2", "3", "0", "1"]
    assert cells(ax, "certified") == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)]
    assert cells(ax, "not certified") == [(2, 2), (2, 3), (3, 1)]
    assert marks(ax, "first error, not certified") == [(2, 2.5), (3, 1.5)]
    assert marks(ax, "first error, certified (failure)") == [(1, 1.5)]
    display.figure_.savefig(tmp_path / "certified.png")
    assert (tmp_path / "certified.png").stat().st_size > 10_000


def test_the_title_holds_the_promise_and_what_came_of_it(certifier):
    report = certifier.evaluate(RISKS, FIRST_ERRORS)
    display = CertifiedPrefixDisplay.from_certifier(certifier, RISKS, FIRST_ERRORS)
    title = display.ax_.get_title(loc="left")
    assert "α = 0.4, calibrated on 4 paths" in title
    assert f"failure rate {report['failure_rate']:.2f}" in title
    assert f"kept {report['kept_fraction']:.0%}" in title
    assert f"(perfect verifier: {report['perfect_kept_fraction']:.0%})" in title


@pytest.mark.parametrize("per_problem", [1, 3])
def test_numbers_are_those_of_evaluate(per_problem):
    X, first_errors = random_paths(90)
    certifier = PrefixCertifier(alpha=0.2).fit(*random_paths(50, seed=1))
    groups = np.arange(90) // per_problem
    groups[:7] = 0  # problems of unequal size: the mean over paths is another
    report = certifier.evaluate(X, first_errors, groups)
    display = CertifiedPrefixDisplay.from_certifier(certifier, X, first_errors, groups)
    assert display.failure_rate == pytest.approx(report["failure_rate"])
    assert display.kept_fraction == pytest.approx(report["kept_fraction"])
    assert display.perfect_kept_fraction == pytest.approx(report["perfect_kept_fraction"])


def test_many_paths_become_a_curve_whose_area_is_the_kept_fraction():
    X, first_errors = random_paths(90)
    certifier = PrefixCertifier(alpha=0.2).fit(*random_paths(50, seed=1))
    groups = np.arange(90) // 2
    groups[:20] = 0
    display = CertifiedPrefixDisplay.from_certifier(certifier, X, first_errors, groups)
    assert not display.ax_.containers
    curves = {line.get_label(): line.get_xydata() for line in display.ax_.lines}
    for name, mean in (("certified", display.kept_fraction), ("perfect verifier", display.perfect_kept_fraction)):
        x, y = curves[name].T
        assert np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2) == pytest.approx(mean)
        assert (np.diff(y) <= 0).all()
    drawn_singly = CertifiedPrefixDisplay.from_certifier(certifier, X, first_errors, max_paths=90)
    assert sum(map(len, drawn_singly.ax_.containers)) == sum(map(len, X))


def test_without_labels_nothing_is_said_of_failures(certifier):
    display = CertifiedPrefixDisplay.from_certifier(certifier, RISKS)
    assert display.failures is display.failure_rate is display.perfect_kept_fraction is None
    assert not display.ax_.lines
    assert "failure" not in display.ax_.get_title(loc="left")
    assert "kept" in display.ax_.get_title(loc="left")
    many = CertifiedPrefixDisplay.from_certifier(certifier, RISKS, max_paths=3)
    assert [line.get_label() for line in many.ax_.lines] == ["certified"]


def test_not_attainable_is_said_and_nothing_is_green():
    with pytest.warns(UserWarning, match="not attainable"):
        certifier = PrefixCertifier(alpha=0.1).fit(*random_paths(5))
    display = CertifiedPrefixDisplay.from_certifier(certifier, RISKS, FIRST_ERRORS)
    assert "not attainable" in display.ax_.get_title(loc="left")
    assert cells(display.ax_, "certified") == []
    assert len(cells(display.ax_, "not certified")) == 12
    assert display.failure_rate == 0


def test_given_axes_are_used_and_no_other_figure_is_made(certifier):
    figure, axes = plt.subplots(1, 2)
    display = CertifiedPrefixDisplay.from_certifier(certifier, RISKS, ax=axes[1])
    assert display.ax_ is axes[1]
    assert display.figure_ is figure
    assert display.plot(ax=axes[0]) is display
    assert plt.get_fignums() == [figure.number]


def test_solutions_of_problems_that_were_calibrated_on_are_refused():
    data = make_arithmetic_solutions(60, 2, random_state=0)
    other = make_arithmetic_solutions(30, 2, random_state=1)
    classifier = PRMClassifier(StepStatistics()).fit(data.X, data.y)
    certifier = PrefixCertifier(classifier, alpha=0.2).fit(other.solutions, other.first_errors)
    with pytest.raises(ValueError, match="calibrated on"):
        CertifiedPrefixDisplay.from_certifier(certifier, other.solutions, other.first_errors)
    new = make_arithmetic_solutions(10, 2, random_state=2)
    display = CertifiedPrefixDisplay.from_certifier(certifier, new.solutions, new.first_errors)
    assert display.certified.tolist() == certifier.predict(new.solutions).tolist()
    assert "calibrated on 30 problems" in display.ax_.get_title(loc="left")


def test_what_cannot_be_drawn_is_refused(certifier):
    with pytest.raises(TypeError, match="expected a fitted PrefixCertifier"):
        CertifiedPrefixDisplay.from_certifier(0.3, RISKS)
    with pytest.raises(ValueError, match=r"first_errors\[1\] is 2"):
        CertifiedPrefixDisplay.from_certifier(certifier, RISKS, [0, 2, 0, 0])
    with pytest.raises(ValueError, match="X is empty"):
        CertifiedPrefixDisplay.from_certifier(certifier, [])
    with pytest.raises(ValueError, match="not fitted"):
        CertifiedPrefixDisplay.from_certifier(PrefixCertifier(), RISKS)
