"""A solution with the probabilities of its steps: all that is known of a reasoning path after scoring it."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from scipy.special import entr

from prmkit.data.labels import resolve_label_order
from prmkit.data.solution import Solution
from prmkit.metrics.calibration.calibration import check_class_probabilities
from prmkit.metrics.solutions.aggregation import aggregate, p_no_error, ragged_first_error_distribution
from prmkit.utils.environment import as_printed, import_optional
from prmkit.utils.ragged import Ragged

if TYPE_CHECKING:
    import pandas as pd

# Teal, amber, red: told apart by people who do not tell red from green.
_SCALE = ((42, 157, 143), (233, 160, 59), (209, 44, 60))
_UNSCORED = (128, 128, 128)
_BAR_CELLS = 8
_HTML_BAR = "flex:none;align-self:center;width:4em;height:.55em;background:rgba(128,128,128,.25)"
_EIGHTHS = " ▏▎▍▌▋▊▉"
# Steps are somebody else's text: a control character must not reach the terminal.
_VISIBLE_CONTROLS = {code: 0x2400 + code for code in range(32) if code not in (9, 10)} | {127: 0x2421, 155: 0x241B}


def risk_rgb(risk: float) -> tuple[int, int, int]:
    """Return the colour of a risk in [0, 1], from teal (0) over amber (0.5) to red (1). Grey if there is none (NaN)."""
    if np.isnan(risk):
        return _UNSCORED
    part = min(max(float(risk), 0.0), 1.0) * (len(_SCALE) - 1)
    left = min(int(part), len(_SCALE) - 2)
    red, green, blue = (round(a + (b - a) * (part - left)) for a, b in zip(_SCALE[left], _SCALE[left + 1], strict=True))
    return red, green, blue


def risk_bar(risk: float) -> str:
    """Return a bar of eight cells, drawn to an eighth of a cell. It is empty for NaN."""
    eighths = 0 if np.isnan(risk) else round(float(risk) * _BAR_CELLS * 8)
    bar = "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return bar.ljust(_BAR_CELLS)


def shown(value: float) -> str:
    """Return a number with two digits, and a dash if there is none (NaN)."""
    return "–" if np.isnan(value) else f"{value:.2f}"


def solution_text(scored: ScoredSolution, color: bool | None = None, width: int | None = None) -> str:
    """Return a scored solution as a table of its steps."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if color is None:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    table = Table(box=None, padding=(0, 1), pad_edge=True, header_style="dim")
    for name in ("step", "risk", "", "entropy", "first error"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    table.add_column("text", ratio=1, overflow="fold")
    rows = zip(scored.solution.steps, scored.risks, scored.entropy, scored.first_error_distribution, strict=False)
    for index, (text, risk, step_entropy, first) in enumerate(rows):
        style = "rgb({},{},{})".format(*risk_rgb(risk))
        table.add_row(
            str(index),
            Text(shown(risk), style=f"bold {style}"),
            Text(risk_bar(risk), style=style),
            shown(step_entropy),
            shown(first),
            Text(_printable(text) or "(empty step)", style=style if risk >= 0.5 else ""),
        )
    console = Console(
        file=io.StringIO(),
        width=width,
        force_terminal=bool(color),
        force_jupyter=False,
        color_system="auto" if color else None,
        no_color=not color,
        highlight=False,
        emoji=False,
        markup=False,
    )
    if scored.solution.problem:
        console.print(Text.assemble(("Problem  ", "dim"), _printable(scored.solution.problem)), end="\n\n")
    console.print(table)
    console.print()
    console.print(Text("\n".join(_summary(scored))))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def solution_html(scored: ScoredSolution) -> str:
    """Return a scored solution as HTML that stands alone: inline styles, no script, every text escaped."""
    steps = []
    first_error = scored.first_error_distribution
    rows = zip(scored.solution.steps, scored.proba, scored.risks, scored.entropy, strict=True)
    for index, (text, proba, risk, step_entropy) in enumerate(rows):
        rgb = "{},{},{}".format(*risk_rgb(risk))
        said = "\n".join(f"P({label}) = {p:.3f}" for label, p in zip(scored.classes, proba, strict=True))
        tooltip = (
            f"step {index}: risk {risk:.3f}, entropy {step_entropy:.3f} nats\n{said}\n"
            f"P(first error here) = {first_error[index]:.3f}"
        )
        if np.isnan(risk):
            tooltip = f"step {index}: the model gave it no score"
        width = 0 if np.isnan(risk) else risk
        steps.append(
            f'<div title="{escape(tooltip)}" style="display:flex;gap:.7em;margin:2px 0;padding:3px 8px;cursor:help;'
            f'border-left:4px solid rgb({rgb});background:rgba({rgb},{0.08 + 0.22 * width:.2f})">'
            f'<span style="opacity:.6;min-width:1.6em;text-align:right">{index}</span>'
            f'<span style="min-width:2.6em;font-variant-numeric:tabular-nums">{shown(risk)}</span>'
            f'<span style="{_HTML_BAR}">'
            f'<span style="display:block;height:100%;width:{100 * width:.0f}%;background:rgb({rgb})">'
            "</span></span>"
            f'<span style="white-space:pre-wrap;overflow-wrap:anywhere">'
            f"{escape(text) or '<i>(empty step)</i>'}</span></div>"
        )
    problem = scored.solution.problem
    head = f'<div style="white-space:pre-wrap;margin-bottom:.5em"><b>Problem</b> {escape(problem)}</div>'
    legend = '<div style="opacity:.6;font-size:.85em">step, risk (hover for all probabilities)</div>'
    foot = "<br>".join(map(escape, _summary(scored)))
    return (
        '<div class="prmkit-path" style="max-width:60em;line-height:1.45">'
        f"{head if problem else ''}{legend}{''.join(steps)}"
        f'<div style="opacity:.8;font-size:.9em;margin-top:.4em">{foot}</div></div>'
    )


def nulled(values: Any) -> Any:
    """Return numbers as plain Python values, with None for NaN, which JSON does not have."""
    if np.ndim(values):
        return [nulled(value) for value in values]
    return None if np.isnan(values) else float(values)


def _summary(scored: ScoredSolution) -> list[str]:
    if scored.unscored:
        steps = ", ".join(map(str, scored.unscored[:5])) + (", …" if len(scored.unscored) > 5 else "")
        n = len(scored.unscored)
        return [f"no score for {n} of {scored.solution.n_steps} steps ({steps}): P(no error) and rewards are unknown"]
    first = scored.first_error_distribution
    likely = int(first[:-1].argmax())
    return [
        f"P(no error) {first[-1]:.2f}, most likely first error: step {likely} ({first[likely]:.2f})",
        # The last reward judges the solution for some models only, and there is no room here to say for which.
        "rewards: "
        + ", ".join(f"{rule.replace('_', ' ')} {v:.2f}" for rule, v in scored.aggregates.items() if rule != "last"),
    ]


def _printable(text: str) -> str:
    return text.translate(_VISIBLE_CONTROLS)


_SHOWN_AGGREGATES = ("min", "product", "mean", "last", "geometric_mean")


@dataclass(frozen=True, eq=False, repr=False)
class ScoredSolution:
    """A solution and the class probabilities of its steps. Risk and uncertainty follow from them.

    It shows itself: as coloured steps in a terminal (``print``) and in a notebook.

    Parameters
    ----------
    solution : Solution
        With at least one step.
    proba : array-like of shape (n_steps, n_classes)
        Row t depends on the problem and on steps up to t alone, or risks are no hazards. Kept read-only,
        as float64. A row of NaN says that the step has no score. What is computed from it is NaN too: its risk, its
        entropy, and every number of the whole solution, but not the numbers of other steps.
    classes : sequence, length n_classes
        The labels of the columns.
    label_order : sequence, optional
        The labels from worst to best. Not needed for -1/0/+1, "negative"/"neutral"/"positive" and the like.

    Raises
    ------
    ValueError
        For a solution without steps, another shape, rows that are no probabilities (named), or labels of
        which nothing tells the worst.

    Examples
    --------
    >>> solution = Solution("What is 2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15."])
    >>> scored = ScoredSolution(solution, [[0.1, 0.2, 0.7], [0.8, 0.1, 0.1]], classes=[-1, 0, 1])
    >>> scored.risks
    array([0.1, 0.8])
    >>> scored.first_error_distribution.round(2)
    array([0.1 , 0.72, 0.18])
    >>> print(scored.to_text(color=False, width=70))
    Problem  What is 2 + 3 * 4?
    <BLANKLINE>
     step  risk            entropy  first error  text
        0  0.10  ▊            0.80         0.10  3 * 4 = 12.
        1  0.80  ██████▍      0.64         0.72  2 + 12 = 15.
    <BLANKLINE>
    P(no error) 0.18, most likely first error: step 1 (0.72)
    rewards: min 0.20, product 0.18, mean 0.55, geometric mean 0.42
    """

    solution: Solution
    proba: np.ndarray
    classes: tuple[Any, ...]
    label_order: tuple[Any, ...] | None = None

    def __post_init__(self) -> None:
        classes = tuple(c.item() if isinstance(c, np.generic) else c for c in self.classes)
        order = resolve_label_order(classes, self.label_order)
        if order is None:
            raise ValueError(f"nothing tells which of {list(classes)} is worst: pass label_order=[worst, …, best]")
        if not self.solution.n_steps:
            raise ValueError(f"solution {self.solution.id or self.solution.problem!r:.60} has no steps to score")
        proba = check_class_probabilities(self.proba, (self.solution.n_steps, len(classes)), unscored=True)
        proba.flags.writeable = False
        object.__setattr__(self, "proba", proba)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "label_order", order)

    @property
    def unscored(self) -> tuple[int, ...]:
        """0-based indices of the steps without a score, such as those beyond the length that a model can read."""
        return tuple(np.flatnonzero(np.isnan(self.proba[:, 0])).tolist())

    @property
    def risks(self) -> np.ndarray:
        """P(worst class) of each step, shape (n_steps,). Higher is worse. NaN for a step without a score."""
        return self.proba[:, self.ordered_columns[0]]

    @property
    def ordered_columns(self) -> list[int]:
        """The columns of ``proba``, that of the worst class first."""
        assert self.label_order is not None  # resolved above
        return [self.classes.index(label) for label in self.label_order]

    @property
    def rewards(self) -> np.ndarray:
        """``1 - risk`` of each step, shape (n_steps,). Higher is better."""
        return 1.0 - self.risks

    @property
    def entropy(self) -> np.ndarray:
        """Entropy of each step's class probabilities in nats, shape (n_steps,). Higher is more uncertain."""
        entropies: np.ndarray = entr(self.proba).sum(axis=1)
        return entropies

    @property
    def margin(self) -> np.ndarray:
        """``|risk - 1/2|`` of each step, shape (n_steps,). Lower is more uncertain."""
        return np.abs(self.risks - 0.5)

    @property
    def aggregates(self) -> dict[str, float]:
        """Path scores from the rewards: min, product, mean, last, geometric_mean. Higher is better.

        All are NaN if a step has no score. ``last`` judges the solution only if the model's labels of a step are about
        the whole solution up to it.
        """
        return {rule: float(aggregate([self.rewards], rule, unscored=np.nan)[0]) for rule in _SHOWN_AGGREGATES}

    @property
    def p_no_error(self) -> float:
        """Probability that no step is wrong. NaN if a step has no score."""
        return np.nan if self.unscored else p_no_error(self.risks)

    @property
    def first_error_distribution(self) -> np.ndarray:
        """P(step t is the first wrong one), then P(no error), of shape (n_steps + 1,). The sum is 1.

        From the first step without a score on it is NaN.
        """
        return ragged_first_error_distribution(Ragged.from_arrays([self.risks])).values

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain Python values, ready for JSON.

        Returns
        -------
        dict
            The solution, the numbers of each step under ``"steps"``, and the numbers of the whole solution. A number
            that is unknown, because a step has no score, is None.
        """
        per_step = zip(self.proba, self.rewards, self.risks, self.entropy, self.margin, strict=True)
        return {
            "id": self.solution.id,
            "problem": self.solution.problem,
            "classes": list(self.classes),
            "label_order": list(self.label_order or ()),
            "steps": [
                {
                    "text": text,
                    "proba": nulled(proba),
                    "reward": nulled(reward),
                    "risk": nulled(risk),
                    "entropy": nulled(step_entropy),
                    "margin": nulled(step_margin),
                }
                for text, (proba, reward, risk, step_entropy, step_margin) in zip(
                    self.solution.steps, per_step, strict=True
                )
            ],
            "aggregates": {rule: nulled(value) for rule, value in self.aggregates.items()},
            "p_no_error": nulled(self.p_no_error),
            "first_error_distribution": nulled(self.first_error_distribution),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return the steps as a pandas frame, one row each, with the columns of `ScoredList.to_frame`.

        Returns
        -------
        DataFrame
            One row per step.
        """
        return ScoredList([self]).to_frame()

    def to_text(self, color: bool | None = None, width: int | None = None) -> str:
        """Return the solution as text: one line per step with risk, a bar, entropy and P(first error).

        Parameters
        ----------
        color : bool, optional
            Whether to use colour. If None, it is used if standard output is a terminal and ``NO_COLOR`` is not set.
        width : int, optional
            Number of columns. If None, that of the terminal, or 80.

        Returns
        -------
        str
            The problem, a table of the steps, and a summary of the solution.
        """
        return solution_text(self, color=color, width=width)

    def __str__(self) -> str:
        return as_printed(self.to_text())

    def __repr__(self) -> str:
        lacking = f", {len(self.unscored)} without a score" if self.unscored else ""
        return f"<ScoredSolution: {self.solution.n_steps} steps{lacking}, P(no error) {shown(self.p_no_error)}>"

    def _repr_html_(self) -> str:
        return solution_html(self)


