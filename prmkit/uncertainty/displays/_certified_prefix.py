"""How much of each solution is certified, and whether an error slipped through: one bar per path, or a summary."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from prmkit.metrics.pyplot import import_pyplot
from prmkit.metrics.solutions.first_errors import check_first_errors
from prmkit.scoring.scored_solution import risk_rgb
from prmkit.uncertainty.guarantees._prefix_certifier import PrefixCertifier
from prmkit.uncertainty.guarantees._thresholds import unit_weights

_CERTIFIED, _WRONG = (tuple(part / 255 for part in risk_rgb(risk)) for risk in (0.0, 1.0))
_REST = "0.87"
_STOPPED = {"marker": "x", "color": "0.25", "markersize": 5, "markeredgewidth": 1.5}
_FAILED = {
    "marker": "X",
    "color": _WRONG,
    "markersize": 8,
    "markeredgecolor": "white",
    "markeredgewidth": 0.8,
}


class CertifiedPrefixDisplay:
    """Plot of the certified prefixes of paths; made by :meth:`from_certifier`.

    Up to ``max_paths`` paths: a row each, a cell for each step. More: for every fraction of a path, the share of paths
    of which at least that much is certified, beside what a verifier without fault keeps; the area below each curve is
    the mean kept fraction (of a path).

    Parameters
    ----------
    certified : ndarray of int of shape (n_paths,)
        Length of the certified prefix of each path.
    lengths : ndarray of int of shape (n_paths,)
        Number of steps of each path.
    first_errors : ndarray of int of shape (n_paths,), optional
        0-based index of the labelled first error, -1 where there is none.
    units : ndarray of int of shape (n_paths,), optional
        The problem of each path: failure rate and kept fractions are means over problems of the mean over their paths.
        None: each path is one.
    caption : str, default=""
        What the paths were certified with; stands above the plot.
    max_paths : int, default=40
        The largest number of paths that are drawn one by one.

    Attributes
    ----------
    figure_ : matplotlib Figure
    ax_ : matplotlib Axes
        After :meth:`plot`.

    Examples
    --------
    >>> display = CertifiedPrefixDisplay(
    ...     certified=np.array([2, 3, 0]), lengths=np.array([4, 3, 2]), first_errors=np.array([3, 2, -1])
    ... )
    >>> display.failures
    array([False,  True, False])
    >>> round(display.failure_rate, 2), display.kept_fraction, round(display.perfect_kept_fraction, 2)
    (0.33, 0.5, 0.81)
    """

    figure_: Any
    ax_: Any

    def __init__(
        self,
        certified: np.ndarray,
        lengths: np.ndarray,
        *,
        first_errors: np.ndarray | None = None,
        units: np.ndarray | None = None,
        caption: str = "",
        max_paths: int = 40,
    ) -> None:
        self.certified = certified
        self.lengths = lengths
        self.first_errors = first_errors
        self.units = units
        self.caption = caption
        self.max_paths = max_paths

    @classmethod
    def from_certifier(
        cls,
        certifier: PrefixCertifier,
        X: Any,
        first_errors: Any = None,
        groups: Any = None,
        *,
        ax: Any = None,
        max_paths: int = 40,
    ) -> CertifiedPrefixDisplay:
        """Certify paths of new problems and draw the result.

        Parameters
        ----------
        certifier : fitted PrefixCertifier
        X, groups
            As the certifier's ``predict`` takes them.
        first_errors : array-like of int of shape (n_paths,), optional
            0-based index of the first wrong step, -1 where no step is wrong. None: nothing is known of failures.
        ax : matplotlib Axes, optional
        max_paths : int, default=40

        Raises
        ------
        TypeError
            If ``certifier`` is no PrefixCertifier.
        ValueError
            For first errors that a path does not have, no paths, or problems of the calibration.
        """
        if not isinstance(certifier, PrefixCertifier):
            raise TypeError(f"certifier is {type(certifier).__name__}, expected a fitted PrefixCertifier")
        check_is_fitted(certifier)
        paths = certifier.read(X, groups)
        if not len(paths.lengths):
            raise ValueError("X is empty: at least 1 path is required")
        checked = None if first_errors is None else check_first_errors(first_errors, paths.lengths)
        display = cls(
            certifier.decide(paths),
            paths.lengths,
            first_errors=checked,
            units=paths.units,
            caption=_caption(certifier),
            max_paths=max_paths,
        )
        return display.plot(ax=ax)

    @property
    def failures(self) -> np.ndarray | None:
        """Whether each certified prefix contains the path's first error, shape (n_paths,); None without labels."""
        return None if self.first_errors is None else self.certified > self._right

    @property
    def failure_rate(self) -> float | None:
        """Share of paths that fail; None without labels."""
        return None if self.failures is None else self._mean(self.failures)

    @property
    def kept_fraction(self) -> float:
        """Mean share of a path's steps that is certified."""
        return self._mean(self.certified / self.lengths)

    @property
    def perfect_kept_fraction(self) -> float | None:
        """Mean share of a path's steps before its first error; None without labels."""
        return None if self.first_errors is None else self._mean(self._right / self.lengths)

    def plot(self, ax: Any = None) -> CertifiedPrefixDisplay:
        """Draw, into ``ax`` if given, and return the display."""
        singly = len(self.lengths) <= self.max_paths
        if ax is None:
            height = 1.5 + 0.2 * max(len(self.lengths), 6) if singly else 4.4
            _, ax = import_pyplot().subplots(figsize=(7.5, height), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        if singly:
            self._plot_paths(ax)
        else:
            self._plot_shares(ax)
        place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 1.0), "borderpad": 0}
        ax.legend(frameon=False, fontsize=8, ncols=4, reverse=True, **place)
        ax.set_title("\n".join(self._title()), loc="left", fontsize=10, pad=20)
        ax.spines[["top", "right"]].set_visible(False)
        return self

    def _plot_paths(self, ax: Any) -> None:
        order = np.lexsort((-self.lengths, -self.certified))  # most certified first, then the longest
        lengths, certified = self.lengths[order], self.certified[order]
        rows = np.repeat(np.arange(len(order)), lengths)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = places < np.repeat(certified, lengths)
        for cells, color, label in ((~kept, _REST, "not certified"), (kept, _CERTIFIED, "certified")):
            if cells.any():
                ax.barh(rows[cells], 0.92, 0.8, left=places[cells] + 0.04, color=color, label=label)
        if self.first_errors is not None and self.failures is not None:
            errors, failed = self.first_errors[order], self.failures[order]
            for chosen, label, style in (
                ((errors >= 0) & ~failed, "first error, not certified", _STOPPED),
                (failed, "first error, certified (failure)", _FAILED),
            ):
                marked = np.flatnonzero(chosen)
                if len(marked):
                    ax.plot(errors[marked] + 0.5, marked, linestyle="", label=label, **style)
        ax.set(
            xlim=(0, lengths.max()), ylim=(len(order) - 0.4, -0.6), xlabel="step", ylabel="path (row of X)"
        )
        ax.set_yticks(np.arange(len(order)), order.tolist(), fontsize=7)
        shown = np.arange(0, lengths.max(), -(-int(lengths.max()) // 20))
        ax.set_xticks(shown + 0.5, shown.tolist())
        ax.tick_params(length=0)

    def _plot_shares(self, ax: Any) -> None:
        if self.first_errors is not None:
            shares = _share_with_at_least(self._right / self.lengths, self._weights)
            ax.plot(*shares, color="0.45", linestyle="--", linewidth=1.2, label="perfect verifier")
        shares = _share_with_at_least(self.certified / self.lengths, self._weights)
        ax.plot(*shares, color=_CERTIFIED, linewidth=2, label="certified")
        ax.fill_between(*shares, color=_CERTIFIED, alpha=0.15, linewidth=0)
        ax.set(xlim=(0, 1), ylim=(0, 1.01), ylabel="share of paths that keep at least that")
        ax.set_xlabel(f"kept fraction of a path's steps ({len(self.lengths):,} paths)")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)

    def _title(self) -> list[str]:
        numbers = f"kept {self.kept_fraction:.0%} of a path's steps"
        if self.first_errors is not None:
            perfect = f"{self.perfect_kept_fraction:.0%}"
            numbers = f"failure rate {self.failure_rate:.2f} · {numbers} (perfect verifier: {perfect})"
        return [line for line in (self.caption, numbers) if line]

    @property
    def _right(self) -> np.ndarray:
        """The number of steps before the first error."""
        errors = np.asarray(self.first_errors)
        return np.where(errors >= 0, errors, self.lengths)

    @property
    def _weights(self) -> np.ndarray:
        """Weight of each path in a mean over units, shape (n_paths,); they sum to 1."""
        weights, n_units = unit_weights(np.arange(len(self.lengths)) if self.units is None else self.units)
        return weights / n_units

    def _mean(self, values: np.ndarray) -> float:
        return float(self._weights @ values)


def _share_with_at_least(fractions: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return corners of the curve "share of paths whose fraction is at least x": falling steps from 0 to 1."""
    order = np.argsort(fractions)
    left = np.append(1.0, 1.0 - np.cumsum(weights[order]))  # the share that is left beyond each fraction
    x = np.concatenate([[0.0], np.repeat(fractions[order], 2), [1.0]])
    return x, np.clip(np.repeat(left, 2), 0.0, 1.0)


def _caption(certifier: PrefixCertifier) -> str:
    """What the certifier promises, in a line."""
    alpha, delta = certifier.settings_["alpha"], certifier.settings_["delta"]
    level = f"α = {alpha:g}" + ("" if delta is None else f", δ = {delta:g}")
    calibrated = f"{level}, calibrated on {certifier.n_calibration_:,} {certifier.unit_}s"
    if not certifier.attainable_:
        return f"{calibrated}: too few, not attainable, nothing is certified"
    return f"{calibrated}: a step passes at a risk up to {certifier.threshold_:.3g}"
