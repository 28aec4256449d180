"""Comparison of final answers: by spelling where that decides, and by math-verify, in limited time, elsewhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction
from importlib.util import find_spec

from prmkit.data.answers._process import AnswerProcess
from prmkit.data.answers.extraction import normal_answer
from prmkit.utils.environment import missing_package

_NUMBER = re.compile(r"-?\d{1,200}(?:/0*[1-9]\d{0,200})?")
_WHOLE = re.compile(r"-?\d+")
_LATEX_WORDS = re.compile(r"\\[A-Za-z]+|(?:sqrt|sin|cos|tan|cot|sec|log|exp|frac|infty|inf)(?![A-Za-z])")
# math-verify gets no answer with more characters.
_LONGEST = 300
# A decimal with as many digits after its point may stand for a fraction that it rounds.
_FEWEST_DIGITS = 6


class AnswerComparison:
    r"""Compare final answers, and count the comparisons by their result.

    Answers are equal if `normal_answer` spells them the same. Otherwise two numbers are equal only if one is a
    decimal of six digits or more after its point, and the other has these digits, rounded or cut, as ``1/12`` and
    ``0.083333``. Words are different. All others go to math-verify (``pip install math-verify``), whose tolerance
    does not count where both numbers are exact. It runs in a process of its own, which is killed when it computes for
    too long. A comparison that fails there counts as not equal. Threads may share an instance.

    Parameters
    ----------
    math_verify : bool, optional
        Whether to use math-verify. By default it is used if it is installed.
    timeout : float, default=5.0
        Seconds that math-verify may compute for one question. On a busy machine it may wait longer.

    Attributes
    ----------
    counts : Counter
        Number of comparisons by result. ``"equal"`` and ``"different"`` speak for themselves. Not equal are
        also ``"missing"`` (an answer is None or empty), ``"failed"`` (math-verify cannot read an answer) and
        ``"timed_out"``.

    Raises
    ------
    ImportError
        If ``math_verify=True`` and it is not installed.
    ValueError
        If the timeout is not above 0.

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
            raise missing_package("math-verify", "math_verify=True")
        self.counts: Counter[str] = Counter()
        self._process = AnswerProcess(timeout) if installed and math_verify is not False else None
        self._results: dict[tuple[str, str | None], str] = {}

    def __enter__(self) -> AnswerComparison:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End math-verify's process. It starts again when it is needed."""
        if self._process is not None:
            self._process.close()

    def same(self, a: str | None, b: str | None) -> bool:
        """Return whether two answers are the same.

        Parameters
        ----------
        a, b : str or None
            Answers, not whole solutions. None is not the same as anything.

        Returns
        -------
        bool
            Whether they are the same.

        Raises
        ------
        TypeError
            If one is neither a string nor None.
        """
        for answer in (a, b):
            if not isinstance(answer, str | None):
                raise TypeError(f"an answer is {answer!r}, expected a str or None: str(answer)")
        result = "missing" if a is None or b is None else self._result(a, b)
        self.counts[result] += 1
        return result == "equal"

    def agree(self, a: str | None, b: str | None) -> bool | None:
        """Return whether two answers are the same, as `same` does, or None if nothing tells it.

        Parameters
        ----------
        a, b : str or None
            Answers, not whole solutions.

        Returns
        -------
        bool or None
            None if an answer is missing, or if the comparison fails or takes too long.
        """
        told = self.counts["equal"] + self.counts["different"]
        is_same = self.same(a, b)
        return is_same if self.counts["equal"] + self.counts["different"] > told else None

    def _result(self, a: str, b: str) -> str:
        first, second = normal_answer(a), normal_answer(b)
        if not first or not second:
            return "missing"
        if first == second:
            return "equal"
        if _WHOLE.fullmatch(first) and _WHOLE.fullmatch(second):
            return "different"
        if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(second):
            a_number, b_number = Fraction(first), Fraction(second)
            return "equal" if _rounds(a_number, b_number) or _rounds(b_number, a_number) else "different"
        if self._process is None:
            return "different"
        if _is_words(first) or _is_words(second):
            return "different"
        if not (_is_readable(first) and _is_readable(second)):
            return "failed"
        pair = sorted(map(_as_decimal, (first, second)))
        if any(self._results.get((answer, None)) == "timed_out" for answer in pair):
            return "timed_out"
        result = self._ask(*pair)
        if result == "timed_out":
            # An answer that hangs would hang in every comparison, so its name is remembered.
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
        Answers, such as `extract_answer` finds them in solutions. None is not the same as anything.
    comparison : AnswerComparison, optional
        Comparison to use. It counts results, and keeps math-verify's process, which takes a second to start.
        Pass one if there are many answers.

    Returns
    -------
    bool
        Whether they are the same. It is False if the comparison fails or takes too long.

    Raises
    ------
    TypeError
        If an answer is neither a string nor None.

    Examples
    --------
    >>> same_answer("18 insects", "18.0"), same_answer(r"\$1,000", "1000"), same_answer("17", "18")
    (True, True, False)
    """
    if comparison is not None:
        return comparison.same(a, b)
    with AnswerComparison() as temporary:
        return temporary.same(a, b)


def answer_keys(texts: Iterable[str | None], *, comparison: AnswerComparison | None = None) -> list[str | None]:
    r"""Return one key per answer, which equal answers share, so that candidates can vote.

    Equality of expressions need not be transitive. An answer joins the first group whose first member
    equals it.

    Parameters
    ----------
    texts : iterable of (str or None)
        Final answers to one problem, None where a candidate has none.
    comparison : AnswerComparison, optional
        Comparison to use, as in `same_answer`.

    Returns
    -------
    list of (str or None)
        Plain spelling of the first answer of each group, None where there is no answer.

    Raises
    ------
    TypeError
        If an answer is neither a string nor None.

    Examples
    --------
    >>> answer_keys(["0.5", r"$\frac{1}{2}$", "2", None])
    ['1/2', '1/2', '2', None]
    """
    if comparison is None:
        with AnswerComparison() as temporary:
            return answer_keys(texts, comparison=temporary)
    keys: list[str | None] = []
    key_of: dict[str, str] = {}
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


def _rounds(decimal: Fraction, exact: Fraction) -> bool:
    """Return whether a decimal of many digits is a fraction within the digits given."""
    n_digits = _n_decimals(decimal)
    if n_digits is None or n_digits < _FEWEST_DIGITS:
        return False
    unit = 10**n_digits
    is_rounded = abs(exact - decimal) * 2 * unit <= 1
    return bool(is_rounded or int(exact * unit) == decimal * unit)


def _n_decimals(number: Fraction) -> int | None:
    """Return how many digits a number has after its point, or None if they do not end."""
    return next((n for n in range(100) if 10**n % number.denominator == 0), None)


def _as_decimal(answer: str) -> str:
    """Write a fraction of many decimals as a decimal, which is what it was, for comparisons with roots and the like."""
    n_digits = _n_decimals(Fraction(answer)) if _NUMBER.fullmatch(answer) else None
    if n_digits is None or n_digits < _FEWEST_DIGITS:
        return answer
    digits = str(abs(int(Fraction(answer) * 10**n_digits))).rjust(n_digits + 1, "0")
    return f"{'-' * answer.startswith('-')}{digits[:-n_digits]}.{digits[-n_digits:]}"


def _is_words(answer: str) -> bool:
    """Return whether an answer is text. math-verify would multiply letters: "listen" would equal "silent"."""
    return re.search(r"[A-Za-z]{3}", _LATEX_WORDS.sub("", answer)) is not None


def _is_readable(answer: str) -> bool:
    """Return whether math-verify reads all of an answer. It stops at a brace too many, and drops subscripts."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", answer):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            return False
    return depth == 0 and "_" not in answer
