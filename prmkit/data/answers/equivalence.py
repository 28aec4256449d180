"""Whether two final answers are the same: by spelling where that decides, else by math-verify, in limited time."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any

from prmkit.data.answers._process import AnswerProcess
from prmkit.data.answers.extraction import normal_answer

_NUMBER = re.compile(r"-?\d+(?:/\d+)?")
_LATEX_WORDS = re.compile(r"\\[A-Za-z]+|(?:sqrt|sin|cos|tan|cot|sec|log|exp|frac|infty|inf)(?![A-Za-z])")
_LONGEST = 300  # characters that math-verify is given


class AnswerComparison:
    r"""Compare final answers, with a count of what could not be compared.

    Answers that :func:`normal_answer` spells the same are equal. The rest goes to math-verify (``pip install
    'prmkit[math]'``), unless both are whole numbers or one is words. It runs in a process of its own, which is
    killed when it takes too long; whatever fails there counts as not equal. May be shared between threads.

    Parameters
    ----------
    math_verify : bool, optional
        False: compare spelling only. By default math-verify is used where it is installed.
    timeout : float, default 5.0
        Seconds for one question to math-verify.

    Attributes
    ----------
    counts : Counter
        Comparisons by result: ``"equal"``, ``"different"``, and not equal because ``"missing"`` (None),
        ``"failed"`` (math-verify cannot read an answer) or ``"timed_out"``.

    Raises
    ------
    ImportError
        With ``math_verify=True`` where it is not installed.
    ValueError
        For a timeout that is not above 0.

    Examples
    --------
    >>> comparison = AnswerComparison(math_verify=False)
    >>> comparison.same("0.5", r"\frac{1}{2}"), comparison.same("$1,200", "1300"), comparison.same(None, "3")
    (True, False, False)
    >>> dict(comparison.counts)
    {'equal': 1, 'different': 1, 'missing': 1}
    """

    def __init__(self, *, math_verify: bool | None = None, timeout: float = 5.0) -> None:
        if not timeout > 0:
            raise ValueError(f"timeout is {timeout}, expected seconds, above 0")
        installed = find_spec("math_verify") is not None
        if math_verify and not installed:
            raise ImportError("math_verify=True needs math-verify: pip install 'prmkit[math]'")
        self.counts: Counter[str] = Counter()
        self._process = AnswerProcess(timeout) if installed and math_verify is not False else None
        self._results: dict[tuple[str, str | None], str] = {}

    def __enter__(self) -> AnswerComparison:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """End math-verify's process; it starts again when needed."""
        if self._process is not None:
            self._process.close()

    def same(self, a: str | None, b: str | None) -> bool:
        """Return whether two answers, not whole solutions, are the same; None is the same as nothing.

        Raises
        ------
        TypeError
            If one is neither a str nor None.
        """
        for answer in (a, b):
            if not isinstance(answer, str | None):
                raise TypeError(f"an answer is {answer!r}, expected a str or None: str(answer)")
        result = "missing" if a is None or b is None else self._result(a, b)
        self.counts[result] += 1
        return result == "equal"

    def _result(self, a: str, b: str) -> str:
        first, second = normal_answer(a), normal_answer(b)
        if not first or not second:
            return "missing"
        if first == second:
            return "equal"
        if self._process is None or (first.lstrip("-").isdigit() and second.lstrip("-").isdigit()):
            return "different"
        if _is_words(first) or _is_words(second):
            return "different"
        if not (_is_readable(first) and _is_readable(second)):
            return "failed"
        pair = sorted((first, second))
        if any(self._results.get((answer, None)) == "timed_out" for answer in pair):
            return "timed_out"
        result = self._ask(*pair)
        if result == "timed_out":  # whose fault? An answer that hangs must not do so with every other
            any(self._ask(answer, None) == "timed_out" for answer in sorted(pair, key=len, reverse=True))
        return result

    def _ask(self, a: str, b: str | None) -> str:
        if (a, b) not in self._results:
            self._results[a, b] = self._reply(a, b)
        return self._results[a, b]

    def _reply(self, a: str, b: str | None) -> str:
        assert self._process is not None
        if len(a) > _LONGEST:
            return "failed"
        if b is None and _NUMBER.fullmatch(a):
            return "equal"
        try:
            reply = self._process.ask(a, b)
        except TimeoutError:
            return "timed_out"
        return {True: "equal", False: "different", None: "failed"}[reply]


def same_answer(a: str | None, b: str | None, *, comparison: AnswerComparison | None = None) -> bool:
    r"""Return whether two final answers are the same: numbers, fractions, LaTeX, words.

    Parameters
    ----------
    a, b : str or None
        Answers, as :func:`prmkit.data.extract_answer` finds them in solutions. None equals nothing.
    comparison : AnswerComparison, optional
        Counts, and keeps math-verify's process (which takes a second to start) for the next call: pass one
        where there are many answers.

    Returns
    -------
    bool
        False also where the comparison fails or takes too long.

    Raises
    ------
    TypeError
        If an answer is neither a str nor None.

    Examples
    --------
    >>> same_answer("18 insects", "18.0"), same_answer(r"\$1,000", "1000"), same_answer("17", "18")
    (True, True, False)
    """
    if comparison is not None:
        return comparison.same(a, b)
    with AnswerComparison() as once:
        return once.same(a, b)


def answer_keys(
    texts: Iterable[str | None], *, comparison: AnswerComparison | None = None
) -> list[str | None]:
    r"""Return one key per answer of a problem's candidates, equal where the answers are: what a vote needs.

    Parameters
    ----------
    texts : iterable of (str or None)
        Final answers, None where none was found.
    comparison : AnswerComparison, optional
        See :func:`same_answer`.

    Returns
    -------
    list of (str or None)
        The first equal answer's plain spelling. Equality of expressions need not be transitive: an answer
        joins the first group whose first member it equals.

    Raises
    ------
    TypeError
        If an answer is neither a str nor None.

    Examples
    --------
    >>> answer_keys(["0.5", r"$\frac{1}{2}$", "2", None])
    ['1/2', '1/2', '2', None]
    """
    if comparison is None:
        with AnswerComparison() as once:
            return answer_keys(texts, comparison=once)
    keys: list[str | None] = []
    key_of: dict[str, str] = {}  # of each spelling
    for text in texts:
        spelling = None if text is None else normal_answer(text)
        if not spelling:
            keys.append(None)
            continue
        if spelling not in key_of:
            groups = dict.fromkeys(key_of.values())
            key_of[spelling] = next((key for key in groups if comparison.same(key, spelling)), spelling)
        keys.append(key_of[spelling])
    return keys


def _is_words(answer: str) -> bool:
    """Whether an answer is text: math-verify would multiply its letters, and "listen" would equal "silent"."""
    return re.search(r"[A-Za-z]{3}", _LATEX_WORDS.sub("", answer)) is not None


def _is_readable(answer: str) -> bool:
    """Whether math-verify reads all of an answer: not beyond a brace too many, and no subscript, which it drops."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", answer):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0 and "_" not in answer
