"""From a step-labelled data set to rows of tokens with targets, and an account of what truncation took."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import prmkit
from prmkit.data._dataset import StepDataset
from prmkit.features.marking._scheme import MarkingScheme
from prmkit.models.trainer._row_rule import RowRule
from prmkit.models.trainer._row_sources import column_names, pretokenized_rows, stepwise_rows

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, slots=True)
class RowReport:
    """What became of the rows of a data set.

    Parameters
    ----------
    n_rows : int
        Rows read: solutions, or pre-tokenised rows.
    n_steps : int
        Labelled steps in them that training asks for.
    n_lost_steps : int
        Those whose label was cut off, for the step does not fit.
    n_without_target : int
        Rows that keep no label, and are left out.
    n_cut_rows : int
        Rows that lost a label, those included.

    Examples
    --------
    >>> print(RowReport(n_rows=10, n_steps=60, n_lost_steps=9, n_without_target=1, n_cut_rows=2))
    9 of 60 labelled steps do not fit and are left out (2 of 10 rows are cut); 1 row without any target is left out
    """

    n_rows: int
    n_steps: int
    n_lost_steps: int
    n_without_target: int
    n_cut_rows: int

    def __str__(self) -> str:
        are, rows = ("is", "row") if self.n_without_target == 1 else ("are", "rows")
        return (
            f"{self.n_lost_steps} of {self.n_steps} labelled steps do not fit and are left out "
            f"({self.n_cut_rows} of {self.n_rows} rows are cut); "
            f"{self.n_without_target} {rows} without any target {are} left out"
        )


def training_rows(
    dataset: Any,
    tokenizer: Any,
    scheme: MarkingScheme,
    *,
    classes: Sequence[Any] | None,
    max_length: int | None = None,
    max_completion_length: int | None = None,
    last_step_only: bool = False,
    too_long: str = "drop",
    is_eval: bool = False,
    num_proc: int | None = None,
) -> tuple[datasets.Dataset | datasets.IterableDataset, RowReport | None]:
    """Tokenise a step-labelled data set for training or evaluation.

    Trailing steps that do not fit are left out whole; the labels that stay are those TRL's truncation keeps.
    Nothing is encoded beyond the last labelled step, which no target sees.

    Parameters
    ----------
    dataset : Dataset, IterableDataset, StepDataset or list of dict
        Stepwise rows: ``prompt`` (str), ``completions`` (list of str), ``labels`` (one per step, None where a step
        is not labelled). Or pre-tokenised rows, used as they are: ``input_ids``, ``labels`` (one per token, class
        codes or probabilities, -100 elsewhere) and, for encoders, ``blocks``.
    tokenizer : transformers tokenizer
    scheme : MarkingScheme
        With ``"prefix"`` each labelled step makes a row, labelled at its last token.
    classes : sequence or None
        Labels, worst first, as :func:`find_classes` returns them; None: labels are probabilities.
    max_length, max_completion_length : int or None
        Tokens of a row, and of its steps alone. None: no limit.
    last_step_only : bool
        Whether the last labelled step of a solution alone is learnt; without effect if ``is_eval``.
    too_long : {"drop", "raise"}, default="drop"
        What becomes of steps that do not fit: left out, or an error.
    is_eval : bool
    num_proc : int or None
        Processes that tokenise; not used for streams.

    Returns
    -------
    rows : Dataset or IterableDataset
        ``input_ids`` (list of int64), ``labels`` (list, one per token: int64 codes, or float32 probabilities; -100
        where there is no target) and ``blocks`` (list of int64: 0 the problem, t + 1 step t; of pre-tokenised rows
        only where given). Rows without a target are left out.
    report : RowReport or None
        None for a stream, which is read while training.

    Raises
    ------
    ValueError
        If no row keeps a target; if a prompt leaves no room for a step; for a row without steps, with labels
        missing or too many, or with labels that are not among the classes.

    Warns
    -----
    UserWarning
        If labels are lost or rows left out, with counts.

    Examples
    --------
    >>> from transformers import AutoTokenizer
    >>> from prmkit.features._model_path import resolve_model
    >>> tokenizer = AutoTokenizer.from_pretrained(resolve_model("all-MiniLM-L6-v2"))
    >>> dataset = [{"prompt": "2 + 3?", "completions": ["It is 5.", "So 6."], "labels": [True, False]}]
    >>> rows, report = training_rows(dataset, tokenizer, MarkingScheme(), classes=(False, True))
    >>> [label for label in rows[0]["labels"] if label != -100], report.n_steps
    ([1, 0], 2)
    """
    import datasets

    rule = RowRule(
        tokenizer=tokenizer,
        scheme=scheme,
        classes=None if classes is None else tuple(classes),
        max_length=max_length,
        max_completion_length=max_completion_length,
        last_labelled_only=last_step_only and not is_eval,
        too_long=too_long,
        version=prmkit.__version__,
    )
    columns = [] if isinstance(dataset, StepDataset) else column_names(dataset)
    if isinstance(dataset, datasets.IterableDataset):
        features = rule.features(columns, counted=False)
        rows = dataset.with_format(None).map(
            rule.stream_rows,
            with_indices=True,
            batched=True,
            batch_size=64,
            remove_columns=columns,
            features=features,
        )
        return rows, None
    if not isinstance(dataset, datasets.Dataset):
        if "input_ids" in columns:
            dataset = pretokenized_rows(dataset)
        else:
            dataset = stepwise_rows(dataset, rule.classes)
            rule = rule.on_codes()
    if not len(dataset):
        raise ValueError("the data set has no rows, expected one or more solutions")
    rows = dataset.with_format(None).map(
        rule.counted_rows,
        with_indices=True,
        batched=True,
        batch_size=256,
        remove_columns=dataset.column_names,
        features=rule.features(dataset.column_names, counted=True),
        num_proc=num_proc,
        desc="Tokenizing",
    )
    return _without_empty(rows, len(dataset), rule)


def _without_empty(rows: datasets.Dataset, n_rows: int, rule: RowRule) -> tuple[datasets.Dataset, RowReport]:
    counts = rows.select_columns(["n_labelled", "n_lost", "has_target"]).with_format("numpy")[:]
    kept = np.flatnonzero(counts["has_target"])
    report = RowReport(
        n_rows=n_rows,
        n_steps=int(np.sum(counts["n_labelled"])),
        n_lost_steps=int(np.sum(counts["n_lost"])),
        n_without_target=len(rows) - len(kept),
        n_cut_rows=int(np.count_nonzero(counts["n_lost"])),
    )
    if not len(kept):
        raise ValueError(
            f"none of {report.n_rows} rows keeps a target: {report.n_steps} labelled steps were found, and "
            f"{report.n_lost_steps} of them do not fit. {rule.limits}: raise them, or label the steps"
        )
    if report.n_lost_steps or report.n_without_target:
        warnings.warn(f"{report}. {rule.limits}", stacklevel=3)
    rows = rows.remove_columns(["n_labelled", "n_lost", "has_target"])
    return rows if len(kept) == len(rows) else rows.select(kept), report


def row_lengths(dataset: datasets.Dataset) -> np.ndarray:
    """Return the number of tokens of each row of ``input_ids``, without reading the tokens.

    Examples
    --------
    >>> import datasets
    >>> row_lengths(datasets.Dataset.from_dict({"input_ids": [[1, 2], [3]]}))
    array([2, 1])
    """
    import pyarrow.compute as pc

    tables = dataset.select_columns("input_ids").with_format("arrow").iter(10_000)
    lengths = [pc.list_value_length(table["input_ids"]).to_numpy() for table in tables]
    return np.concatenate(lengths).astype(np.int64) if lengths else np.zeros(0, dtype=np.int64)
