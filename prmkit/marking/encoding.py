"""Solutions as token ids with a marked position per step, by one rule for training and for use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prmkit.data.solution import Solution, Step, iter_solutions
from prmkit.marking.scheme import EXAMPLE, MarkingScheme, SolutionWriter, separator_text, text_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    IntArray = npt.NDArray[np.int64]

_TEXTS_KNOWN = 1024
TOO_LONG = ("raise", "drop", "nan")


@dataclass(frozen=True, slots=True)
class MarkedTokens:
    """The tokens of a solution, and the index of the token at which each step is scored (strictly increasing).

    ``blocks`` is 0 for the tokens before the first step, t + 1 for step t. A step begins after the separator of the
    step before and ends with its own.
    """

    input_ids: IntArray
    step_positions: IntArray
    blocks: IntArray


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One solution as tokens, and the rows of X that it answers.

    Row ``rows[i]`` of X is answered at token ``step_positions[steps[i]]``. ``blocks`` are those of
    :class:`MarkedTokens`.

    >>> from prmkit import PRMFeaturizer, flatten
    >>> X = flatten([Solution("2 + 3?", ["2 + 3 = 5.", "So 5."])])
    >>> (record,) = PRMFeaturizer(kind="tokens").transform(X)
    >>> record.rows, record.steps, len(record.input_ids) == len(record.attention_mask)
    (array([0, 1]), array([0, 1]), True)
    >>> record.blocks
    array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2])
    """

    input_ids: IntArray
    attention_mask: IntArray
    step_positions: IntArray
    rows: IntArray
    steps: IntArray
    blocks: IntArray


class UnreadableStepError(ValueError):
    """A step has no token of its own at which a score could be read. ``step`` is its index."""

    def __init__(self, step: int, message: str) -> None:
        super().__init__(message)
        self.step = step


def encode_solution(
    tokenizer: PreTrainedTokenizerBase, solution: Solution, n_steps: int, scheme: MarkingScheme
) -> MarkedTokens:
    """Encode the problem and the first ``n_steps`` steps of a solution, for training and use alike.

    The tokens of a cut solution begin the tokens of the whole one. By default problem, steps and separator are
    tokenised apart and joined, after BOS if the tokenizer has one. This is TRL's rule. A ValueError says why a scheme
    cannot be written with the tokenizer.

    >>> from transformers import AutoTokenizer
    >>> from prmkit.features.encoding.model_path import resolve_model
    >>> tokenizer = AutoTokenizer.from_pretrained(resolve_model("all-MiniLM-L6-v2"))
    >>> solution = Solution("2 + 3?", ["It is 5.", ""])
    >>> marked = encode_solution(tokenizer, solution, 2, MarkingScheme(step_separator=" #"))
    >>> tokenizer.decode(marked.input_ids), marked.step_positions
    ('2 + 3? it is 5. # #', array([8, 9]))
    """
    return SolutionEncoder(tokenizer, scheme).encode(solution, n_steps)


