"""How far counts of rollouts can be trusted: intervals, and how many steps look wrong by chance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def wilson_interval(n_right: npt.ArrayLike, n_tried: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return the 95 % Wilson intervals of shares. They are NaN where nothing was tried.

    Examples
    --------
    >>> low, high = wilson_interval([4], [16])
    >>> low.round(3), high.round(3)
    (array([0.102]), array([0.495]))
    """
    k, n = np.asarray(n_right, dtype=np.float64), np.asarray(n_tried, dtype=np.float64)
    z = 1.959963984540054
    with np.errstate(divide="ignore", invalid="ignore"):
        share = k / n
        centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
        low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return np.clip(low, 0, 1), np.clip(high, 0, 1)


def precision_of_share(n_right: npt.ArrayLike, n_tried: npt.ArrayLike) -> Floats:
    """Return how much n rollouts have said of a share: 0 for none, towards 1 with more.

    It is one minus the variance of the share after the rollouts, a beta distribution, over the variance before them,
    1/12 of the uniform one.
    """
    k, n = np.asarray(n_right, dtype=np.float64), np.asarray(n_tried, dtype=np.float64)
    return 1 - 12 * (k + 1) * (n - k + 1) / ((n + 2) ** 2 * (n + 3))


class RolloutNoise:
    """How often all rollouts of a step fail though the step can still lead to the right answer.

    The counts of the steps that were tried follow a mixture: a share ``dead`` of the steps never succeeds, and the
    chances of success of the others follow one beta distribution, whose density does not rise towards 0. Rollouts of a
    step are independent. ``dead`` and the two parameters of the beta are the likeliest ones under a weak prior, which
    keeps them finite. That rollouts stopped at the first success does not change the likelihood.

    Parameters
    ----------
    n_right, n_tried : array-like of int, shape (n_steps,)
        Successes and rollouts of each step.
    """

    def __init__(self, n_right: npt.ArrayLike, n_tried: npt.ArrayLike) -> None:
        from scipy.optimize import minimize
        from scipy.special import betaln, expit

        k, n = np.asarray(n_right, dtype=np.float64), np.asarray(n_tried, dtype=np.float64)

        def loss(at: Floats) -> float:
            dead, a, b = expit(at[0]), 1 + np.exp(at[1]), np.exp(at[2])
            live = (1 - dead) * np.exp(betaln(a + k, b + n - k) - betaln(a, b))
            likelihood = np.where(k > 0, live, live + dead)
            # Normal priors: of the log-odds with deviation 2, of the logarithms with deviation 1.5 around 0.5 and 1.
            # The first parameter is above 1: chances that pile up at 0 could not be told from steps that are dead.
            prior = at[0] ** 2 / 8 + ((at[1] - np.log(0.5)) ** 2 + at[2] ** 2) / 4.5
            return float(prior - np.log(np.maximum(likelihood, 1e-300)).sum())

        found = minimize(loss, np.array([0.0, np.log(0.5), 0.0]), method="Nelder-Mead")
        self.dead = float(expit(found.x[0]))
        self.a, self.b = 1 + float(np.exp(found.x[1])), float(np.exp(found.x[2]))

    def p_all_fail(self, n_tried: npt.ArrayLike) -> Floats:
        """Return the probability that all of n rollouts of a step fail that can succeed."""
        from scipy.special import betaln

        log_p = betaln(self.a, self.b + np.asarray(n_tried)) - betaln(self.a, self.b)
        return np.exp(np.asarray(log_p, dtype=np.float64))

    def p_alive_if_all_fail(self, n_tried: npt.ArrayLike) -> Floats:
        """Return the probability that a step can succeed of which all n rollouts failed."""
        live = (1 - self.dead) * self.p_all_fail(n_tried)
        return live / (live + self.dead)
