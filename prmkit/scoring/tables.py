"""Scores of a table of steps, row by row, and the methods that score for every classifier of prmkit."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from prmkit.data.formats.sources import OnError, Source
from prmkit.data.solution import Solution, flatten
from prmkit.data.solution_lines import typed_column
from prmkit.data.step_tables import read_step_table
from prmkit.fitted import FittedClassifier, Label, decision_weights
from prmkit.scoring.incremental import IncrementalScorer
from prmkit.scoring.scored_solution import ScoredList, ScoredSolution, score_columns
from prmkit.scoring.scoring import score_solutions
from prmkit.utils.environment import import_optional


def score_frame(
    classifier: FittedClassifier,
    frame: Source,
    *,
    problem: str = "problem",
    step: str = "step",
    order: str | None = None,
    solution: str | None = None,
    label_order: Sequence[Label] | None = None,
    too_long: Literal["raise", "nan"] | None = None,
    on_error: OnError = "raise",
) -> Any:
    """Score a table with one step per row by a fitted classifier, in the order of its rows.

    Parameters
    ----------
    classifier : fitted classifier of steps
        Any that :func:`~prmkit.score_solutions` takes.
    frame : DataFrame, Arrow table, Dataset, list of dict, or path
        A data frame of pandas or polars, any other table, or the path of a CSV or Parquet file. A column
        ``token_logprobs`` is read as in ``StepDataset.from_frame``.
    problem : str, default="problem"
        Column with the text of the problem.
    step : str, default="step"
        Column with the text of the step.
    order : str, optional
        Column with the number of the step in its solution, from 0 or 1. If None, the order is that of the rows.
    solution : str, optional
        Column that tells the solutions of a problem apart, as in ``StepDataset.from_frame``.
    label_order : sequence of labels, optional
        Labels from worst to best. If None, those that the classifier knows.
    too_long : {"raise", "nan"}, optional
        What to do with steps that the model cannot read, as in :func:`~prmkit.score_solutions`.
    on_error : {"raise", "skip"}, default="raise"
        What to do with rows that have no place in a solution, as in ``StepDataset.from_frame``. With "skip" they have
        no scores (NaN), and a warning names them.

    Returns
    -------
    pandas or polars DataFrame
        The table, of polars if it came from there, with more columns. Of the step: ``risk``, ``reward``, ``predicted``
        (the label), ``entropy``, ``margin``, ``p_first_error`` and a ``proba_LABEL`` per class. Of its solution, the
        same in each of its rows: ``p_no_error``, ``min``, ``product``, ``mean``, ``last`` and ``geometric_mean``.
        ``solution_index`` and ``step_index`` count from 0. The index of a pandas frame is kept.

    Raises
    ------
    TypeError, ValueError
        If a column is missing, the table has a column of the same name as a score, rows have a fault, or nothing
        tells which label is the worst.

    Warns
    -----
    UserWarning
        If rows have no scores.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from prmkit.data import make_arithmetic_solutions
    >>> from prmkit.features import StepStatistics
    >>> X, y = make_arithmetic_solutions(20, 2, random_state=0)
    >>> pipe = make_pipeline(StepStatistics(), LogisticRegression(max_iter=5000)).fit(X, y)
    >>> frame = pd.DataFrame({"problem": "What is 2 + 3?", "step": ["2 + 3 = 6.", "It is 6."]})
    >>> score_frame(pipe, frame)[["step", "step_index"]]
             step  step_index
    0  2 + 3 = 6.           0
    1    It is 6.           1
    """
    columns = {"problem": problem, "step": step, "order": order, "solution": solution}
    table = read_step_table(frame, columns, on_error=on_error)
    solutions = table.to_solutions()
    if not solutions:
        raise ValueError(f"no step is left to score: {'; '.join(table.faults.named[:5])}")
    scored = score_solutions(classifier, solutions, label_order, too_long=too_long)
    numbers = [row.number for one in table.solutions for row in one.rows]
    made = score_columns(scored)
    first = {"risk": made.pop("risk"), "reward": made.pop("reward"), "predicted": _labels(classifier, scored)}
    last = {"solution_index": made.pop("solution"), "step_index": made.pop("index")}
    n_lost = table.n_rows - len(numbers)
    if n_lost:
        warnings.warn(
            f"{n_lost} of {table.n_rows} rows have no scores: {'; '.join(table.faults.named[:5])}",
            UserWarning,
            stacklevel=2,
        )
    spread = {name: _spread(values, numbers, table.n_rows) for name, values in {**first, **made, **last}.items()}
    return _with_columns(frame, [table.cells.get(number, {}) for number in range(table.n_rows)], spread)


class ScoresSolutions:
    """Mixin of classifiers of steps: whole solutions and tables are scored by the class probabilities."""

    def score_solutions(
        self,
        solutions: Iterable[Solution],
        label_order: Sequence[Label] | None = None,
        *,
        too_long: Literal["raise", "nan"] | None = None,
    ) -> ScoredList[ScoredSolution]:
        """Score every step of each solution, and each solution as a whole.

        Parameters
        ----------
        solutions : list of Solution
            Solutions to score. Each has at least one step.
        label_order : sequence of labels, default=None
            Labels from worst to best. If ``None``, ``label_order_`` is used.
        too_long : {"raise", "nan"}, default=None
            What to do with steps that the model cannot read, as in :func:`~prmkit.score_solutions`.

        Returns
        -------
        list of ScoredSolution
            Per step ``proba``, ``rewards``, ``risks``, ``entropy``, ``margin``; per path ``aggregates``,
            ``p_no_error`` and ``first_error_distribution``. ``to_frame()`` of the list makes a table of it.

        Raises
        ------
        ValueError
            If it is not known which label is the worst (see ``label_order``), or a solution has no steps.
        """
        classifier: Any = self
        return score_solutions(classifier, solutions, label_order, too_long=too_long)

    def incremental(
        self,
        problem: str,
        label_order: Sequence[Label] | None = None,
        *,
        too_long: Literal["raise", "nan"] | None = None,
    ) -> IncrementalScorer:
        """Score a solution of a problem while it grows, as search and guided decoding need it.

        Parameters
        ----------
        problem : str
            Text of the problem.
        label_order : sequence of labels, default=None
            Labels from worst to best. If ``None``, ``label_order_`` is used.
        too_long : {"raise", "nan"}, default=None
            What to do with steps that the model cannot read, as in :func:`~prmkit.score_solutions`.

        Returns
        -------
        IncrementalScorer
            A solution without steps. ``extend(steps)`` adds steps and returns their rewards, ``fork()`` copies it.

        Raises
        ------
        TypeError
            If the problem is no text, or the classifier reads numbers.
        ValueError
            If nothing tells which label is the worst.
        """
        classifier: Any = self
        return IncrementalScorer(classifier, problem, label_order, too_long=too_long)

    def score_frame(
        self,
        frame: Source,
        *,
        problem: str = "problem",
        step: str = "step",
        order: str | None = None,
        solution: str | None = None,
        label_order: Sequence[Label] | None = None,
        too_long: Literal["raise", "nan"] | None = None,
        on_error: OnError = "raise",
    ) -> Any:
        """Score a table with one step per row, as :func:`prmkit.scoring.score_frame` does.

        Parameters
        ----------
        frame : DataFrame, Arrow table, Dataset, list of dict, or path
            The table, such as a data frame of pandas or polars, or the path of a CSV file.
        problem, step : str
            Columns with the texts of problem and step.
        order, solution : str, optional
            Columns with the number of the step, and with the name of its solution.
        label_order : sequence of labels, optional
            Labels from worst to best. If None, ``label_order_`` is used.
        too_long : {"raise", "nan"}, optional
            What to do with steps that the model cannot read.
        on_error : {"raise", "skip"}, default="raise"
            What to do with rows that have no place in a solution.

        Returns
        -------
        pandas or polars DataFrame
            The table with the columns ``risk``, ``reward``, ``predicted`` and others.

        Raises
        ------
        TypeError, ValueError
            If a column is missing, rows have a fault, or nothing tells which label is the worst.

        Warns
        -----
        UserWarning
            If rows have no scores.
        """
        columns = {"problem": problem, "step": step, "order": order, "solution": solution}
        return score_frame(self, frame, **columns, label_order=label_order, too_long=too_long, on_error=on_error)  # type: ignore[arg-type]


def _labels(classifier: FittedClassifier, scored: Sequence[ScoredSolution]) -> np.ndarray:
    """Return the predicted label of each step, None where it has no score."""
    proba, weights = np.concatenate([one.proba for one in scored]), decision_weights(classifier)
    has_score = ~np.isnan(proba).any(axis=1)
    labels = np.full(len(proba), None, dtype=object)
    predict = getattr(classifier, "predict", None)
    if weights is None and predict is not None and not isinstance(classifier, ScoresSolutions):
        # Others may decide by a threshold of their own.
        steps = [
            step
            for step, is_scored in zip(flatten(one.solution for one in scored), has_score, strict=True)
            if is_scored
        ]
        labels[has_score] = predict(steps) if steps else []
    else:
        weighed = proba if weights is None else proba * weights
        labels[has_score] = np.array(scored[0].classes, dtype=object)[weighed[has_score].argmax(axis=1)]
    return labels


def _spread(values: np.ndarray, numbers: Sequence[int], n_rows: int) -> np.ndarray:
    """Return values at the rows of these numbers. Other rows hold NaN, or None where they hold labels."""
    if len(numbers) < n_rows and values.dtype.kind in "iu":
        values = values.astype(float)
    nothing = {"O": None, "f": np.nan}.get(values.dtype.kind, 0)
    spread = np.full(n_rows, nothing, dtype=values.dtype)
    spread[np.asarray(numbers, dtype=np.intp)] = values
    return spread


def _with_columns(frame: Any, records: list[Mapping[str, Any]], columns: Mapping[str, np.ndarray]) -> Any:
    """Return a table with more columns: the given frame of pandas or polars, or a pandas frame of the records."""
    kind = type(frame).__module__.partition(".")[0]
    own = frame if kind in ("pandas", "polars") else None
    names = list(own.columns) if own is not None else list(dict.fromkeys(name for one in records for name in one))
    if taken := [name for name in columns if name in names]:
        raise ValueError(
            f"the table has columns that are named like scores, {', '.join(map(repr, taken))}: rename or drop them"
        )
    lists = {name: typed_column(values.tolist()) for name, values in columns.items()}
    if kind == "polars":
        import polars

        return frame.with_columns([polars.Series(name, values.tolist()) for name, values in lists.items()])
    own = import_optional("pandas", "score_frame").DataFrame(records, columns=names) if own is None else own
    return own.assign(**lists)