_Scored = TypeVar("_Scored")
_N_SHOWN = 100


class ScoredList(list[_Scored]):
    """A list of scored solutions. A notebook shows a line for each, which opens on a click; so do parts of it.

    >>> scored = ScoredSolution(Solution("1 + 1?", ["2."]), [[0.1, 0.9]], classes=[0, 1])
    >>> ScoredList([scored, scored])[:1]
    [<ScoredSolution: 1 steps, P(no error) 0.90>]
    """

    def __getitem__(self, key: Any) -> Any:
        """Return a solution, or a part of the list as such a list."""
        found = super().__getitem__(key)
        return type(self)(found) if isinstance(key, slice) else found

    def to_frame(self) -> pd.DataFrame:
        """Return all steps as a pandas frame, one row each.

        Returns
        -------
        DataFrame
            Columns ``solution`` (its position in the list), ``id``, ``problem``, ``index`` (of the step, from 0) and
            ``text``. Then ``risk``, ``reward``, ``entropy``, ``margin``, ``p_first_error`` and a ``proba_LABEL`` per
            class of the step. Then ``p_no_error``, ``min``, ``product``, ``mean``, ``last`` and ``geometric_mean`` of
            the solution, the same in each of its rows.

        Examples
        --------
        >>> scored = ScoredSolution(Solution("1 + 1?", ["2.", "So 2."]), [[0.1, 0.9], [0.2, 0.8]], classes=[0, 1])
        >>> ScoredList([scored]).to_frame()[["solution", "index", "text", "risk", "min"]]
           solution  index   text  risk  min
        0         0      0     2.   0.1  0.8
        1         0      1  So 2.   0.2  0.8
        """
        pandas = import_optional("pandas", "to_frame")
        entries: list[Any] = list(self)
        scored: list[ScoredSolution] = [getattr(one, "scored", one) for one in entries]
        about = {
            "id": [one.solution.id for one in scored for _ in one.solution.steps],
            "problem": [one.solution.problem for one in scored for _ in one.solution.steps],
            "text": [text for one in scored for text in one.solution.steps],
        }
        made = score_columns(scored)
        places = {"solution": made.pop("solution"), "id": about["id"], "problem": about["problem"]}
        frame: pd.DataFrame = pandas.DataFrame({**places, "index": made.pop("index"), "text": about["text"], **made})
        return frame

    def _repr_html_(self) -> str:
        lines = []
        for number, one in enumerate(self[:_N_SHOWN]):
            scored: ScoredSolution = getattr(one, "scored", one)
            cells = "".join(
                f'<span style="display:inline-block;width:.6em;height:.8em;background:rgb({rgb})"></span>'
                for rgb in ("{},{},{}".format(*risk_rgb(risk)) for risk in scored.risks.tolist())
            )
            about = escape(repr(one).strip("<>").partition(": ")[2])
            problem = escape(" ".join(scored.solution.problem.split())[:80])
            lines.append(
                f'<details><summary><span style="opacity:.6">{number}</span> {cells} {about} '
                f'<span style="opacity:.7">{problem}</span></summary>{one._repr_html_()}</details>'
            )
        more = f"<p>and {len(self) - _N_SHOWN:,} more</p>" if len(self) > _N_SHOWN else ""
        return f"<div>{len(self):,} scored solutions{''.join(lines)}{more}</div>"


def score_columns(scored: Sequence[ScoredSolution]) -> dict[str, np.ndarray]:
    """Return the numbers of all steps as columns. Those of a whole solution stand at each of its steps."""
    if not scored:
        return {name: np.empty(0) for name in ("solution", "index", "risk", "reward")}
    lengths = [one.solution.n_steps for one in scored]
    proba = np.concatenate([one.proba for one in scored])
    return {
        "solution": np.repeat(np.arange(len(scored)), lengths),
        "index": np.concatenate([np.arange(n) for n in lengths]),
        "risk": np.concatenate([one.risks for one in scored]),
        "reward": np.concatenate([one.rewards for one in scored]),
        "entropy": np.concatenate([one.entropy for one in scored]),
        "margin": np.concatenate([one.margin for one in scored]),
        "p_first_error": np.concatenate([one.first_error_distribution[:-1] for one in scored]),
        **{f"proba_{label}": proba[:, i] for i, label in enumerate(scored[0].classes)},
        "p_no_error": np.repeat([one.p_no_error for one in scored], lengths),
        **{rule: np.repeat([one.aggregates[rule] for one in scored], lengths) for rule in _SHOWN_AGGREGATES},
    }
