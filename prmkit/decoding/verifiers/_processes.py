"""The words for a reasoning process, as functions: non-sequitur, complete, correct, valid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from prmkit.data.answers.extraction import extract_answer
from prmkit.data.solution import Solution, Step
from prmkit.decoding.verifiers.references import Verifier

Follows: TypeAlias = Sequence[bool | str] | npt.NDArray[np.bool_] | Callable[[Step], bool]
_SIGNS = {"+": True, "-": False}


def non_sequiturs(solution: Solution, follows: Follows) -> list[int]:
    """Return the steps that do not follow from the problem and the steps before them.

    Whether a step follows is a question about that step alone: what it says has to be justified by what stands before
    it, be that right or wrong. A step that continues a mistake soundly is no non-sequitur.

    Parameters
    ----------
    solution : Solution
        Problem and steps.
    follows : sequence of (bool or {"+", "-"}) or callable
        Whether each step follows, one per step, or a verifier of steps: ``follows(step) -> bool``, where ``step`` knows
        its problem and the steps before it.

    Returns
    -------
    list of int
        Their 0-based indices.

    Raises
    ------
    TypeError
        If a label is neither a bool nor "+" or "-". Numbers need a threshold: whether a neutral step follows is yours
        to say, as in ``ratings >= 0``.
    ValueError
        If there is not one label per step.

    Examples
    --------
    >>> solution = Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 15.", "The answer is 15."])
    >>> non_sequiturs(solution, [True, False, True])
    [1]
    >>> non_sequiturs(solution, lambda step: "15" not in step.text or "15" in " ".join(step.prefix))
    [1]
    """
    return [index for index, is_sound in enumerate(_told(solution, follows)) if not is_sound]


def is_valid_process(solution: Solution, follows: Follows) -> bool:
    """Return whether a process is valid: no step of it is a non-sequitur.

    A valid process may be unfinished. It is ``not non_sequiturs(solution, follows)``, but a verifier of steps is asked
    up to the first non-sequitur only.

    Parameters
    ----------
    solution : Solution
        Problem and steps. Without steps the process is valid.
    follows : sequence of (bool or {"+", "-"}) or callable
        Whether each step follows, or a verifier of steps, see :func:`non_sequiturs`.

    Returns
    -------
    bool
        Whether every step follows.

    Raises
    ------
    TypeError, ValueError
        As :func:`non_sequiturs`.

    Examples
    --------
    >>> solution = Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."])
    >>> is_valid_process(solution, "++"), is_valid_process(solution, "+-")
    (True, False)
    """
    return all(_told(solution, follows))


def is_complete_process(solution: Solution, *, stop_words: Sequence[str] = ("QED", "∎")) -> bool:
    r"""Return whether a process is complete: it states a final answer, or says that it is at its end.

    An answer counts if a mark shows it, such as ``\boxed{…}``, ``####``, ``The answer is …`` or ``Answer: …``, see
    :func:`prmkit.data.extract_answer`. A number without a mark does not. Whether the answer is right
    is another question.

    Parameters
    ----------
    solution : Solution
        Problem and steps.
    stop_words : sequence of str, default=("QED", "∎")
        Texts that end a process without an answer, such as a proof.

    Returns
    -------
    bool
        Whether an answer or one of the texts stands in the steps.

    Raises
    ------
    TypeError
        If ``stop_words`` is one string.

    Examples
    --------
    >>> is_complete_process(Solution("2 + 3 * 4?", ["3 * 4 = 12.", "2 + 12 = 14."]))
    False
    >>> is_complete_process(Solution("2 + 3 * 4?", ["3 * 4 = 12.", "So the answer is 15."]))
    True
    """
    if isinstance(stop_words, str):
        raise TypeError(f"stop_words is one string, expected a list of strings: [{stop_words!r}]")
    text = "\n\n".join(solution.steps)
    return extract_answer(text, last_number=False).answer is not None or any(word in text for word in stop_words)


def is_correct_process(solution: Solution, verifier: Verifier) -> bool:
    """Return whether a process is correct: a verifier accepts its final answer, whatever leads to it.

    A correct process need not be valid: two mistakes may cancel. A valid and complete process is correct, if what it
    starts from is true and its steps are judged rightly.

    Parameters
    ----------
    solution : Solution
        Problem and steps.
    verifier : callable
        ``verifier(problem, solution) -> bool``, such as an :class:`AnswerVerifier`.

    Returns
    -------
    bool
        What the verifier says.

    Raises
    ------
    Exception
        What the verifier raises, such as a LookupError if no reference is known.

    Examples
    --------
    >>> from prmkit.decoding import AnswerVerifier
    >>> verifier = AnswerVerifier({"2 + 3 * 4?": 14}, how="numeric")
    >>> guess = Solution("2 + 3 * 4?", ["5 * 4 = 20.", "20 - 6 = 14.", "The answer is 14."])
    >>> is_correct_process(guess, verifier), is_valid_process(guess, [False, False, True])
    (True, False)
    """
    return verifier(solution.problem, solution)


def _told(solution: Solution, follows: Follows) -> Iterator[bool]:
    """Yield whether each step follows."""
    if callable(follows):
        for step in (Step(solution, index) for index in range(solution.n_steps)):
            told = follows(step)
            if not isinstance(told, (bool, np.bool_)):
                raise TypeError(f"the verifier of steps returned {told!r:.60} for {step!r}, expected True or False")
            yield bool(told)
        return
    if len(follows) != solution.n_steps:
        raise ValueError(f"follows holds {len(follows)} labels, expected one per step: {solution.n_steps}")
    for index, label in enumerate(follows):
        if not isinstance(label, (bool, np.bool_)) and not (isinstance(label, str) and label in _SIGNS):
            raise TypeError(
                f"the label of step {index} is {label!r:.60}, expected True, False, '+' or '-': compare numbers with a "
                "threshold, such as ratings >= 0"
            )
    yield from (_SIGNS[label] if isinstance(label, str) else bool(label) for label in follows)
