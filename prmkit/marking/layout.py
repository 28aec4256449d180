"""Solutions as token ids with a marked position per step, by one rule for training and for use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prmkit.data.solution import Solution
from prmkit.marking.scheme import MarkingScheme
from prmkit.marking.text import EXAMPLE, SolutionWriter, text_ids


def reward_token_ids(tokenizer: Any, scheme: MarkingScheme) -> list[int]:
    """Return the ids of the scheme's reward tokens, worst class first, as they are after a marked step.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    scheme : MarkingScheme

    Raises
    ------
    ValueError
        If the scheme names none, or one of them is not a single known token there: tokenizers that mark leading
        spaces give another id at the start of a text, hence "in context".
    """
    if not scheme.reward_tokens:
        raise ValueError(
            f"scheme {scheme.name!r} has no reward tokens: give one text per class, worst first, such as ('-', '+')"
        )
    context = "".join(SolutionWriter(tokenizer, scheme).write(EXAMPLE, 1).pieces)
    ids = [_single(tokenizer, context, token) for token in scheme.reward_tokens]
    for token, found in zip(scheme.reward_tokens, ids, strict=True):
        if found is None:
            raise ValueError(_instead(tokenizer, context, token))
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"reward_tokens={scheme.reward_tokens} are the tokens {ids}: two classes share one, choose others"
        )
    return [int(found) for found in ids if found is not None]


def _added(tokenizer: Any, context: str, token: str) -> list[int]:
    """The tokens that ``token`` adds to ``context``; none if it changes those before."""
    before, whole = text_ids(tokenizer, context), text_ids(tokenizer, context + token)
    return whole[len(before) :] if whole[: len(before)] == before else []


def _single(tokenizer: Any, context: str, token: str) -> int | None:
    """The one known token that ``token`` is after ``context``; None if it is not."""
    added = _added(tokenizer, context, token)
    unknown = getattr(tokenizer, "unk_token_id", None)
    return added[0] if len(added) == 1 and (added[0] != unknown or token == tokenizer.unk_token) else None


def _instead(tokenizer: Any, context: str, token: str) -> str:
    bare = token.strip()
    tried = [text for text in (bare, f" {bare}", "+", "-", " +", " -", "Yes", "No") if text.strip()]
    known = [repr(text) for text in dict.fromkeys(tried) if _single(tokenizer, context, text) is not None]
    added = _added(tokenizer, context, token)
    found = f"{len(added)} tokens" if len(added) > 1 else "unknown" if added else "no token of its own"
    choices = f"such as {', '.join(known[:3])}" if known else "or add it with tokenizer.add_tokens"
    return (
        f"the reward token {token!r} is {found} after {context[-12:]!r} in this tokenizer, expected a single one: "
        f"choose a text that is one token there, {choices}"
    )


@dataclass(frozen=True, slots=True)
class MarkedTokens:
    """The tokens of a solution, and where the score of each step is read.

    Parameters
    ----------
    input_ids : ndarray of int64 of shape (n_tokens,)
    step_positions : ndarray of int64 of shape (n_steps,)
        Strictly increasing.
    blocks : ndarray of int64 of shape (n_tokens,)
        0 for what stands before the first step, t + 1 for step t: from the end of the marker before it to the end
        of its own.
    """

    input_ids: np.ndarray
    step_positions: np.ndarray
    blocks: np.ndarray


class SolutionEncoder:
    """Encode solutions by a scheme with a tokenizer; what is the same for all solutions is worked out once.

    Parameters
    ----------
    tokenizer : transformers tokenizer
    scheme : MarkingScheme

    Raises
    ------
    ValueError
        If the tokenizer cannot write the scheme: the message says what to choose instead.
    """

    def __init__(self, tokenizer: Any, scheme: MarkingScheme) -> None:
        self.tokenizer = tokenizer
        self.scheme = scheme
        self._writer = SolutionWriter(tokenizer, scheme)
        self._marker_ids = [] if scheme.chat == "turns" else self._read_marker()
        if not self._writer.joint:
            return
        if getattr(tokenizer, "is_fast", None) is not True:
            raise ValueError(
                f"tokenising the whole text at once needs offsets, which {type(tokenizer).__name__} does not give: "
                "load a fast tokenizer, or choose joint=False and chat=None"
            )
        # Which token closes a step: the verdict's neighbour in a chat of turns, else the marker's last, in context.
        self._verdict = reward_token_ids(tokenizer, scheme)[-1] if scheme.chat == "turns" else None
        self._closing = int(self._read("".join(self._writer.write(EXAMPLE, 1).pieces))[0][-1])

    def encode(self, solution: Solution, n_steps: int) -> MarkedTokens:
        """Encode the problem and the first ``n_steps`` steps."""
        marked = (self._encode_at_once if self._writer.joint else self._encode_apart)(solution, n_steps)
        return self._without_beginning(marked, solution, n_steps)

    def _encode_apart(self, solution: Solution, n_steps: int) -> MarkedTokens:
        written = self._writer.write(solution, n_steps)
        tokens = self._start() + self._ids(written.opening)
        sizes = [len(tokens)]
        positions: list[int] = []
        for before, step, _ in written.steps:
            closed = self._ids(step) + self._marker_ids
            if not closed:
                raise ValueError(
                    f"step {len(positions)} ({step!r}) has no token, and step_separator='' adds none: there is nowhere to read "
                    "its score. Leave the step out, or choose another marker"
                )
            tokens += self._ids(before) + closed
            sizes.append(len(tokens) - sum(sizes))
            positions.append(len(tokens) - 1)
        return _marked(tokens, positions, sizes)

    def encode_row(self, solution: Solution, n_steps: int) -> MarkedTokens:
        """Encode one row of the prefix scheme; its last token counts as the position."""
        if (brackets := self._brackets()) is None:
            marked = self.encode(solution, n_steps)
            return MarkedTokens(marked.input_ids, marked.step_positions[-1:], marked.blocks)
        first, last = brackets
        written = self._writer.write(solution, n_steps)
        opening = self._ids(written.opening)
        tokens = [first, *opening, last] if opening else [first]
        sizes = [len(tokens)]
        for t, (before, step, _) in enumerate(written.steps):
            closing = [last] if t == len(written.steps) - 1 else self._marker_ids
            tokens += self._ids(before) + self._ids(step) + closing
            sizes.append(len(tokens) - sum(sizes))
        return self._without_beginning(_marked(tokens, [len(tokens) - 1], sizes), solution, n_steps)

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

    def problem_tokens(self, solution: Solution, n_steps: int) -> slice:
        """Return which tokens come from the problem alone.

        Raises
        ------
        ValueError
            If the problem stands inside other text and the tokenizer gives no offsets.
        """
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
        own = (offsets[:, 0] >= start) & (offsets[:, 1] <= end) & (np.arange(len(offsets)) >= n_added)
        found = np.flatnonzero(own)
        return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(n_added, n_added)

    def _encode_at_once(self, solution: Solution, n_steps: int) -> MarkedTokens:
        pieces = self._writer.write(solution, n_steps).pieces
        text, ends = "".join(pieces), np.cumsum([len(piece) for piece in pieces])
        ids, offsets, n_added = self._read(text)
        after_opening = np.flatnonzero(offsets[n_added:, 1] > ends[0])
        opening = n_added + int(after_opening[0]) if len(after_opening) else len(ids)
        positions: list[int] = []
        for t, end in enumerate(ends[1:]):
            position = self._last_token(text, int(end), ids, offsets)
            if position is None or position < (positions[-1] + 1 if positions else opening):
                raise ValueError(self._merged(t, text, int(end)))
            if self._verdict is None and ids[position] != self._closing:
                raise ValueError(self._other_token(t, int(ids[position])))
            if self._verdict is not None and t + 2 < len(ends) and ids[position + 1] != self._verdict:
                raise ValueError(self._merged(t, text, int(end)))
            positions.append(position)
        sizes = np.diff([0, opening, *(position + 1 for position in positions)])
        return _marked(ids, positions, sizes)

    def _last_token(self, text: str, end: int, ids: np.ndarray, offsets: np.ndarray) -> int | None:
        """The token that ends where character ``end`` begins; None if a token reaches over it.

        In BPE no merge ever crossed such a boundary, and a best unigram segmentation is best on either side of it:
        the tokens of the text cut there are the ones found here, so that nothing later is seen.
        """
        position = int(np.flatnonzero(offsets[:, 0] < end)[-1])
        if offsets[position, 1] == end:
            return position
        # Some byte-level tokenizers leave white space out of their offsets: then the cut text is the judge.
        cut = self._read(text[:end])[0]
        return len(cut) - 1 if np.array_equal(cut, ids[: len(cut)]) else None

    def _read(self, text: str) -> tuple[np.ndarray, np.ndarray, int]:
        """The ids and offsets of a whole text as the tokenizer opens it, and how many tokens it put in front."""
        encoded = self.tokenizer(
            text,
            add_special_tokens=not self._writer.own_bos,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            verbose=False,
        )
        own = np.flatnonzero(np.array(encoded["special_tokens_mask"]) == 0)
        # No EOS after an unfinished text.
        n_added, end = (int(own[0]), int(own[-1]) + 1) if len(own) else (0, 0)
        ids = np.array(encoded["input_ids"][:end], dtype=np.int64)
        return ids, np.array(encoded["offset_mapping"][:end]).reshape(-1, 2), n_added

    def _brackets(self) -> tuple[int, int] | None:
        """CLS and SEP, where rows of the prefix scheme stand between them."""
        first, last = (getattr(self.tokenizer, name, None) for name in ("cls_token_id", "sep_token_id"))
        return None if self._writer.joint or first is None or last is None else (first, last)

    def _start(self) -> list[int]:
        start = self.tokenizer.bos_token_id
        return [] if start is None or self._writer.own_bos else [start]

    def _ids(self, text: str) -> list[int]:
        return text_ids(self.tokenizer, text)

    def _read_marker(self) -> list[int]:
        """The marker's tokens on its own, checked."""
        if self.scheme.name == "separator" and self.scheme.step_separator == "" and not self._writer.joint:
            return []  # asked for: a step is read at its own last token
        marker, separator = self._writer.marker, getattr(self.tokenizer, "sep_token", None)
        ids, instead = self._ids(marker), f"choose one that has, such as {separator or ' #'!r}"
        if not ids:
            raise ValueError(f"the separator {marker!r} has no token in this tokenizer: {instead}")
        unknown = getattr(self.tokenizer, "unk_token_id", None)
        if unknown in ids and marker != self.tokenizer.unk_token:
            raise ValueError(
                f"the separator {marker!r} is unknown to this tokenizer, it has no token: {instead}"
            )
        if self.scheme.name == "special_token" and len(ids) != 1:
            raise ValueError(
                f"the marker {marker!r} of scheme 'special_token' is {len(ids)} tokens here, expected one: add it with "
                "prepare_tokenizer(tokenizer, scheme), and resize the model's embeddings"
            )
        return ids

    def _merged(self, t: int, text: str, end: int) -> str:
        if self.scheme.chat == "turns":
            return (
                f"the verdict {self.scheme.reward_tokens[-1]!r} merges with the text around it in turn {t + 1}, "  # type: ignore[index]
                f"{text[end - 10 : end + 10]!r}: choose reward tokens that stay apart, such as 'Yes' and 'No'"
            )
        return (
            f"the marker {self._writer.marker!r} of step {t} merges with what stands beside it, "
            f"{text[max(0, end - 10) : end + 10]!r}, so that its token would depend on the next step: choose "
            "name='special_token', another marker or between, or joint=False"
        )

    def _other_token(self, t: int, found: int) -> str:
        tokens = self.tokenizer.convert_ids_to_tokens([self._closing, found])
        return (
            f"the marker {self._writer.marker!r} tokenises differently in context: it ends in {tokens[0]!r} after "
            f"{EXAMPLE.steps[0]!r} and in {tokens[1]!r} after step {t}. Choose name='special_token', a marker that "
            "starts with a space, or joint=False"
        )


def _marked(tokens: Any, positions: list[int], sizes: Any) -> MarkedTokens:
    """Build the record; ``sizes`` are the numbers of tokens per block."""
    return MarkedTokens(
        np.array(tokens, dtype=np.int64),
        np.array(positions, dtype=np.int64),
        np.repeat(np.arange(len(sizes)), sizes),
    )