class SolutionEncoder:
    """Encode solutions by a scheme with a tokenizer. Whatever is the same for all solutions is computed once.

    If the tokenizer cannot write the scheme, a ValueError names another choice.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> None:
        self.tokenizer = tokenizer
        self.scheme = scheme
        self._writer = SolutionWriter(tokenizer, scheme)
        # A problem has many solutions, and a growing solution has the same steps again and again.
        self._ids = lru_cache(_TEXTS_KNOWN)(lambda text: text_ids(tokenizer, text))
        self._separator_ids = [] if scheme.chat == "turns" else self._read_separator()
        if not self._writer.joint:
            return
        if getattr(tokenizer, "is_fast", None) is not True:
            raise ValueError(
                f"tokenising the whole text at once needs offsets, which {type(tokenizer).__name__} does not give: "
                "load a fast tokenizer, or choose joint=False and chat=None"
            )
        # A step is closed by the token before the verdict in a chat of turns, else by the separator's last token.
        self._verdict = reward_token_ids(tokenizer, scheme)[-1] if scheme.chat == "turns" else None
        self._closing = int(self._read("".join(self._writer.write(EXAMPLE, 1).pieces))[0][-1])

    def encode(self, solution: Solution, n_steps: int) -> MarkedTokens:
        """Encode the problem and the first ``n_steps`` steps."""
        marked = (self._encode_at_once if self._writer.joint else self._encode_apart)(solution, n_steps)
        return self._without_beginning(marked, solution, n_steps)

    def encode_row(self, solution: Solution, n_steps: int) -> MarkedTokens:
        """Encode one row of the prefix scheme. Its only position is its last token.

        With CLS and SEP it is ``[CLS] problem [SEP] step 1 separator step 2 … [SEP]``, without the first ``[SEP]`` if
        the problem is empty. Other tokenizers give the tokens of :meth:`encode`.
        """
        if (brackets := self._brackets()) is None:
            marked = self.encode(solution, n_steps)
            return MarkedTokens(marked.input_ids, marked.step_positions[-1:], marked.blocks)
        first, last = brackets
        written = self._writer.write(solution, n_steps)
        opening = self._ids(written.opening)
        tokens = [first, *opening, last] if opening else [first]
        sizes = [len(tokens)]
        for t, (before, step, _) in enumerate(written.steps):
            closing = [last] if t == len(written.steps) - 1 else self._separator_ids
            tokens += self._ids(before) + self._ids(step) + closing
            sizes.append(len(tokens) - sum(sizes))
        return self._without_beginning(_marked(tokens, [len(tokens) - 1], sizes), solution, n_steps)

    def problem_tokens(self, solution: Solution, n_steps: int) -> slice:
        """Return the slice of tokens that come from the problem alone. Text around it needs a fast tokenizer."""
        written = self._writer.write(solution, n_steps)
        start, end = written.problem_span
        if self._writer.joint:
            _, offsets, n_added = self._read("".join(written.pieces))
        else:
            n_added = 1 if self.scheme.name == "prefix" and self._brackets() else len(self._start())
            if (start, end) == (0, len(written.opening)):
                return slice(n_added, n_added + len(self._ids(written.opening)))
            if getattr(self.tokenizer, "is_fast", None) is not True:
                raise ValueError("max_prompt_length with this opening needs a fast tokenizer: load one")
            inside = self.tokenizer(written.opening, add_special_tokens=False, return_offsets_mapping=True)
            offsets = np.array([(0, 0)] * n_added + inside["offset_mapping"]).reshape(-1, 2)
        is_own = (offsets[:, 0] >= start) & (offsets[:, 1] <= end) & (np.arange(len(offsets)) >= n_added)
        own = np.flatnonzero(is_own)
        return slice(int(own[0]), int(own[-1]) + 1) if len(own) else slice(n_added, n_added)

    def _encode_apart(self, solution: Solution, n_steps: int) -> MarkedTokens:
        """Tokenise problem, steps and separators apart, and join them."""
        written = self._writer.write(solution, n_steps)
        tokens = self._start() + self._ids(written.opening)
        sizes = [len(tokens)]
        positions: list[int] = []
        for before, step, _ in written.steps:
            closed = self._ids(step) + self._separator_ids
            if not closed:
                raise UnreadableStepError(
                    len(positions),
                    f"step {len(positions)} ({step!r}) has no token, and step_separator='' adds none: there is nowhere "
                    "to read its score. Leave the step out, or choose another step_separator",
                )
            tokens += self._ids(before) + closed
            sizes.append(len(tokens) - sum(sizes))
            positions.append(len(tokens) - 1)
        return _marked(tokens, positions, sizes)

    def _encode_at_once(self, solution: Solution, n_steps: int) -> MarkedTokens:
        """Tokenise the whole text, and find the token that ends with each separator."""
        pieces = self._writer.write(solution, n_steps).pieces
        text, ends = "".join(pieces), np.cumsum([len(piece) for piece in pieces])
        ids, offsets, n_added = self._read(text)
        after_opening = np.flatnonzero(offsets[n_added:, 1] > ends[0])
        opening = n_added + int(after_opening[0]) if len(after_opening) else len(ids)
        positions: list[int] = []
        for t, end in enumerate(ends[1:]):
            position = self._last_token(text, int(end), ids, offsets)
            if position is None or position < (positions[-1] + 1 if positions else opening):
                raise UnreadableStepError(t, self._merged(t, text, int(end)))
            # White space at the end of a text may be one token, and several before a word.
            if pieces[t + 1].isspace() and not np.array_equal(self._read(text[:end])[0], ids[: position + 1]):
                raise UnreadableStepError(t, self._merged(t, text, int(end)))
            if self._verdict is None and ids[position] != self._closing:
                raise UnreadableStepError(t, self._other_token(t, int(ids[position])))
            if self._verdict is not None and t + 2 < len(ends) and ids[position + 1] != self._verdict:
                raise UnreadableStepError(t, self._merged(t, text, int(end)))
            positions.append(position)
        sizes = np.diff([0, opening, *(position + 1 for position in positions)])
        return _marked(ids, positions, sizes)

    def _without_beginning(self, marked: MarkedTokens, solution: Solution, n_steps: int) -> MarkedTokens:
        """Cut the problem on the left, to the length that the scheme allows."""
        limit = self.scheme.max_prompt_length
        if limit is None or (marked.blocks == 0).sum() <= limit:
            return marked
        problem = self.problem_tokens(solution, n_steps)
        excess = max(0, problem.stop - problem.start - limit)
        cut = np.s_[problem.start : problem.start + excess]
        return MarkedTokens(
            np.delete(marked.input_ids, cut), marked.step_positions - excess, np.delete(marked.blocks, cut)
        )

    def _last_token(self, text: str, end: int, ids: IntArray, offsets: IntArray) -> int | None:
        """Return the token that ends at character ``end``, or None if a token reaches over it.

        In BPE no merge ever crossed such a boundary, and a best unigram segmentation is best on either side of it.
        So the text cut there has the tokens that are found here, and nothing later is seen.
        """
        position = int(np.flatnonzero(offsets[:, 0] < end)[-1])
        if offsets[position, 1] == end:
            return position
        # Some byte-level tokenizers leave white space out of their offsets. Then the cut text decides.
        cut = self._read(text[:end])[0]
        return len(cut) - 1 if np.array_equal(cut, ids[: len(cut)]) else None

    def _read(self, text: str) -> tuple[IntArray, IntArray, int]:
        """Return the ids and offsets of a whole text, and the number of tokens that the tokenizer put in front."""
        encoded = self.tokenizer(
            text,
            add_special_tokens=not self._writer.own_bos,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        own = np.flatnonzero(np.array(encoded["special_tokens_mask"]) == 0)
        # The text is unfinished, so an EOS at its end is cut off.
        n_added, end = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
        ids = np.array(encoded["input_ids"][:end], dtype=np.int64)
        return ids, np.array(encoded["offset_mapping"][:end]).reshape(-1, 2), n_added

    def _brackets(self) -> tuple[int, int] | None:
        """Return CLS and SEP if rows of the prefix scheme stand between them."""
        first, last = (getattr(self.tokenizer, name, None) for name in ("cls_token_id", "sep_token_id"))
        return None if self._writer.joint or first is None or last is None else (first, last)

    def _start(self) -> list[int]:
        start = self.tokenizer.bos_token_id
        return [] if start is None or self._writer.own_bos else [start]

    def _read_separator(self) -> list[int]:
        """Return the tokens of the separator alone, checked."""
        separator = self._writer.separator
        if self.scheme.name == "separator" and self.scheme.step_separator == "" and not self._writer.joint:
            # No separator was asked for: a step is read at its own last token.
            return []
        ids = self._ids(separator)
        advice = f"choose another, such as {getattr(self.tokenizer, 'sep_token', None) or ' #'!r}"
        if not ids:
            raise ValueError(f"the separator {separator!r} has no token in this tokenizer: {advice}")
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        if unknown in ids and separator != self.tokenizer.unk_token:
            raise ValueError(f"the separator {separator!r} is unknown to this tokenizer: {advice}")
        if self.scheme.name == "special_token" and len(ids) != 1:
            raise ValueError(
                f"the separator {separator!r} of scheme 'special_token' is {len(ids)} tokens here, expected one: add "
                "it by prmkit.marking.encoding.prepare_tokenizer(tokenizer, scheme), and resize the model's embeddings"
            )
        return ids

    def _merged(self, t: int, text: str, end: int) -> str:
        """Return the message of a separator or verdict that is no token of its own."""
        if self.scheme.chat == "turns":
            verdict = (self.scheme.reward_tokens or ("",))[-1]
            return (
                f"the verdict {verdict!r} merges with the text around it in turn {t + 1}, "
                f"{text[end - 10 : end + 10]!r}: choose reward tokens that stay apart, such as 'Yes' and 'No'"
            )
        return (
            f"the separator {self._writer.separator!r} of step {t} merges with the text beside it, "
            f"{text[max(0, end - 10) : end + 10]!r}, so its token would depend on the next step: choose "
            "name='special_token', another step_separator or between, or joint=False"
        )

    def _other_token(self, t: int, token_id: int) -> str:
        """Return the message of a separator that ends in another token after another step."""
        tokens = self.tokenizer.convert_ids_to_tokens([self._closing, token_id])
        return (
            f"the separator {self._writer.separator!r} tokenises differently in context: it ends in {tokens[0]!r} "
            f"after {EXAMPLE.steps[0]!r} and in {tokens[1]!r} after step {t}. Choose name='special_token', a separator "
            "that starts with a space, or joint=False"
        )


def _marked(tokens: Sequence[int] | IntArray, positions: list[int], sizes: Sequence[int] | IntArray) -> MarkedTokens:
    """Build the record from the number of tokens per block."""
    return MarkedTokens(
        np.array(tokens, dtype=np.int64), np.array(positions, dtype=np.int64), np.repeat(np.arange(len(sizes)), sizes)
    )


def reward_token_ids(tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> list[int]:
    """Return the ids that the scheme's reward tokens have after a marked step, worst class first.

    Tokenizers that mark leading spaces give another id at the start of a text, so the ids are looked up in context.
    """
    if not scheme.reward_tokens:
        raise ValueError(
            f"scheme {scheme.name!r} has no reward tokens: give one text per class, worst first, such as ('-', '+')"
        )
    context = "".join(SolutionWriter(tokenizer, scheme).write(EXAMPLE, 1).pieces)
    ids: list[int] = []
    for token in scheme.reward_tokens:
        token_id = _single_token(tokenizer, context, token)
        if token_id is None:
            raise ValueError(_no_single_token(tokenizer, context, token))
        ids.append(int(token_id))
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"reward_tokens={scheme.reward_tokens} are the tokens {ids}: two classes share one, choose others"
        )
    return ids


def _added_tokens(tokenizer: PreTrainedTokenizerBase, context: str, token: str) -> list[int]:
    """Return the tokens that ``token`` adds to ``context``, or none if it changes those before."""
    before, whole = text_ids(tokenizer, context), text_ids(tokenizer, context + token)
    return whole[len(before) :] if whole[: len(before)] == before else []


def _single_token(tokenizer: PreTrainedTokenizerBase, context: str, token: str) -> int | None:
    """Return the id if ``token`` is one known token after ``context``."""
    added = _added_tokens(tokenizer, context, token)
    unknown = getattr(tokenizer, "unk_token_id", None)
    return added[0] if len(added) == 1 and (added[0] != unknown or token == tokenizer.unk_token) else None


def _no_single_token(tokenizer: PreTrainedTokenizerBase, context: str, token: str) -> str:
    """Return the message of a reward token that is not one token, with texts that are."""
    bare = token.strip()
    texts = [text for text in (bare, f" {bare}", "+", "-", " +", " -", "Yes", "No") if text.strip()]
    usable = [repr(text) for text in dict.fromkeys(texts) if _single_token(tokenizer, context, text) is not None]
    added = _added_tokens(tokenizer, context, token)
    actual = f"{len(added)} tokens" if len(added) > 1 else "unknown" if added else "no token of its own"
    choices = f"such as {', '.join(usable[:3])}" if usable else "or add it with tokenizer.add_tokens"
    return (
        f"the reward token {token!r} is {actual} after {context[-12:]!r} in this tokenizer, expected a single one: "
        f"choose a text that is one token there, {choices}"
    )


def prepare_tokenizer(tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> int:
    """Give the tokenizer the tokens that the scheme needs, in place, and try it on an example.

    A missing pad token becomes EOS. The separator of ``"special_token"`` is added to the vocabulary unless it is one
    token already. Unless the result, the number of added tokens, is 0, the model's embeddings must be resized.
    """
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has neither a pad nor an EOS token to pad with: set tokenizer.pad_token, "
                "for example to a reserved token of its vocabulary"
            )
        tokenizer.pad_token = tokenizer.eos_token
    n_added = 0
    separator = separator_text(tokenizer, scheme)
    if scheme.name == "special_token":
        ids = text_ids(tokenizer, separator)
        if len(ids) != 1 or ids == [tokenizer.unk_token_id]:
            from transformers import AddedToken

            token = AddedToken(separator, normalized=False, special=True)
            n_added = tokenizer.add_tokens([token], special_tokens=True)
    _encode_example(tokenizer, scheme)
    return n_added


def fingerprint(tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> str:
    """Return 16 hexadecimal digits that change if the tokenizer encodes a fixed text differently.

    They are saved beside a model. On loading they tell whether the tokenizer still reads as it did in training.
    """
    return hashlib.sha256(json.dumps(_encode_example(tokenizer, scheme)).encode()).hexdigest()[:16]


def _encode_example(tokenizer: PreTrainedTokenizerBase, scheme: MarkingScheme) -> list[list[int]]:
    encoder = SolutionEncoder(tokenizer, scheme)
    marked = (encoder.encode_row if scheme.name == "prefix" else encoder.encode)(EXAMPLE, EXAMPLE.n_steps)
    rewards = reward_token_ids(tokenizer, scheme) if scheme.reads_language_model else []
    return [marked.input_ids.tolist(), marked.step_positions.tolist(), marked.blocks.tolist(), rewards]


def token_records(
    tokenizer: PreTrainedTokenizerBase,
    steps: Sequence[Step],
    scheme: MarkingScheme,
    max_length: int | None,
    too_long: str = "raise",
    encoder: SolutionEncoder | None = None,
) -> list[TokenRecord]:
    """Encode each distinct solution once, up to the last of the given steps (scheme ``"prefix"``: each distinct step).

    A solution of more than ``max_length`` tokens is an error if ``too_long="raise"``. Otherwise its trailing steps
    are left out, never a part of a step. If its problem alone is too long, "drop" is an error and "nan" leaves the
    solution out. With "nan" a step that has no token of its own is left out too, and the others are read as if it were
    not there. A row that no record holds was left out. An ``encoder`` of the same scheme need not be made again, and
    remembers texts.
    """
    if too_long not in TOO_LONG:
        raise ValueError(f"too_long={too_long!r}, expected one of {', '.join(TOO_LONG)}")
    encoder = encoder or SolutionEncoder(tokenizer, scheme)
    limit = np.inf if max_length is None else max_length
    records, excessive_lengths = [], []
    for solution, n_steps, rows, step_indices in _solutions_to_encode(steps, scheme):
        encode = encoder.encode_row if scheme.name == "prefix" else encoder.encode
        if too_long == "nan":
            found = _readable_steps(encode, solution, n_steps)
            kept = [] if found is None else found[1]
            # A row of the prefix scheme answers for its last step alone.
            answered = np.full(len(rows), n_steps - 1) if scheme.name == "prefix" else step_indices
            is_read = np.isin(answered, kept)
            if found is None or not is_read.any():
                continue
            marked, rows, step_indices = found[0], rows[is_read], step_indices[is_read]
            if scheme.name != "prefix":
                step_indices = np.searchsorted(kept, step_indices)
        else:
            marked = encode(solution, n_steps)
        n_tokens = len(marked.input_ids)
        if n_tokens > limit and too_long == "raise":
            excessive_lengths.append(n_tokens)
        elif n_tokens > limit:
            n_opening = int((marked.blocks == 0).sum())
            if n_opening > limit and too_long == "drop":
                name = solution.problem[:60] if solution.id is None else solution.id
                raise ValueError(
                    f"the problem of the solution {name!r} alone has {n_opening} tokens, more than "
                    f"max_length={max_length}: raise max_length, leave the solution out, or cut long problems on the "
                    "left by max_prompt_length"
                )
            fits = marked.step_positions[step_indices] < limit
            rows, step_indices = rows[fits], step_indices[fits]
            if not len(rows):
                continue
            n_kept = step_indices.max() + 1
            end = marked.step_positions[n_kept - 1] + 1
            marked = MarkedTokens(marked.input_ids[:end], marked.step_positions[:n_kept], marked.blocks[:end])
        ids = marked.input_ids
        records.append(TokenRecord(ids, np.ones_like(ids), marked.step_positions, rows, step_indices, marked.blocks))
    if excessive_lengths:
        raise ValueError(
            f"{len(excessive_lengths)} of {len(records)} solutions have more than max_length={max_length} tokens "
            f"(the longest {max(excessive_lengths)}): raise max_length, or leave these solutions out"
        )
    return records


def _readable_steps(
    encode: Callable[[Solution, int], MarkedTokens], solution: Solution, n_steps: int
) -> tuple[MarkedTokens, list[int]] | None:
    """Return the steps that have tokens to be read at, encoded, and their indices. None if there are none."""
    kept = list(range(n_steps))

    def encoded(n: int) -> MarkedTokens:
        part = tuple(solution.steps[i] for i in kept[:n])
        return encode(solution if n == n_steps else replace(solution, steps=part), n)

    while kept:
        try:
            return encoded(len(kept)), kept
        except UnreadableStepError as error:
            first = error.step
        # What comes later may be at fault. The step to leave out cannot be read behind those before it, whatever
        # follows, so that a solution that is cut keeps the same steps.
        for t in range(first, len(kept)):
            try:
                encoded(t + 1)
            except UnreadableStepError:  # noqa: PERF203
                del kept[t]
                break
    return None


def _solutions_to_encode(
    steps: Sequence[Step], scheme: MarkingScheme
) -> Iterator[tuple[Solution, int, IntArray, IntArray]]:
    """Yield per record the solution, its number of steps, its rows, and the position that answers each row."""
    for solution, rows, indices in iter_solutions(steps):
        row_numbers, step_indices = np.array(rows), np.array(indices)
        if scheme.name == "prefix":
            for t in sorted(set(indices)):
                same_step = row_numbers[step_indices == t]
                yield solution, t + 1, same_step, np.zeros_like(same_step)
        else:
            yield solution, int(step_indices.max()) + 1, row_numbers, step_indices
