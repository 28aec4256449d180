"""From a step-labelled data set to rows of tokens with targets, and an account of the steps that truncation took."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

import prmkit
from prmkit.data import load
from prmkit.data.dataset import StepDataset
from prmkit.data.solution import Solution, iter_solutions
from prmkit.marking.encoding import MarkedTokens, SolutionEncoder
from prmkit.marking.scheme import MarkingScheme
from prmkit.models.trainer._objectives import Objective, known_of_solutions
from prmkit.models.trainer._targets import IGNORE, STEPWISE, Classes, check_lengths, column_names, label_codes

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    from prmkit.models.trainer._config import TooLong
    from prmkit.models.trainer._targets import TrainingData

Row = dict[str, npt.NDArray[Any]]
Codes = list[int | float | None]
_Made = tuple[list[Row], tuple[int, int]]
_COUNTS = ("n_labelled", "n_lost", "n_further", "n_lost_further", "has_target")


def _n_targets(rows: Sequence[Row], column: str) -> int:
    return sum(int(np.count_nonzero(row[column] != IGNORE)) for row in rows)


def stepwise_rows(
    dataset: StepDataset | Sequence[Mapping[str, Any]], classes: Classes | None, objectives: Sequence[Objective] = ()
) -> datasets.Dataset:
    """Return a StepDataset, or a list of stepwise rows, as a Dataset whose labels are codes.

    A StepDataset gives one row per distinct solution, with null for a step without label. A step with two labels puts
    its solution on a second row, as in :meth:`StepDataset.to_hf`. Values of further objectives become codes too.
    """
    import datasets

    rows = _lines(dataset, [one.field for one in objectives]) if isinstance(dataset, StepDataset) else dataset
    columns: dict[str, list[Any]] = {name: [] for name in (*STEPWISE, *(one.field for one in objectives))}
    kinds: set[bool] = set()
    for i, row in enumerate(rows):
        missing = [name for name in STEPWISE if name not in row]
        if missing:
            raise ValueError(f"row {i} lacks {', '.join(missing)}, expected {', '.join(STEPWISE)}")
        check_lengths(row["completions"], row["labels"], f"row {i}")
        for text in (row["prompt"], *row["completions"]):
            # The column type would turn 5 into "5".
            if not isinstance(text, str):
                raise TypeError(f"row {i}: a text is {type(text).__name__} ({text!r:.40}), expected str")
        columns["prompt"].append(row["prompt"])
        columns["completions"].append(list(row["completions"]))
        columns["labels"].append(label_codes(row["labels"], classes, f"row {i}"))
        for one in objectives:
            columns[one.field].append(one.codes(row.get(one.field), len(row["completions"]), f"row {i}"))
        kinds |= {isinstance(label, float) for label in row["labels"] if label is not None}
        if len(kinds) > 1:
            raise ValueError(
                f"labels mix floats with others, in row {i} or before it, expected one kind: write 1.0, not 1 or True"
            )
    features = {
        "prompt": datasets.Value("string"),
        "completions": [datasets.Value("string")],
        "labels": [datasets.Value("float32" if classes is None else "int64")],
        **{one.field: datasets.Value("int64") if one.of_solution else [datasets.Value("int64")] for one in objectives},
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def readable_data(dataset: TrainingData) -> TrainingData:
    """Return data that the trainer reads itself, or what ``prmkit.data.load`` makes of rows in another layout.

    A table of pandas or Arrow becomes its rows.
    """
    import datasets

    if isinstance(dataset, (StepDataset, datasets.IterableDataset)):
        return dataset
    rows: Any = dataset
    if hasattr(rows, "to_dict") and hasattr(rows, "iloc"):
        # pandas gives arrays for lists that were read from Parquet.
        rows = [
            {name: value.tolist() if hasattr(value, "tolist") else value for name, value in row.items()}
            for row in rows.to_dict("records")
        ]
    elif hasattr(rows, "to_pylist"):
        rows = rows.to_pylist()
    columns = getattr(rows, "column_names", None)
    if columns is None and isinstance(rows, (list, tuple)) and rows and isinstance(rows[0], Mapping):
        columns = list(rows[0])
    if columns and {"problem", "steps", "labels"} <= set(columns) and isinstance(rows, datasets.Dataset):
        return StepDataset.from_hf(rows)
    names_classes = "ClassLabel" in str((getattr(rows, "features", None) or {}).get("labels"))
    if not columns or ({"input_ids", "completions"} & set(columns) and not names_classes):
        return cast("TrainingData", rows)
    return load(rows)


def pretokenized_rows(rows: Sequence[Mapping[str, Any]]) -> datasets.Dataset:
    """Return a list of pre-tokenised rows, which have the columns of the first one, as a Dataset."""
    import datasets

    names = [name for name in ("input_ids", "labels", "blocks") if name in rows[0]]
    for i, row in enumerate(rows):
        missing = [name for name in names if name not in row]
        if missing:
            raise ValueError(f"row {i} lacks {', '.join(missing)}, expected {', '.join(names)} as in row 0")
    return datasets.Dataset.from_dict({name: [list(row[name]) for row in rows] for name in names})


def _lines(dataset: StepDataset, fields: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a stepwise row per distinct solution, and one more for each further label of a step.

    Fields of ``meta`` stand beside the first row of a solution. With one, it needs no labelled step.
    """
    y, known = dataset.y.tolist(), known_of_solutions(dataset, fields) if fields else {}
    for solution, rows, indices in iter_solutions(dataset.X):
        lines: list[list[Any]] = []
        for row, index in zip(rows, indices, strict=True):
            line = next((line for line in lines if line[index] is None), None)
            if line is None:
                line = [None] * solution.n_steps
                lines.append(line)
            line[index] = y[row]
        for labels in lines:
            said = known.pop(solution, {})
            yield {"prompt": solution.problem, "completions": solution.steps, "labels": labels, **said}
    for solution, said in known.items():
        if said:
            labels = [None] * solution.n_steps
            yield {"prompt": solution.problem, "completions": solution.steps, "labels": labels, **said}


