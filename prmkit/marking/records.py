"""Steps as token records, and the functions that say how a tokenizer writes a marking scheme."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.data.solution import Solution, Step, iter_solutions
from prmkit.marking.layout import MarkedTokens, SolutionEncoder, reward_token_ids
from prmkit.marking.scheme import MarkingScheme
from prmkit.marking.text import EXAMPLE, marker_text, text_ids

__all__ = [
    "MarkedTokens",
    "TokenRecord",
    "encode_prefix",
    "encode_solution",
    "fingerprint",
    "prepare_tokenizer",
    "reward_token_ids",
    "token_records",
]

TOO_LONG = ("raise", "drop", "nan")


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One solution as tokens, and the rows of X that it answers.

    Parameters
    ----------
    input_ids, attention_mask : ndarray of int64 of shape (n_tokens,)
    step_positions : ndarray of int64 of shape (n_steps,)
        Index of the token at which the score of each step is read: the last of its marker.
    rows, steps : ndarray of int64 of shape (n_rows,)
        Row ``rows[i]`` of X is answered at ``step_positions[steps[i]]``.
    blocks : ndarray of int64 of shape (n_tokens,)
        0 for what stands before the first step, t + 1 for the tokens of step t.

    Examples
    --------
    >>> from prmkit import PRMFeaturizer, flatten
    >>> X = flatten([Solution("2 + 3?", ["2 + 3 = 5.", "So 5."])])
    >>> (record,) = PRMFeaturizer(kind="tokens").transform(X)
    >>> record.rows, record.steps, len(record.input_ids) == len(record.attention_mask)
    (array([0, 1]), array([0, 1]), True)
    >>> record.blocks
    array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray
    step_positions: np.ndarray
    rows: np.ndarray
    steps: np.ndarray
    blocks: np.ndarray


def encode_solution(tokenizer: Any, solution: Solution, n_steps: int, scheme: MarkingScheme) -> MarkedTokens:
    """Encode the problem and the first ``n_steps`` steps of a solution, for training and use alike.

    The tokens of a cut solution are a prefix of the whole one's. By default problem, steps and marker are
    tokenised apart and joined, after BOS if the tokenizer has one: TRL's rule. A special token written inside a
    text of a scheme that relies on it is broken up, so that a text cannot mark itself.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    solution : Solution
    n_steps : int
    scheme : MarkingScheme

    Returns
    -------
    MarkedTokens

    Raises
    ------
    ValueError
        If the marker has no token, merges with the text beside it, or tokenises differently in context; if a chat
        template rewrites earlier turns; if the tokenizer lacks what the scheme names.

    Examples
    --------
    >>> from transformers import AutoTokenizer
    >>> from prmkit.features.encoding.model_path import resolve_model
    >>> tokenizer = AutoTokenizer.from_pretrained(resolve_model("all-MiniLM-L6-v2"))
    >>> solution = Solution("2 + 3?", ["It is 5.", ""])
    >>> marked = encode_solution(tokenizer, solution, 2, MarkingScheme(step_separator=" #"))
    >>> tokenizer.decode(marked.input_ids), marked.step_positions
    ('2 + 3? it is 5. # #', array([8, 9]))
    """
    return SolutionEncoder(tokenizer, scheme).encode(solution, n_steps)


def encode_prefix(tokenizer: Any, solution: Solution, n_steps: int, scheme: MarkingScheme) -> np.ndarray:
    """Encode one row of the prefix scheme: the problem and the first ``n_steps`` steps.

    With a tokenizer that has them ``[CLS] problem [SEP] step 1 marker step 2 … [SEP]``, an empty problem and its
    ``[SEP]`` left out; else what :func:`encode_solution` gives.

    Returns
    -------
    ndarray of int64 of shape (n_tokens,)
    """
    return SolutionEncoder(tokenizer, scheme).encode_row(solution, n_steps).input_ids


def prepare_tokenizer(tokenizer: Any, scheme: MarkingScheme) -> int:
    """Give the tokenizer what the scheme needs, in place, and try it on an example.

    A missing pad token becomes EOS; the marker of ``"special_token"`` is added to the vocabulary unless it is one
    token there already.

    Returns
    -------
    int
        Number of tokens added: where it is not 0 the model's embeddings must be resized.

    Raises
    ------
    ValueError
        If there is neither pad nor EOS token, or the scheme cannot be written with this tokenizer.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has neither a pad nor an EOS token to pad with: set tokenizer.pad_token, "
                "for example to a reserved token of its vocabulary"
            )
        tokenizer.pad_token = tokenizer.eos_token
    n_added = 0
    marker = marker_text(tokenizer, scheme)
    if scheme.name == "special_token":
        ids = text_ids(tokenizer, marker)
        if len(ids) != 1 or ids == [tokenizer.unk_token_id]:
            from transformers import AddedToken

            token = AddedToken(marker, normalized=False, special=True)
            n_added = tokenizer.add_tokens([token], special_tokens=True)
    _encode_example(tokenizer, scheme)
    return n_added


