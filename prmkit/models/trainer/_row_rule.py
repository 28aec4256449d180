"""How one row of a data set becomes rows of tokens: the whole rule in a value that other processes can run."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from prmkit.data._solution import Solution
from prmkit.features.marking._layout import MarkedTokens, SolutionEncoder
from prmkit.features.marking._scheme import MarkingScheme
from prmkit.models.trainer._label_codes import IGNORE, check_lengths, label_codes

if TYPE_CHECKING:
    import datasets

Row = dict[str, np.ndarray]


@dataclass(frozen=True)
class RowRule:
    """Turn rows of the stepwise layout, or pre-tokenised ones, into rows of tokens.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    scheme : MarkingScheme
    classes : tuple or None
        Worst first. None: labels are probabilities.
    max_length, max_completion_length : int or None
    last_labelled_only : bool
    too_long : {"drop", "raise"}
        What becomes of trailing steps that do not fit.
    version : str
        Of prmkit: what an older one made is not read from the cache of data sets.
    """

    tokenizer: Any
    scheme: MarkingScheme
    classes: tuple[Any, ...] | None
    max_length: int | None
    max_completion_length: int | None
    last_labelled_only: bool
    too_long: str
    version: str

    @property
    def limits(self) -> str:
        """The limits in words, for messages."""
        return f"max_length={self.max_length}, max_completion_length={self.max_completion_length}"

    def on_codes(self) -> RowRule:
        """Return the rule for labels that are codes already."""
        return self if self.classes is None else replace(self, classes=tuple(range(len(self.classes))))

    def features(self, columns: Sequence[str], *, counted: bool) -> datasets.Features:
        """Column types of the result; fixed, since a guess from booleans would read -100 as True."""
        import datasets

        types: dict[str, Any] = {
            "input_ids": [datasets.Value("int64")],
            "labels": [datasets.Value("float32" if self.classes is None else "int64")],
        }
        if "input_ids" not in columns or "blocks" in columns:
            types["blocks"] = [datasets.Value("int64")]
        if counted:
            types |= {
                "n_labelled": datasets.Value("int64"),
                "n_lost": datasets.Value("int64"),
                "has_target": datasets.Value("bool"),
            }
        return datasets.Features(types)

    def counted_rows(self, batch: Mapping[str, list[Any]], indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the rows of a batch with counts; one without target stays as an empty row that is counted.

        The counts of a row of the data set stand beside the first row made of it.
        """
        columns = self.features(list(batch), counted=True)
        out: dict[str, list[Any]] = {name: [] for name in columns}
        for rows, n_labelled in self._rows_of_batch(batch, indices):
            n_lost = n_labelled - sum(int(np.count_nonzero(row["labels"] != IGNORE)) for row in rows)
            nothing = np.zeros(0, dtype=np.int64)
            for i, row in enumerate(rows or [{}]):
                counts = {
                    "n_labelled": 0 if i else n_labelled,
                    "n_lost": 0 if i else n_lost,
                    "has_target": bool(rows),
                }
                for name in columns:
                    out[name].append(counts[name] if name in counts else row.get(name, nothing))
        return out

    def stream_rows(self, batch: Mapping[str, list[Any]], indices: Sequence[int]) -> dict[str, list[Any]]:
        """Return the rows of a batch; those without target are left out, with a warning."""
        columns = self.features(list(batch), counted=False)
        out: dict[str, list[Any]] = {name: [] for name in columns}
        for rows, _ in self._rows_of_batch(batch, indices):
            if not rows:
                warnings.warn(
                    f"rows of the stream keep no target and are left out. {self.limits}", stacklevel=2
                )
            for row in rows:
                for name in columns:
                    out[name].append(row[name].tolist())
        return out

    def _rows_of_batch(
        self, batch: Mapping[str, list[Any]], indices: Sequence[int]
    ) -> Iterator[tuple[list[Row], int]]:
        """Yield, per row, the rows made of it (each with a target) and how many labels training asks for."""
        # Not kept: a tokenizer's encoder is cheap to make once per batch, and the rule stays a plain value.
        encoder = None if "input_ids" in batch else SolutionEncoder(self.tokenizer, self.scheme)
        for i, index in enumerate(indices):
            row, where = {name: column[i] for name, column in batch.items()}, f"row {index}"
            yield self._given(row, where) if encoder is None else self._encoded(encoder, row, where)

    def _given(self, row: Mapping[str, Any], where: str) -> tuple[list[Row], int]:
        """Check a pre-tokenised row; it stays as it is."""
        tokens = {"input_ids": np.asarray(row["input_ids"], dtype=np.int64)}
        labels = np.asarray(row["labels"])
        if labels.dtype == bool:
            raise ValueError(
                f"{where}: the labels of a pre-tokenised row are booleans, in which -100 has become True: give the "
                'column the type int64, dataset.cast_column("labels", datasets.List(datasets.Value("int64")))'
            )
        targets = labels[labels != IGNORE]
        n_classes = 2 if self.classes is None else len(self.classes)
        known = (targets >= 0) & (targets <= n_classes - 1)
        if self.classes is not None:
            known &= targets == np.floor(targets)
        if not known.all():
            expected = (
                "a probability in [0, 1]" if self.classes is None else f"a code from 0 to {n_classes - 1}"
            )
            raise ValueError(
                f"{where}: label {targets[~known][0]} of a token, expected {expected}, or -100 for none"
            )
        tokens["labels"] = labels.astype(np.float32 if self.classes is None else np.int64)
        if row.get("blocks") is not None:
            tokens["blocks"] = np.asarray(row["blocks"], dtype=np.int64)
        lengths = {name: len(column) for name, column in tokens.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"{where}: columns of unequal length {lengths}, expected one value per token")
        return ([tokens] if len(targets) else []), len(targets)

    def _encoded(self, encoder: SolutionEncoder, row: Mapping[str, Any], where: str) -> tuple[list[Row], int]:
        """Tokenise a stepwise row: one row, or one per labelled step with prefix rows."""
        check_lengths(row["completions"], row["labels"], where)
        codes = label_codes(row["labels"], self.classes, where)
        labelled = [step for step, code in enumerate(codes) if code is not None]
        if self.last_labelled_only:
            labelled = labelled[-1:]
        if not labelled:
            return [], 0
        try:
            solution = Solution(row["prompt"], row["completions"])
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        make = self._prefix_rows if self.scheme.name == "prefix" else self._whole_row
        return make(encoder, solution, labelled, codes, where), len(labelled)

    def _whole_row(
        self, encoder: SolutionEncoder, solution: Solution, labelled: list[int], codes: list[Any], where: str
    ) -> list[Row]:
        """One row with the leading steps that fit, whole; none if it has no target."""
        marked = encoder.encode(solution, labelled[-1] + 1)
        n_steps = int(np.searchsorted(marked.step_positions, self._limit(marked, where)))
        if n_steps <= labelled[-1]:
            self._refuse_loss(marked, where)
        targets = {int(marked.step_positions[step]): codes[step] for step in labelled if step < n_steps}
        if not targets:
            return []
        # The tokens of a cut solution are the first of the whole one's: no need to encode it again.
        end = int(marked.step_positions[n_steps - 1]) + 1
        return [self._row(marked.input_ids[:end], marked.blocks[:end], targets)]

    def _prefix_rows(
        self, encoder: SolutionEncoder, solution: Solution, labelled: list[int], codes: list[Any], where: str
    ) -> list[Row]:
        """One row per labelled step that fits, labelled at its last token."""
        rows = []
        for step in labelled:
            marked = encoder.encode_row(solution, step + 1)
            ids = marked.input_ids
            if len(ids) > self._limit(marked, where):
                self._refuse_loss(marked, where)
                break  # later prefixes are longer still
            rows.append(self._row(ids, np.zeros_like(ids), {len(ids) - 1: codes[step]}))
        return rows

    def _refuse_loss(self, marked: MarkedTokens, where: str) -> None:
        if self.too_long == "raise":
            raise ValueError(
                f"{where}: its labelled steps need {len(marked.input_ids)} tokens. {self.limits}: raise them, leave "
                "the row out, or choose too_long='drop' to leave its last steps out"
            )

    def _limit(self, marked: MarkedTokens, where: str) -> float:
        """How many tokens the row may have.

        Raises
        ------
        ValueError
            If its prompt leaves no room.
        """
        n_prompt = int(np.count_nonzero(marked.blocks == 0))
        longest = math.inf if self.max_length is None else self.max_length
        if n_prompt >= longest:
            raise ValueError(
                f"{where}: its prompt alone has {n_prompt} tokens and max_length={self.max_length} leaves no room for "
                f"a step: raise max_length well above {n_prompt}, leave the row out, or have long prompts cut on the "
                "left (max_prompt_length; max_problem_length of TokenPRM)"
            )
        of_steps = math.inf if self.max_completion_length is None else self.max_completion_length
        return min(longest, n_prompt + of_steps)

    def _row(self, input_ids: np.ndarray, blocks: np.ndarray, targets: Mapping[int, Any]) -> Row:
        labels = np.full(len(input_ids), IGNORE, dtype=np.float32 if self.classes is None else np.int64)
        for position, target in targets.items():
            labels[position] = target
        return {"input_ids": input_ids, "labels": labels, "blocks": blocks}
