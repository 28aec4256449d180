"""Whether a guarantee holds, and what it costs: observed failures against the level, over many random splits."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.base import clone

from prmkit.fitted import refuse_shared_problems, training_problems
from prmkit.uncertainty._solutions_input import FirstErrors, Paths, PathsInput, read_first_errors, read_paths
from prmkit.uncertainty.guarantees._error_detector import ErrorDetector
from prmkit.uncertainty.guarantees._first_error_set import FirstErrorSet
from prmkit.uncertainty.guarantees._prefix_certifier import PrefixCertifier
from prmkit.uncertainty.guarantees.base import PathGuarantee
from prmkit.utils.environment import ShowsFigure, import_pyplot
from prmkit.utils.sklearn import random_generator

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEVELS = tuple(np.linspace(0.02, 0.5, 13).round(6).tolist())
# Percentiles over splits.
_RANGE = (10, 90)
_COLOR = "#1f5fa8"
_LEGEND: dict[str, Any] = {"fontsize": 9, "facecolor": "white", "edgecolor": "none", "framealpha": 0.85}
_TARGET: dict[str, Any] = {"color": "0.45", "linestyle": "--", "linewidth": 1.2}
_UNATTAINABLE: dict[str, Any] = {
    "facecolor": "0.95",
    "edgecolor": "0.8",
    "hatch": "//",
    "linewidth": 0,
    "zorder": 0,
    "label": "too few to calibrate",
}
# Per guarantee: the name of a failure on the axis, the entry of evaluate() with its utility, and that one's name.
_VIEWS = {
    PrefixCertifier: ("share of paths with a certified error", "kept_fraction", "kept fraction of a path's steps"),
    ErrorDetector: ("share of erroneous paths not flagged", "false_alarm_rate", "share of error-free paths flagged"),
    FirstErrorSet: ("share of sets without the true first error", "mean_size", "outcomes in a set"),
}


class CoverageDisplay(ShowsFigure):
    """Plot of observed failure rates against the tolerated rate, made by :meth:`from_guarantee`.

    The left plot shows the failure rate on test problems: the mean over splits, and the range from the 10th to the 90th
    percentile of the splits. A guarantee that holds *on average* keeps the mean at or below the diagonal, and not the
    whole range. The right plot shows the price or the gain.

    Parameters
    ----------
    levels : ndarray of shape (n_levels,)
        Tolerated failure rates.
    failure_rates : ndarray of shape (n_splits, n_levels)
        Observed failure rates. NaN if a split had nothing to observe.
    utility : ndarray of shape (n_splits, n_levels)
        Price or gain of each split.
    attainable : ndarray of bool of shape (n_splits, n_levels)
        Whether the calibration had enough units for the level.
    best_utility : float, optional
        Utility of a verifier without fault.
    failure_name : str, default="failure rate"
        Label of the left y-axis.
    utility_name : str, default="utility"
        Label of the right y-axis.
    caption : str, default=""
        Title of the plot.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure, after :meth:`plot`.
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The axes of failure rates and utility, after :meth:`plot`.

    Examples
    --------
    >>> from prmkit.uncertainty import CoverageDisplay, PrefixCertifier
    >>> rng = np.random.default_rng(0)
    >>> risks = [rng.random(5) for _ in range(60)]
    >>> first_errors = rng.integers(-1, 5, size=60)
    >>> display = CoverageDisplay.from_guarantee(  # doctest: +SKIP
    ...     PrefixCertifier(), risks, first_errors, levels=[0.1, 0.2], n_splits=20
    ... )
    """

    figure_: Figure
    axes_: np.ndarray

    def __init__(
        self,
        levels: np.ndarray,
        failure_rates: np.ndarray,
        utility: np.ndarray,
        attainable: np.ndarray,
        *,
        best_utility: float | None = None,
        failure_name: str = "failure rate",
        utility_name: str = "utility",
        caption: str = "",
    ) -> None:
        self.levels = levels
        self.failure_rates = failure_rates
        self.utility = utility
        self.attainable = attainable
        self.best_utility = best_utility
        self.failure_name = failure_name
        self.utility_name = utility_name
        self.caption = caption

    @classmethod
    def from_guarantee(
        cls,
        guarantee: PathGuarantee[Any],
        X: PathsInput,
        first_errors: FirstErrors,
        groups: npt.ArrayLike | None = None,
        *,
        levels: npt.ArrayLike = _LEVELS,
        n_splits: int = 50,
        calibration_size: float = 0.5,
        random_state: int | np.random.RandomState | None = 0,
        ax: Sequence[Axes] | npt.NDArray[np.object_] | None = None,
    ) -> CoverageDisplay:
        """Calibrate on random problems and test on the others, many times and at each level, and draw the result.

        Parameters
        ----------
        guarantee : PrefixCertifier, ErrorDetector or FirstErrorSet
            Guarantee to check. It need not be fitted. If it has a classifier, that must be fitted on other problems.
            Its own level is not used.
        X : list of Solution, or list of array-like of shape (n_steps,)
            Paths, as its ``fit`` takes them. The classifier scores each path once.
        first_errors : array-like of int of shape (n_paths,)
            0-based index of the first wrong step, -1 if no step is wrong.
        groups : array-like of shape (n_paths,), optional
            Problem of each path, as its ``fit`` takes it.
        levels : array-like of shape (n_levels,)
            Tolerated failure rates in (0, 1): ``alpha``, or ``1 - recall``. The default runs from 0.02 to 0.5.
        n_splits : int, default=50
            Number of random splits.
        calibration_size : float, default=0.5
            Share of the units (problems, or paths if no problem is known) to calibrate on.
        random_state : int, RandomState or None, default=0
            Seed of the splits.
        ax : two matplotlib Axes, optional
            Axes to draw into. If ``None``, a new figure is made.

        Returns
        -------
        CoverageDisplay
            The display, drawn.

        Raises
        ------
        TypeError
            If the guarantee is of another kind.
        ValueError
            If a level or the calibration size is outside (0, 1), there are no splits or fewer than two units, the
            classifier was trained on a problem, or ``fit`` refuses the paths.
        """
        view = next((view for kind, view in _VIEWS.items() if isinstance(guarantee, kind)), None)
        if view is None:
            expected = ", ".join(kind.__name__ for kind in _VIEWS)
            raise TypeError(f"guarantee is {type(guarantee).__name__}, expected one of {expected}")
        rates = _check_levels(levels)
        if n_splits < 1 or not 0 < calibration_size < 1:
            raise ValueError(
                f"n_splits is {n_splits} and calibration_size {calibration_size}, expected at least 1 split, "
                "and a share of the problems in (0, 1)"
            )
        paths = read_paths(guarantee.classifier, X, groups)
        refuse_shared_problems(paths.keys, training_problems(guarantee.classifier), "the classifier was trained on")
        errors = read_first_errors(first_errors, paths)
        unit, n_units = ("problems" if len(paths.keys) else "paths"), paths.n_units
        if n_units < 2:
            raise ValueError(f"X holds {n_units} {unit}, expected at least 2: some to calibrate on, some to test on")
        n_calibration = min(max(round(calibration_size * n_units), 1), n_units - 1)
        rng = random_generator(random_state)
        rows = []
        for _ in range(n_splits):
            calibrates = (rng.permutation(n_units) < n_calibration)[paths.units]
            calibration, test = (_side(paths, errors, side) for side in (calibrates, ~calibrates))
            rows.append([_outcome(_at_level(guarantee, level), calibration, test, view[1]) for level in rates])
        failures, utility, attainable, best = np.moveaxis(np.array(rows, dtype=float), -1, 0)
        promise = "on average" if getattr(guarantee, "delta", None) is None else f"δ = {guarantee.delta:g}"
        display = cls(
            rates,
            failures,
            utility,
            attainable.astype(bool),
            best_utility=None if np.isnan(best).all() else float(np.nanmean(best)),
            failure_name=view[0],
            utility_name=view[2],
            caption=f"{type(guarantee).__name__}, {promise}: {n_splits} splits of {n_units:,} {unit}, "
            f"{n_calibration:,} calibrate",
        )
        return display.plot(ax=ax)

    def plot(self, ax: Sequence[Axes] | npt.NDArray[np.object_] | None = None) -> CoverageDisplay:
        """Draw the plot.

        Parameters
        ----------
        ax : two matplotlib Axes, optional
            Axes to draw into. If ``None``, a new figure is made.

        Returns
        -------
        CoverageDisplay
            The display itself.
        """
        if ax is None:
            _, ax = import_pyplot().subplots(1, 2, figsize=(9.5, 4.4), layout="constrained")
        self.axes_ = np.asarray(ax, dtype=object)
        if self.axes_.shape != (2,):
            raise ValueError(f"ax has shape {self.axes_.shape}, expected two axes: plt.subplots(1, 2)[1]")
        self.figure_ = self.axes_[0].figure
        failures, utility = self.axes_
        top = float(max(self.levels))
        failures.plot([0, top], [0, top], **_TARGET, label="tolerated")
        self._plot_splits(failures, self.failure_rates)
        failures.set(ylabel=self.failure_name, ylim=(0, None))
        failures.set_title(self.caption, loc="left", fontsize=10)
        if self.best_utility is not None:
            utility.axhline(self.best_utility, **_TARGET, label="a perfect verifier")
        self._plot_splits(utility, self.utility)
        utility.set(ylabel=self.utility_name, ylim=(0, None))
        for axis in self.axes_:
            self._mark_unattainable(axis)
            axis.set(xlim=(0, 1.02 * top), xlabel="tolerated failure rate")
            axis.grid(color="0.92")
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
        failures.legend(**_LEGEND, loc="upper left")
        if self.best_utility is not None:
            line = utility.get_lines()[:1]
            utility.legend(handles=line, **_LEGEND, loc="lower right")
        return self

    def _plot_splits(self, axis: Axes, values: np.ndarray) -> None:
        """Draw the mean and the range over splits."""
        observed = ~np.isnan(values).all(axis=0)
        if not observed.any():
            return
        levels, values = np.asarray(self.levels)[observed], values[:, observed]
        low, high = np.nanpercentile(values, _RANGE, axis=0)
        spread = "{} to {} % of splits".format(*_RANGE)
        axis.fill_between(levels, low, high, color=_COLOR, alpha=0.18, linewidth=0, label=spread)
        axis.plot(levels, np.nanmean(values, axis=0), "o-", color=_COLOR, markersize=4, label="observed, mean")

    def _mark_unattainable(self, axis: Axes) -> None:
        """Shade the levels for which most splits had too few units."""
        too_few = np.asarray(self.levels)[self.attainable.mean(axis=0) < 0.5]
        if len(too_few):
            axis.axvspan(0, too_few.max(), **_UNATTAINABLE)


def _side(paths: Paths, first_errors: np.ndarray, chosen: np.ndarray) -> tuple[Any, ...]:
    """Return risks, first errors and problems of the chosen paths, as ``fit`` takes them."""
    risks = paths.risks.take(np.flatnonzero(chosen)).split()
    return risks, first_errors[chosen], paths.units[chosen] if paths.n_units < len(chosen) else None


def _at_level(guarantee: PathGuarantee[Any], level: float) -> PathGuarantee[Any]:
    """Return an unfitted copy that tolerates ``level`` and reads risks."""
    name, value = ("recall", 1 - level) if isinstance(guarantee, ErrorDetector) else ("alpha", level)
    copy: PathGuarantee[Any] = clone(guarantee).set_params(classifier=None, **{name: value})
    return copy


def _outcome(
    guarantee: PathGuarantee[Any], calibration: tuple[Any, ...], test: tuple[Any, ...], utility: str
) -> tuple[float | int | None, ...]:
    """Return the failure rate, the utility, whether the level is attainable, and the best utility."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a failure rate of .* is not attainable", UserWarning)
        guarantee.fit(*calibration)
    report = guarantee.evaluate(*test)
    failure = report.get("failure_rate")
    if "failure_rate" not in report:
        success = report["recall" if "recall" in report else "coverage"]
        failure = None if success is None else 1 - success
    return failure, report[utility], guarantee.attainable_, report.get("perfect_kept_fraction")


def _check_levels(levels: npt.ArrayLike) -> np.ndarray:
    """Return the levels as sorted numbers."""
    values = np.atleast_1d(np.asarray(levels, dtype=float))
    if values.ndim != 1 or not len(values) or not ((values > 0) & (values < 1)).all():
        raise ValueError(f"levels is {levels!r}, expected failure rates in (0, 1), such as [0.05, 0.1, 0.2]")
    return np.unique(values)