def fingerprint(tokenizer: Any, scheme: MarkingScheme) -> str:
    """Return 16 hexadecimal digits that change with the encoding of a fixed text.

    Saved beside a model, they tell on loading whether the tokenizer still reads as it did in training.
    """
    return hashlib.sha256(json.dumps(_encode_example(tokenizer, scheme)).encode()).hexdigest()[:16]


def _encode_example(tokenizer: Any, scheme: MarkingScheme) -> list[list[int]]:
    encoder = SolutionEncoder(tokenizer, scheme)
    marked = (encoder.encode_row if scheme.name == "prefix" else encoder.encode)(EXAMPLE, EXAMPLE.n_steps)
    rewards = reward_token_ids(tokenizer, scheme) if scheme.reads_language_model else []
    return [marked.input_ids.tolist(), marked.step_positions.tolist(), marked.blocks.tolist(), rewards]


def token_records(
    tokenizer: Any,
    steps: Sequence[Step],
    scheme: MarkingScheme,
    max_length: int | None,
    too_long: str = "raise",
) -> list[TokenRecord]:
    """Encode each distinct solution once, up to the last step asked for; with ``"prefix"``, each distinct step.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    steps : sequence of Step
        The rows of X.
    scheme : MarkingScheme
    max_length : int or None
        Tokens that a record may have; None: any number.
    too_long : {"raise", "drop", "nan"}, default="raise"
        What becomes of a longer one: an error; its trailing steps left out whole; with ``"nan"`` the same, and all of
        it where the problem itself is longer. A step is never cut.

    Returns
    -------
    list of TokenRecord
        Rows that no record holds were dropped: a solution of which nothing asked for fits has no record.

    Raises
    ------
    ValueError
        If a solution does not fit in ``max_length`` tokens; with ``"drop"`` only if its problem does not.
    """
    if too_long not in TOO_LONG:
        raise ValueError(f"too_long={too_long!r}, expected one of {', '.join(TOO_LONG)}")
    encoder = SolutionEncoder(tokenizer, scheme)
    limit = np.inf if max_length is None else max_length
    records, lengths = [], []
    for solution, n_steps, rows, asked in _pieces(steps, scheme):
        marked = (encoder.encode_row if scheme.name == "prefix" else encoder.encode)(solution, n_steps)
        if len(marked.input_ids) > limit and too_long == "raise":
            lengths.append(len(marked.input_ids))
        elif len(marked.input_ids) > limit:
            n_opening = int((marked.blocks == 0).sum())
            if n_opening > limit and too_long == "drop":
                raise ValueError(
                    f"the problem of {_name(solution)} alone has {n_opening} tokens, more than "
                    f"max_length={max_length}: raise max_length, leave the solution out, or have long problems cut on "
                    "the left by the scheme's max_prompt_length"
                )
            fits = marked.step_positions[asked] < limit
            rows, asked = rows[fits], asked[fits]
            if not len(rows):
                continue
            last = asked.max() + 1
            end = marked.step_positions[last - 1] + 1
            marked = MarkedTokens(marked.input_ids[:end], marked.step_positions[:last], marked.blocks[:end])
        ids = marked.input_ids
        records.append(TokenRecord(ids, np.ones_like(ids), marked.step_positions, rows, asked, marked.blocks))
    if lengths:
        raise ValueError(
            f"{len(lengths)} of {len(records)} solutions have more than max_length={max_length} tokens "
            f"(the longest {max(lengths)}): raise max_length, or leave these solutions out"
        )
    return records


def _pieces(
    steps: Sequence[Step], scheme: MarkingScheme
) -> Iterator[tuple[Solution, int, np.ndarray, np.ndarray]]:
    """Yield what becomes a record: solution, number of steps, rows, and which position answers each row."""
    for solution, rows, indices in iter_solutions(steps):
        of_row, asked = np.array(rows), np.array(indices)
        if scheme.name == "prefix":
            for t in sorted(set(indices)):
                same = of_row[asked == t]
                yield solution, t + 1, same, np.zeros_like(same)
        else:
            yield solution, int(asked.max()) + 1, of_row, asked


def _name(solution: Solution) -> str:
    name = repr(solution.problem[:60]) if solution.id is None else repr(solution.id)
    return f"the solution {name}"
