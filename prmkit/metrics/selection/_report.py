"""The table of the rules that choose one of N samples, each minus the vote, and its picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.data.sampled import HOW_TO_KNOW, Candidates
from prmkit.metrics.bootstrap import BootstrapResult, Interval, bootstrap_counts
from prmkit.metrics.report_table import Comparison, Metrics, Rows, html_table
from prmkit.metrics.selection.best_of_n import best_of_n_accuracy, pass_at_k
from prmkit.metrics.selection.subsets import N_SUBSETS, Sampled, Subsets, samples_until_decided, shares_right
from prmkit.metrics.selection.votes import SCORED_RULES, Missing, Rule, are_shares, check_rule, check_scores, why_unfit
from prmkit.metrics.solutions.aggregation import aggregate
from prmkit.utils.environment import ShowsFigure, import_optional, import_pyplot
from prmkit.utils.ragged import FloatArray, as_numbers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Scores: TypeAlias = npt.ArrayLike | Sequence[npt.ArrayLike]
"""One number per sample, or the rewards of the steps of each sample."""
_ONE, _MAJORITY, _BOUND = "one sample", "majority", "pass@N (oracle)"
_UNTIL_DECIDED = "samples until the vote is decided"


@dataclass(frozen=True, repr=False, kw_only=True)
class SelectionReport(Comparison):
    """How often each rule chooses a right one of N samples, made by :func:`selection_report`.

    ``metrics["majority"]["n=4"]`` is the share of problems with a right choice. The rows of scores are called
    ``"NAME, weighted"`` and so on. ``differences["NAME, weighted"]["n=4"]`` is that row minus the vote, resampled in
    pairs. ``until_decided["n=4"]`` is the number of samples after which the vote of 4 is decided, see
    :func:`vote_is_decided`. ``counts`` says how many samples or problems are of a kind that matters.
    """

    n_samples: int
    sizes: tuple[int, ...]
    until_decided: Mapping[str, Interval]
    counts: Mapping[str, int]
    left_out: tuple[str, ...]
    missing: str
    drop: float
    penalty: float

    def __repr__(self) -> str:
        last = f"n={self.sizes[-1]}"
        shown = ", ".join(f"{name} {metrics[last]}" for name, metrics in self.metrics.items())
        return f"<SelectionReport: {self.n_problems} problems, {last}: {shown}>"

    def to_frame(self) -> pd.DataFrame:
        """Return the numbers as a pandas DataFrame.

        Returns
        -------
        DataFrame
            One line per rule and N, with columns ``rule``, ``n``, ``right``, ``low`` and ``high``, and
            ``minus_majority``, ``minus_majority_low`` and ``minus_majority_high`` (missing for the vote itself).
        """
        pandas = import_optional("pandas", "to_frame, unlike to_dict,")
        lines = []
        for rule, numbers in self.metrics.items():
            for name, size in zip(numbers, self.sizes, strict=True):
                of_all, gain = numbers[name], self.differences.get(rule, {}).get(name, Interval(None))
                lines.append(
                    {
                        "rule": rule,
                        "n": size,
                        "right": of_all.value,
                        "low": of_all.low,
                        "high": of_all.high,
                        "minus_majority": gain.value,
                        "minus_majority_low": gain.low,
                        "minus_majority_high": gain.high,
                    }
                )
        frame: pd.DataFrame = pandas.DataFrame(lines)
        return frame

    def _repr_html_(self) -> str:
        return html_table([*self._rows(self.metrics), *self._rows(self.differences)], self._head(), self._notes())

    def _rows(self, metrics: Metrics) -> Rows:
        """Return the cells of a table with one row per rule."""
        names = [f"n={size}" for size in self.sizes]
        corner = "minus the vote" if metrics is self.differences else "right"
        return [[corner, *names], *([rule, *(str(of[name]) for name in names)] for rule, of in metrics.items())]

    def _shown_differences(self) -> Metrics:
        return self.differences

    def _head(self) -> list[str]:
        return [
            f"{self.n_samples:,} samples{self._of_problems()}; share of problems with a right choice among N samples"
        ]

    def _notes(self) -> list[str]:
        of_last = f"n={self.sizes[-1]}"
        # One or two samples are always decided by the first.
        shown = [size for size in self.sizes if size > 2] or self.sizes
        decided = [f"{self.until_decided[f'n={size}']} of {size}" for size in shown]
        notes = [
            "mean over all subsets of N samples; answers with equal votes, and equal scores, share the choice",
            f"{_UNTIL_DECIDED}, with the same answer: {', '.join(decided)}",
            f"minus the vote: the same problems in both; {_BOUND} is a bound and no rule",
        ]
        if any("filter" in rule for rule in self.metrics):
            notes.append(f"filter drops {self.drop:.0%} of the samples, the worst by score")
        if any("pessimistic" in rule for rule in self.metrics):
            notes.append(f"pessimistic: mean score - {self.penalty:g} log N / (votes + 1)")
        notes += [f"{what}: {n:,}" for what, n in self.counts.items() if n]
        notes += [f"left out: {what}" for what in self.left_out]
        if self.metrics[_MAJORITY][of_last].value == self.metrics[_BOUND][of_last].value:
            notes.append("no rule can be better than the vote here: it is right wherever a sample is")
        return [*notes, *super()._notes()]


def selection_report(
    candidates: Candidates,
    scores: Mapping[str, Scores] | Scores | None = None,
    *,
    aggregation: str | Sequence[str] = "min",
    rules: Sequence[Rule] = ("majority", *SCORED_RULES),
    sizes: Sequence[int] | None = None,
    missing: Missing = "alone",
    drop: float = 0.5,
    penalty: float = 0.5,
    n_subsets: int = N_SUBSETS,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.Generator | None = 0,
) -> SelectionReport:
    """Report how often each rule chooses a right one of N samples, beside one sample, the vote and the best possible.

    Parameters
    ----------
    candidates : Candidates
        Samples of which it is known whether they are right. Those that are not known to be either are left out, and
        counted.
    scores : dict of str to array-like, or array-like, optional
        Scores of one or several verifiers, by name. Each is one number per sample, higher is better, NaN for a sample
        without a score, or the rewards of the steps of each sample.
    aggregation : str or sequence of str, default="min"
        Rules of :func:`aggregate` that turn rewards of steps into scores, each for rows of its own.
    rules : sequence of str, optional
        Rules of :func:`select`. The vote is always among the rows. ``"weighted"`` is left out where a score is
        negative, ``"pessimistic"`` where one is outside [0, 1], and all rules where no sample has a score.
    sizes : sequence of int, optional
        Numbers of samples N. If None, the powers of two, and the largest number of samples of a problem. A problem with
        fewer than N samples takes all of its own, and is counted.
    missing : {"alone", "drop"}
        Whether a sample without an answer votes for itself alone, where it may tie with an answer of one vote, or not
        at all.
    drop : float, default=0.5
        Share of the samples that ``"filter"`` drops, as in :func:`select`.
    penalty : float, default=0.5
        Weight of the penalty of ``"pessimistic"``, as in :func:`select`.
    n_subsets : int, default=400
        Up to this number of subsets of N samples of a problem, all are taken, and the numbers are exact. With the
        default this holds for every N up to 10 samples. Of more subsets, this number is drawn.
    n_resamples : int, default=1000
        Number of resamples of problems.
    confidence_level : float, default=0.95
        Level of the intervals.
    random_state : int, Generator or None, default=0
        Seed of the resamples and of subsets that are drawn.

    Returns
    -------
    SelectionReport
        The report. `SelectionDisplay` draws it.

    Raises
    ------
    TypeError
        If ``candidates`` is no `Candidates`.
    ValueError
        If nothing is known to be right or wrong, the number of scores is not that of the samples, a score is ``inf``,
        or a setting is unknown or out of its range.

    Examples
    --------
    >>> from prmkit.data import load_candidates
    >>> texts = ["The answer is 5", "The answer is 6", "So the answer is 5"]
    >>> rows = [{"problem": "2 + 3?", "completions": texts, "answer": "5"}]
    >>> rows.append({"problem": "2 + 4?", "completions": [texts[0], texts[1]], "answer": "6"})
    >>> report = selection_report(load_candidates(rows).judged(), {"mine": [0.9, 0.2, 0.7, 0.1, 0.8]}, sizes=[1, 2])
    >>> [round(report.metrics[rule]["n=2"].value, 3) for rule in ("mine, best", "majority", "pass@N (oracle)")]
    [1.0, 0.583, 1.0]
    """
    if not isinstance(candidates, Candidates):
        raise TypeError(f"candidates is {type(candidates).__name__}, expected Candidates: load_samples(…)")
    for rule in rules:
        check_rule(rule, missing, drop, penalty)
    correct = np.asarray(candidates.correct, dtype=np.float64)
    is_known = ~np.isnan(correct)
    if not is_known.any():
        raise ValueError(f"none of the {len(correct):,} samples is known to be right or wrong: {HOW_TO_KNOW}")
    by_name = {name: values[is_known] for name, values in _read_scores(scores, len(correct), aggregation).items()}
    sampled = _known(candidates, correct, is_known, missing)
    largest = int(sampled.sizes.max())
    if sizes is None:
        sizes = sorted({2**power for power in range(largest.bit_length())} | {largest})
    if not len(sizes) or min(sizes) < 1 or n_subsets < 1:
        raise ValueError(f"sizes is {list(sizes)} and n_subsets {n_subsets}, expected 1 or more of each")
    left_out = [f"{name}, since none of the samples has a score" for name, of in by_name.items() if np.isinf(of).all()]
    with_scores = {name: of for name, of in by_name.items() if not np.isinf(of).all()}
    seed = int(np.random.default_rng(random_state).integers(2**32)) if random_state is not None else None
    computed = {}
    for name, rule, values in _rows_of(with_scores, rules):
        if values is not None and (reason := why_unfit(rule, values)):
            left_out.append(f"{name}, since {reason}; combine takes any scale")
            continue
        computed[name] = {
            n: _right(sampled, Subsets(n, n_subsets, seed), rule, values, drop=drop, penalty=penalty) for n in sizes
        }
    n_right = np.add.reduceat(sampled.hits.astype(np.int64), np.cumsum(sampled.sizes) - sampled.sizes)
    computed[_BOUND] = {n: pass_at_k(n_right, sampled.sizes, np.minimum(n, sampled.sizes)) for n in sizes}
    until = {n: samples_until_decided(sampled, Subsets(n, n_subsets, seed)) for n in sizes}
    result = _resampled({**computed, _UNTIL_DECIDED: until}, n_resamples, confidence_level, seed)
    drawn = np.max([Subsets(n, n_subsets, seed).are_drawn(sampled.sizes) for n in sizes], axis=0)
    known_contradictions = [i for i in candidates.contradictions if is_known[i]]
    return SelectionReport(
        metrics={name: {f"n={n}": result.interval(f"{name}/{n}") for n in sizes} for name in computed},
        differences={
            name: {f"n={n}": result.difference(f"{name}/{n}", f"{_MAJORITY}/{n}") for n in sizes}
            for name in computed
            if name not in (_MAJORITY, _BOUND)
        },
        n_problems=len(sampled.sizes),
        n_resamples=n_resamples,
        confidence_level=confidence_level,
        n_samples=len(sampled.codes),
        sizes=tuple(sizes),
        until_decided={f"n={n}": result.interval(f"{_UNTIL_DECIDED}/{n}") for n in sizes},
        counts={
            "samples left out, not known to be right or wrong": int((~is_known).sum()),
            "samples whose record contradicts their text, see candidates.contradictions": len(known_contradictions),
            "samples without an answer": int((~sampled.has_answer).sum()),
            f"problems with fewer than {max(sizes)} samples, which take all of their own": int(
                (sampled.sizes < max(sizes)).sum()
            ),
            f"problems with more than {n_subsets} subsets, of which so many are drawn": int(drawn.sum()),
            **{f"samples without a score, {name}": int(np.isinf(of).sum()) for name, of in by_name.items()},
        },
        left_out=tuple(left_out),
        missing=missing,
        drop=float(drop),
        penalty=float(penalty),
    )


def _read_scores(
    scores: Mapping[str, Scores] | Scores | None, n_samples: int, aggregation: str | Sequence[str]
) -> dict[str, FloatArray]:
    """Return one number per sample by name, ``-inf`` for a sample without a score."""
    if scores is None:
        return {}
    found = {}
    for name, given in (scores if isinstance(scores, Mapping) else {"scores": scores}).items():
        try:
            if not isinstance(given, Iterable) or isinstance(given, str):
                raise ValueError(f"{given!r:.60} is one value, expected one per sample")
            values: list[Any] = list(given)
            if len(values) == n_samples and not any(map(np.ndim, values)):
                found[name] = check_scores(values, n_samples)
                continue
            if len(values) != n_samples:
                raise ValueError(f"there are {len(values):,} of them and {n_samples:,} samples, expected the same")
            if scalar := [i for i, one in enumerate(values) if not np.ndim(one)]:
                raise ValueError(f"[{scalar[0]}] is {values[scalar[0]]!r:.60}, expected rewards of steps as elsewhere")
            steps = [as_numbers(one, f"[{i}]") for i, one in enumerate(values)]
            in_range = are_shares(np.concatenate(steps))
            rules = [aggregation] if isinstance(aggregation, str) else aggregation
            for rule in rules:
                of_rule = aggregate(steps, rule, probabilities=in_range, unscored=-np.inf)
                found[f"{name} {rule}"] = check_scores(of_rule, n_samples)
        except ValueError as error:
            raise ValueError(f"scores {name!r}: {error}") from None
    return found


def _rows_of(by_name: Mapping[str, FloatArray], rules: Sequence[Rule]) -> list[tuple[str, Rule, FloatArray | None]]:
    """Return the name, the rule and the scores of each row, the vote among them."""
    rows: list[tuple[str, Rule, FloatArray | None]] = [(_ONE, "random", None)]
    if "first" in rules:
        rows.append(("first sample", "first", None))
    rows.append((_MAJORITY, "majority", None))
    scored = [rule for rule in rules if rule in SCORED_RULES]
    return rows + [(f"{name}, {rule}", rule, values) for name, values in by_name.items() for rule in scored]


def _known(candidates: Candidates, correct: FloatArray, is_known: npt.NDArray[np.bool_], missing: Missing) -> Sampled:
    """Return the samples that are known to be right or wrong, without the problems that have none."""
    answers, at = [], 0
    for one in candidates:
        known = is_known[at : at + len(one.answer_keys)]
        at += len(known)
        if known.any():
            answers.append([key for key, keep in zip(one.answer_keys, known.tolist(), strict=True) if keep])
    return Sampled.of(answers, correct[is_known] == 1, missing)


def _right(
    sampled: Sampled, subsets: Subsets, rule: Rule, scores: FloatArray | None, *, drop: float, penalty: float
) -> FloatArray:
    """Return how often a rule chooses a right sample of each problem."""
    starts = np.cumsum(sampled.sizes) - sampled.sizes
    if rule == "first":
        return np.asarray(sampled.hits[starts], dtype=np.float64)
    if rule == "random":
        return np.asarray(np.add.reduceat(sampled.hits.astype(np.float64), starts) / sampled.sizes)
    if rule != "best" or scores is None:
        return shares_right(sampled, subsets, rule, scores, drop=drop, penalty=penalty)[0]
    right = np.empty(len(sampled.sizes))
    for problems, places in sampled.by_size():
        n = min(subsets.n, places.shape[1])
        right[problems] = best_of_n_accuracy(scores[places], sampled.hits[places], n, ties="average", per_problem=True)
    return right


def _resampled(
    computed: Mapping[str, Mapping[int, FloatArray]], n_resamples: int, confidence_level: float, seed: int | None
) -> BootstrapResult:
    """Resample problems, with one mean per row and N."""
    names = [f"{name}/{n}" for name, by_size in computed.items() for n in by_size]
    values = np.stack([of for by_size in computed.values() for of in by_size.values()])

    def means(counts: FloatArray) -> dict[str, float | None]:
        return dict(zip(names, (values @ counts / counts.sum()).tolist(), strict=True))

    return bootstrap_counts(means, values.shape[1], n_resamples, seed, confidence_level)


_COLORS = ("#1f5fa8", "#e08a1e", "#2a9d8f", "#b5446e", "#6c5ba7", "#8c6d31")
_STYLES = ("-", "--", "-.", ":")
_PLAIN: Mapping[str, dict[str, Any]] = {
    _ONE: {"color": "0.55", "linestyle": "--"},
    _MAJORITY: {"color": "0.15", "linewidth": 2.4},
    _BOUND: {"color": "0.55", "linestyle": ":"},
}


class SelectionDisplay(ShowsFigure):
    """Plot of a selection report: the share of right choices against the number of samples.

    Parameters
    ----------
    report : SelectionReport
        The report to draw, made by :func:`selection_report`.

    Attributes
    ----------
    figure_ : matplotlib Figure
        The figure.
    ax_ : matplotlib Axes
        The axes of the curves.

    Examples
    --------
    >>> display = SelectionDisplay(selection_report(candidates, scores)).plot()  # doctest: +SKIP
    """

    figure_: Figure | SubFigure
    ax_: Axes

    def __init__(self, report: SelectionReport) -> None:
        self.report = report

    @classmethod
    def from_candidates(
        cls,
        candidates: Candidates,
        scores: Mapping[str, Scores] | Scores | None = None,
        *,
        ax: Axes | None = None,
        **options: Any,
    ) -> SelectionDisplay:
        """Report on candidates and draw the report.

        Parameters
        ----------
        candidates : Candidates
            Samples of which it is known whether they are right.
        scores : dict of str to array-like, or array-like, optional
            Scores of one or several verifiers, as in :func:`selection_report`.
        ax : matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.
        **options
            Further arguments of :func:`selection_report`.

        Returns
        -------
        SelectionDisplay
            The display, drawn.
        """
        return cls(selection_report(candidates, scores, **options)).plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> SelectionDisplay:
        """Draw the report, with the interval of the vote as a band.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            The axes to draw into. If None, a new figure is made.

        Returns
        -------
        SelectionDisplay
            The display itself.
        """
        if ax is None:
            _, ax = import_pyplot().subplots(figsize=(7.6, 4.6), layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure
        sizes = list(self.report.sizes)
        of_rules = [name for name in self.report.metrics if name not in _PLAIN]
        for name, by_size in self.report.metrics.items():
            style: dict[str, Any] = {"linewidth": 1.5}
            if name in _PLAIN:
                style |= _PLAIN[name]
            else:
                i = of_rules.index(name)
                style |= {"color": _COLORS[i % len(_COLORS)], "linestyle": _STYLES[i // len(_COLORS) % len(_STYLES)]}
            intervals = list(by_size.values())
            values = np.array([one.value for one in intervals], dtype=np.float64)
            ax.plot(sizes, values, marker=".", label=name, **style)
            if name == _MAJORITY and intervals[0].low is not None:
                ends = ([one.low for one in intervals], [one.high for one in intervals])
                ax.fill_between(sizes, *ends, color="0.15", alpha=0.1, linewidth=0)  # type: ignore[arg-type]
        ax.set_xscale("log", base=2)
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.set_xticks([], minor=True)
        ax.set(xlabel="samples N", ylabel="share of problems with a right choice")
        ax.grid(color="0.92")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return self