@dataclass(frozen=True)
class RowRule:
    """Turn stepwise rows, or pre-tokenised ones, into rows of tokens.

    ``classes`` are the labels, worst first, or None for probabilities. ``version`` of prmkit belongs to the key in
    the cache of data sets, so that rows of an older one are not read.
    """

    tokenizer: PreTrainedTokenizerBase
    scheme: MarkingScheme
    classes: Classes | None
    max_length: int | None
    max_completion_length: int | None
    last_labelled_only: bool
    too_long: TooLong
    version: str
    objectives: tuple[Objective, ...] = ()

    @property
    def limits(self) -> str:
        """The limits in words, for messages."""
        return f"max_length={self.max_length}, max_completion_length={self.max_completion_length}"

    def on_codes(self) -> RowRule:
        """Return the rule for labels and other targets that are codes already."""
        classes = None if self.classes is None else tuple(range(len(self.classes)))
        return replace(self, classes=classes, objectives=tuple(one.on_codes() for one in self.objectives))

    def features(self, columns: Sequence[str], *, counted: bool) -> datasets.Features:
        """Column types of the result. They are fixed, since a guess from booleans would read -100 as True."""
        import datasets

        types: dict[str, Any] = {
            "input_ids": [datasets.Value("int64")],
            "labels": [datasets.Value("float32" if self.classes is None else "int64")],
        }
        if "input_ids" not in columns or "blocks" in columns:
            types["blocks"] = [datasets.Value("int64")]
        types |= {one.column: [datasets.Value("int64")] for one in self.objectives}
        if counted:
            types |= {name: datasets.Value("int64") for name in _COUNTS}
        return datasets.Features(types)

    def counted_rows(self, batch: Mapping[str, list[Any]], indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the rows of a batch with counts. A row without target stays as an empty row that is counted.

        The counts of a row of the data set stand beside the first row made of it.
        """
        columns = self.features(list(batch), counted=True)
        out: dict[str, list[Any]] = {name: [] for name in columns}
        nothing = np.zeros(0, dtype=np.int64)
        for rows, (n_labelled, n_further) in self._rows_of_batch(batch, indices):
            n_lost = n_labelled - _n_targets(rows, "labels")
            n_lost_further = n_further - sum(_n_targets(rows, one.column) for one in self.objectives)
            first = dict(zip(_COUNTS, (n_labelled, n_lost, n_further, n_lost_further), strict=False))
            for i, row in enumerate(rows or [{}]):
                counts = (dict.fromkeys(first, 0) if i else first) | {"has_target": int(bool(rows))}
                for name in columns:
                    out[name].append(counts[name] if name in counts else row.get(name, nothing))
        return out

    def stream_rows(self, batch: Mapping[str, list[Any]], indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the rows of a batch. Rows without target are left out, with a warning."""
        columns = self.features(list(batch), counted=False)
        out: dict[str, list[Any]] = {name: [] for name in columns}
        for rows, _ in self._rows_of_batch(batch, indices):
            if not rows:
                warnings.warn(f"rows of the stream keep no target and are left out. {self.limits}", stacklevel=2)
            for row in rows:
                for name in columns:
                    out[name].append(row[name].tolist())
        return out

    def _rows_of_batch(self, batch: Mapping[str, list[Any]], indices: Sequence[int]) -> Iterator[_Made]:
        """Yield, per row, the rows made of it (each with a target) and how many labels and further targets training
        asks for.
        """
        # An encoder is cheap to make once per batch. Without one, the rule stays a plain value that can be hashed.
        encoder = None if "input_ids" in batch else SolutionEncoder(self.tokenizer, self.scheme)
        for i, index in enumerate(indices):
            row, where = {name: column[i] for name, column in batch.items()}, f"row {index}"
            yield self._checked(row, where) if encoder is None else self._encoded(encoder, row, where)

    def _checked(self, row: Mapping[str, Any], where: str) -> _Made:
        """Check a pre-tokenised row, which stays as it is."""
        tokens = {"input_ids": np.asarray(row["input_ids"], dtype=np.int64)}
        labels = np.asarray(row["labels"])
        if labels.dtype == bool:
            raise ValueError(
                f"{where}: the labels of a pre-tokenised row are booleans, in which -100 has become True: give the "
                'column the type int64, dataset.cast_column("labels", datasets.List(datasets.Value("int64")))'
            )
        targets = labels[labels != IGNORE]
        n_classes = 2 if self.classes is None else len(self.classes)
        fits = (targets >= 0) & (targets <= n_classes - 1)
        if self.classes is not None:
            fits &= targets == np.floor(targets)
        if not fits.all():
            expected = "a probability in [0, 1]" if self.classes is None else f"a code from 0 to {n_classes - 1}"
            raise ValueError(f"{where}: label {targets[~fits][0]} of a token, expected {expected}, or -100 for none")
        tokens["labels"] = labels.astype(np.float32 if self.classes is None else np.int64)
        if row.get("blocks") is not None:
            tokens["blocks"] = np.asarray(row["blocks"], dtype=np.int64)
        lengths = {name: len(column) for name, column in tokens.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{where}: columns of unequal length {lengths}, expected one value per token")
        return ([tokens] if len(targets) else []), (len(targets), 0)

    def _encoded(self, encoder: SolutionEncoder, row: Mapping[str, Any], where: str) -> _Made:
        """Tokenise a stepwise row: one row, or one per labelled step with prefix rows."""
        check_lengths(row["completions"], row["labels"], where)
        codes = label_codes(row["labels"], self.classes, where)
        labelled = [step for step, code in enumerate(codes) if code is not None]
        if self.last_labelled_only:
            labelled = labelled[-1:]
        kept = set(labelled)
        # By column, the target of each step.
        targets: dict[str, Codes] = {"labels": [code if step in kept else None for step, code in enumerate(codes)]}
        for one in self.objectives:
            targets[one.column] = one.targets(row.get(one.field), len(codes), where)  # type: ignore[assignment]
        n_targets = [sum(code is not None for code in column) for column in targets.values()]
        counts = n_targets[0], sum(n_targets[1:])
        wanted = [step for step, of_step in enumerate(zip(*targets.values(), strict=True)) if set(of_step) != {None}]
        if not wanted:
            return [], counts
        try:
            solution = Solution(row["prompt"], row["completions"])
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        make = self._prefix_rows if self.scheme.name == "prefix" else self._whole_row
        return make(encoder, solution, wanted, targets, where), counts

    def _whole_row(
        self, encoder: SolutionEncoder, solution: Solution, wanted: list[int], targets: dict[str, Codes], where: str
    ) -> list[Row]:
        """Return one row with the leading steps that fit whole, or none if it has no target."""
        marked = encoder.encode(solution, wanted[-1] + 1)
        n_steps = int(np.searchsorted(marked.step_positions, self._limit(marked, where)))
        if n_steps <= wanted[-1]:
            self._refuse_loss(marked, where)
        steps = [step for step in wanted if step < n_steps]
        if not steps:
            return []
        # The tokens of a cut solution are the first of the whole one's: no need to encode it again.
        end = int(marked.step_positions[n_steps - 1]) + 1
        return [self._row(marked.input_ids[:end], marked.blocks[:end], marked.step_positions[steps], steps, targets)]

    def _prefix_rows(
        self, encoder: SolutionEncoder, solution: Solution, wanted: list[int], targets: dict[str, Codes], where: str
    ) -> list[Row]:
        """Return one row per labelled step that fits, labelled at its last token."""
        rows = []
        for step in wanted:
            marked = encoder.encode_row(solution, step + 1)
            ids = marked.input_ids
            if len(ids) > self._limit(marked, where):
                self._refuse_loss(marked, where)
                # Later prefixes are longer still.
                break
            rows.append(self._row(ids, np.zeros_like(ids), [len(ids) - 1], [step], targets))
        return rows

    def _refuse_loss(self, marked: MarkedTokens, where: str) -> None:
        if self.too_long == "raise":
            raise ValueError(
                f"{where}: its labelled steps need {len(marked.input_ids)} tokens. {self.limits}: raise them, leave "
                "the row out, or choose too_long='drop' to leave its last steps out"
            )

    def _limit(self, marked: MarkedTokens, where: str) -> float:
        """Return how many tokens the row may have. A prompt that leaves no room for a step loses all of them."""
        n_prompt = int(np.count_nonzero(marked.blocks == 0))
        longest = math.inf if self.max_length is None else self.max_length
        if n_prompt >= longest and self.too_long == "raise":
            raise ValueError(
                f"{where}: its prompt alone has {n_prompt} tokens and max_length={self.max_length} leaves no room for "
                f"a step: raise max_length well above {n_prompt}, have long prompts cut on the left "
                "(max_prompt_length), or choose too_long='drop' to leave such rows out"
            )
        longest_steps = math.inf if self.max_completion_length is None else self.max_completion_length
        return min(longest, n_prompt + longest_steps)

    def _row(
        self,
        input_ids: npt.NDArray[Any],
        blocks: npt.NDArray[Any],
        positions: npt.NDArray[np.int64] | list[int],
        steps: Sequence[int],
        targets: Mapping[str, Codes],
    ) -> Row:
        """Return a row with the targets of these steps at these positions."""
        row = {"input_ids": input_ids, "blocks": blocks}
        for name, codes in targets.items():
            soft = name == "labels" and self.classes is None
            row[name] = np.full(len(input_ids), IGNORE, dtype=np.float32 if soft else np.int64)
            row[name][positions] = [IGNORE if (code := codes[step]) is None else code for step in steps]
        return row


@dataclass(frozen=True, slots=True)
class RowReport:
    """How many rows and steps of a data set are used, cut and left out.

    ``n_steps`` are the labelled steps that training asks for. ``n_lost_steps`` of them do not fit. ``n_cut_rows``
    lost a label or another target. ``n_without_target`` keep none, and are left out. ``n_further`` are the outcomes and
    extra targets, of which ``n_lost_further`` do not fit.

    >>> print(RowReport(n_rows=10, n_steps=60, n_lost_steps=9, n_without_target=1, n_cut_rows=2))
    9 of 60 labelled steps do not fit and are left out (2 of 10 rows are cut); 1 row without any target is left out
    """

    n_rows: int
    n_steps: int
    n_lost_steps: int
    n_without_target: int
    n_cut_rows: int
    n_further: int = 0
    n_lost_further: int = 0

    def __str__(self) -> str:
        are, rows = ("is", "row") if self.n_without_target == 1 else ("are", "rows")
        return (
            f"{self.n_lost_steps} of {self.n_steps} labelled steps do not fit and are left out "
            f"({self.n_cut_rows} of {self.n_rows} rows are cut); "
            f"{self.n_without_target} {rows} without any target {are} left out"
        ) + (
            f"; so are {self.n_lost_further} of {self.n_further} outcomes and extra targets" * (self.n_lost_further > 0)
        )


def training_rows(
    dataset: TrainingData,
    tokenizer: PreTrainedTokenizerBase,
    scheme: MarkingScheme,
    *,
    classes: Classes | None,
    max_length: int | None = None,
    max_completion_length: int | None = None,
    last_step_only: bool = False,
    too_long: TooLong = "drop",
    is_eval: bool = False,
    num_proc: int | None = None,
    objectives: tuple[Objective, ...] = (),
) -> tuple[datasets.Dataset | datasets.IterableDataset, RowReport | None]:
    """Tokenise a step-labelled data set for training or evaluation, and report on truncation (not for a stream).

    Stepwise rows hold ``prompt``, ``completions`` and ``labels`` (None for a step without label). Pre-tokenised rows,
    which are used as they are, hold ``input_ids``, ``labels`` (one per token: class codes or probabilities, -100
    elsewhere) and, for encoders, ``blocks`` (0 the problem, t + 1 step t). The result has these columns too.

    Trailing steps that do not fit are left out whole. The labels that stay are those that TRL's truncation keeps.
    Steps after the last labelled one are not encoded, since no target sees them. ``last_step_only`` has no effect if
    ``is_eval``.
    """
    import datasets

    rule = RowRule(
        tokenizer=tokenizer,
        scheme=scheme,
        classes=classes,
        max_length=max_length,
        max_completion_length=max_completion_length,
        last_labelled_only=last_step_only and not is_eval,
        too_long=too_long,
        version=prmkit.__version__,
        objectives=objectives,
    )
    columns = [] if isinstance(dataset, StepDataset) else column_names(dataset)
    if isinstance(dataset, datasets.IterableDataset):
        features = rule.features(columns, counted=False)
        batches = {"with_indices": True, "batched": True, "batch_size": 64}
        rows = dataset.with_format(None)
        return rows.map(rule.stream_rows, **batches, remove_columns=columns, features=features), None
    if not isinstance(dataset, datasets.Dataset):
        if "input_ids" in columns and not isinstance(dataset, StepDataset):
            dataset = pretokenized_rows(dataset)
        else:
            dataset = stepwise_rows(dataset, rule.classes, objectives)
            rule = rule.on_codes()
    if not len(dataset):
        raise ValueError("the data set has no rows, expected one or more solutions")
    # The rows of files are kept beside them, under a hash of the tokenizer. Others are not, and need no hash.
    name = None if dataset.cache_files else datasets.fingerprint.generate_random_fingerprint()
    rows = dataset.with_format(None).map(
        rule.counted_rows,
        with_indices=True,
        batched=True,
        batch_size=256,
        remove_columns=dataset.column_names,
        features=rule.features(dataset.column_names, counted=True),
        num_proc=num_proc,
        new_fingerprint=name,
        desc="Tokenizing",
    )
    return _without_empty(rows, len(dataset), rule)


def _without_empty(rows: datasets.Dataset, n_rows: int, rule: RowRule) -> tuple[datasets.Dataset, RowReport]:
    """Leave out the rows without target, and report how many there are."""
    counts = rows.select_columns([*_COUNTS]).with_format("numpy")[:]
    with_target = np.flatnonzero(counts["has_target"])
    report = RowReport(
        n_rows=n_rows,
        n_steps=int(np.sum(counts["n_labelled"])),
        n_lost_steps=int(np.sum(counts["n_lost"])),
        n_without_target=len(rows) - len(with_target),
        n_cut_rows=int(np.count_nonzero(counts["n_lost"] + counts["n_lost_further"])),
        n_further=int(np.sum(counts["n_further"])),
        n_lost_further=int(np.sum(counts["n_lost_further"])),
    )
    if not len(with_target):
        raise ValueError(
            f"none of {report.n_rows} rows keeps a target: {report.n_steps} labelled steps were found, and "
            f"{report.n_lost_steps} of them do not fit. {rule.limits}: raise them, have long prompts cut on the left "
            "(max_prompt_length), or label the steps"
        )
    if report.n_lost_steps or report.n_lost_further or report.n_without_target:
        warnings.warn(f"{report}. {rule.limits}", stacklevel=3)
    rows = rows.remove_columns([*_COUNTS])
    return rows if len(with_target) == len(rows) else rows.select(with_target), report


def row_lengths(dataset: datasets.Dataset) -> npt.NDArray[np.int64]:
    """Return the number of tokens of each row of ``input_ids``, without reading the tokens."""
    import pyarrow.compute as pc

    tables = dataset.select_columns("input_ids").with_format("arrow").iter(10_000)
    lengths = [pc.list_value_length(table["input_ids"]).to_numpy() for table in tables]
    return np.concatenate(lengths).astype(np.int64) if lengths else np.zeros(0, dtype=np.int64)
