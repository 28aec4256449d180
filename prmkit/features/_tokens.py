"""Solutions as token ids with a marked position per step, by one rule for training and for use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.data._solution import Solution, Step, iter_solutions
from prmkit.features._readable import readable


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One solution as tokens, and the rows of X that it answers.

    Parameters
    ----------
    input_ids, attention_mask : ndarray of int64 of shape (n_tokens,)
    step_positions : ndarray of int64 of shape (n_steps,)
        Index of the last token of each step's separator.
    rows, steps : ndarray of int64 of shape (n_rows,)
        Row ``rows[i]`` of X is answered at ``step_positions[steps[i]]``.

    Examples
    --------
    >>> from prmkit import PRMFeaturizer, flatten
    >>> X = flatten([Solution("2 + 3?", ["2 + 3 = 5.", "So 5."])])
    >>> (record,) = PRMFeaturizer(kind="tokens").transform(X)
    >>> record.rows, record.steps, len(record.input_ids) == len(record.attention_mask)
    (array([0, 1]), array([0, 1]), True)
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    step_positions: np.ndarray
    rows: np.ndarray
    steps: np.ndarray


def encode_solution(
    tokenizer: Any, solution: Solution, n_steps: int, separator: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids of problem and first ``n_steps`` steps, and the position that closes each step.

    Problem, steps and separator are tokenised apart and joined (TRL's rule), so the encoding of
    a cut solution is a prefix of the whole one's, with any tokenizer.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    solution : Solution
    n_steps : int
    separator : str, optional
        None: a line break, or the tokenizer's own separator where it drops white space (BERT).

    Raises
    ------
    ValueError
        If the separator has no token.
    """

    def ids(text: str) -> list[int]:
        (text,) = readable([text], tokenizer)
        return tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]

    end = ids("\n" if separator is None else separator)
    if not end and separator is None and tokenizer.sep_token_id is not None:
        end = [tokenizer.sep_token_id]
    if not end:
        raise ValueError(
            f"step_separator={separator!r} has no token in this tokenizer: choose one that has, such as '[SEP]'"
        )
    start = tokenizer.bos_token_id
    tokens = ([] if start is None else [start]) + ids(solution.problem)
    positions = []
    for text in solution.steps[:n_steps]:
        tokens += ids(text) + end
        positions.append(len(tokens) - 1)
    return np.array(tokens, dtype=np.int64), np.array(positions, dtype=np.int64)


def token_records(
    tokenizer: Any, steps: Sequence[Step], separator: str | None, max_length: int | None
) -> list[TokenRecord]:
    """Encode each distinct solution once, up to the last step asked for.

    Raises
    ------
    ValueError
        If a solution does not fit in ``max_length`` tokens: a step is never scored on a cut text.
    """
    records = []
    too_long = []
    for solution, rows, indices in iter_solutions(steps):
        ids, positions = encode_solution(tokenizer, solution, max(indices) + 1, separator)
        if max_length is not None and len(ids) > max_length:
            too_long.append(len(ids))
        records.append(TokenRecord(ids, np.ones_like(ids), positions, np.array(rows), np.array(indices)))
    if too_long:
        raise ValueError(
            f"{len(too_long)} of {len(records)} solutions have more than max_length={max_length} tokens "
            f"(the longest {max(too_long)}): raise max_length, or leave these solutions out"
        )
    return records
