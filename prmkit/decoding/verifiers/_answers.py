"""Verify the final answer of a solution against the reference answer of its problem."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction
from numbers import Real
from typing import Literal, TypeAlias, cast

from prmkit.data.answers.equivalence import AnswerComparison
from prmkit.data.answers.extraction import extract_answer, normal_answer, number_of_answer
from prmkit.data.solution import Solution
from prmkit.decoding.verifiers.references import References
from prmkit.metrics.selection.best_of_n import check_option

How: TypeAlias = Literal["math", "exact", "numeric", "choice"]
Answer: TypeAlias = str | int | float

_LETTERS = "A-J"
_OPTION_LINE = re.compile(rf"^[ \t*]*\(?([{_LETTERS}])[).:](?=\s)[ \t*]*(\S[^\n]*)$", re.MULTILINE)
_OPTION_INLINE = re.compile(rf"\(([{_LETTERS}])\)")
_MARKUP = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
# "(B)", "B", "B)", "B. Paris", "B: Paris", "option B", "Choice_B".
_CHOICE = re.compile(
    r"(?:(?:the\s+)?(?:option|choice)[\s_\\]+)?(?:[(\[]\s*([A-Za-z])\s*[)\]]|([A-Za-z])(?=[).:,]|$)[).:]?)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_ANOTHER = re.compile(rf"\s*(?:(?i:or|and)|[/&,])\s*(?:\(?[{_LETTERS}]\b|\([a-j]\))")
_CHOSEN = re.compile(r"\b(?:option|choice)\s+is\b[:\s*]*([^\n]+)", re.IGNORECASE)
_NAMED = re.compile(rf"\b(?i:option|choice)[ _\\]+\(?([{_LETTERS}])(?![A-Za-z'])")


class AnswerVerifier:
    r"""Verify the final answer of a solution.

    Parameters
    ----------
    answers : mapping of str to (str, int or float), optional
        Reference answer of each problem, by the text of the problem. Problems are the same if their texts differ
        only in case, white space, ``$`` or LaTeX spacing. If None, ``solution.meta["answer"]`` is the reference.
    how : {"math", "exact", "numeric", "choice"}, default="math"
        When two answers are the same.

        - ``"math"``: as mathematics, by math-verify where spelling does not decide (``pip install math-verify``).
          A comparison that fails or takes too long is counted, and counts as wrong.
        - ``"exact"``: the same characters, white space aside.
        - ``"numeric"``: two numbers within ``rel_tol`` or ``abs_tol``. Units, ``$`` and ``%`` are no part of a number.
        - ``"choice"``: the same letter, A to J: ``B``, ``(B)``, ``B. Paris``, ``option B``. Without a mark of an
          answer, the last line tells it. If the problem lists its
          options, each on a line (``A) …``) or in one (``(A) … (B) …``), the text of an option stands for its letter,
          and no other letter counts. Two letters are no answer.
    rel_tol : float, default=1e-6
        Largest difference of two numbers, as a share of the reference, with ``how="numeric"``.
    abs_tol : float, default=0.0
        Largest difference of two numbers, if that is more.
    last_number : bool, default=True
        Whether the last number of a solution without any mark, such as ``The answer is …``, is its answer, see
        :func:`prmkit.data.extract_answer`. It never is with ``how="choice"``.
    timeout : float, default=5.0
        Seconds that math-verify may compute for one answer.

    Attributes
    ----------
    counts : Counter
        Number of answers by result: ``"equal"``, ``"different"``, ``"missing"`` (the solution has no answer of this
        kind), and with ``how="math"`` ``"failed"`` and ``"timed_out"``.

    Raises
    ------
    ImportError
        If ``how="math"`` and math-verify is not installed.
    ValueError
        If ``how`` is unknown, a tolerance is negative, or ``answers`` contradicts itself.

    See Also
    --------
    prmkit.data.same_answer : The comparison of ``how="math"``.

    Notes
    -----
    A verifier can be pickled. A reference that carries a mark, such as ``\boxed{5}`` or ``#### 5``, is read by it.
    The level of trust is that of the extraction: a solution that writes its answer in a way that no rule knows is
    ``"missing"``.

    Examples
    --------
    >>> from prmkit import Solution
    >>> solution = Solution("What do 3 pens of $0.75 cost?", ["3 * 0.75 = 2.25.", "The answer is $2.25."])
    >>> verifier = AnswerVerifier({solution.problem: 2.25}, how="numeric")
    >>> verifier(solution.problem, solution)
    True
    >>> capital = Solution("Capital of Peru?\nA) Quito\nB) Lima", ["Answer: Lima"], meta={"answer": "B"})
    >>> AnswerVerifier(how="choice")(capital.problem, capital)
    True
    """

    def __init__(
        self,
        answers: Mapping[str, Answer] | None = None,
        *,
        how: How = "math",
        rel_tol: float = 1e-6,
        abs_tol: float = 0.0,
        last_number: bool = True,
        timeout: float = 5.0,
    ) -> None:
        check_option(how, How, "how")
        for name, value in (("rel_tol", rel_tol), ("abs_tol", abs_tol)):
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} is {value!r}, expected a number of 0 or more")
        self.how = how
        self.rel_tol = rel_tol
        self.abs_tol = abs_tol
        self.last_number = last_number
        self._references = References(answers, "answers", "answer")
        self._comparison = AnswerComparison(math_verify=True, timeout=timeout) if how == "math" else None
        self.counts: Counter[str] = Counter() if self._comparison is None else self._comparison.counts

    def __repr__(self) -> str:
        return f"{type(self).__name__}(how={self.how!r})"

    def __call__(self, problem: str, solution: Solution) -> bool:
        """Return whether the final answer of a solution is right.

        Parameters
        ----------
        problem : str
            Text of the problem.
        solution : Solution
            Solution to verify.

        Returns
        -------
        bool
            Whether its answer is the reference. False if it has no answer.

        Raises
        ------
        LookupError
            If no reference answer is known.
        TypeError, ValueError
            If the reference is no answer of this kind.
        """
        reference = _as_text(self._references.of(problem, solution), problem)
        text = "\n\n".join(solution.steps)
        if self._comparison is not None:
            return self._comparison.same(extract_answer(text, last_number=self.last_number).answer, reference)
        if self.how == "choice":
            options = options_of(problem)
            return self._count(choice_of_text(text, options), _choice_of_reference(reference, options))
        found = extract_answer(text, last_number=self.last_number).answer
        if self.how == "exact":
            return self._count(" ".join((found or "").split()) or None, " ".join(reference.split()))
        expected = number_of_answer(reference)
        if expected is None:
            raise ValueError(f'the answer {reference!r:.60} is no number, as how="numeric" needs it: use how="math"')
        number = None if found is None else number_of_answer(found)
        return self._count(number, expected, self._is_close)

    def _count(
        self, found: str | Fraction | None, expected: str | Fraction, same: Callable[..., bool] = lambda a, b: a == b
    ) -> bool:
        result = "missing" if found is None else "equal" if same(found, expected) else "different"
        self.counts[result] += 1
        return result == "equal"

    def _is_close(self, number: Fraction, expected: Fraction) -> bool:
        return abs(number - expected) <= max(Fraction(self.rel_tol) * abs(expected), Fraction(self.abs_tol))


def _as_text(answer: object, problem: str) -> str:
    """Return a reference answer as text, read by its mark if it has one."""
    if isinstance(answer, bool) or not isinstance(answer, (str, Real)):
        raise TypeError(f"the answer to {problem!r:.60} is {answer!r:.60}, expected a str or a number")
    text = str(answer)
    marked = extract_answer(text, last_number=False)
    if marked.rule in ("boxed", "hashes"):
        text = cast("str", marked.answer)
    if not text.strip() or text in ("nan", "inf", "-inf"):
        raise ValueError(f"the answer to {problem!r:.60} is {answer!r:.60}, expected an answer")
    return text


def options_of(problem: str) -> dict[str, str]:
    """Return the options that a problem lists, by letter from A on. Empty if it lists fewer than two.

    >>> options_of("How many? (A) 3 (B) 4")
    {'A': '3', 'B': '4'}
    """
    pieces = [piece.strip() for piece in _OPTION_INLINE.split(problem)[1:]]
    for found in (_OPTION_LINE.findall(problem), zip(pieces[::2], pieces[1::2], strict=True)):
        options: dict[str, str] = {}
        for letter, text in found:
            if text and letter == "ABCDEFGHIJ"[len(options) : len(options) + 1]:
                options[letter] = text
        if len(options) > 1:
            return options
    return {}


def choice_of_text(text: str, options: Mapping[str, str]) -> str | None:
    """Return the letter that a solution chooses, or None: by a mark of answers, or in its last line."""
    last = text.strip().rpartition("\n")[2]
    named = set(_NAMED.findall(last))
    told = (
        extract_answer(text, last_number=False).answer,
        *_CHOSEN.findall(text)[-1:],
        named.pop() if len(named) == 1 else last,
    )
    return next((letter for answer in told if answer and (letter := _choice(answer, options))), None)


def _choice(answer: str, options: Mapping[str, str]) -> str | None:
    plain = _MARKUP.sub(r" \1 ", answer).replace("\\ ", " ")
    plain = re.sub(r"[$*_`]|\\[()]", " ", plain).strip()
    match = _CHOICE.fullmatch(plain)
    if match and not _ANOTHER.match(match["rest"]):
        letter = (match[1] or match[2]).upper()
        if letter in (options or "ABCDEFGHIJ"):
            return letter
    meant = [letter for letter, text in options.items() if normal_answer(text) == normal_answer(plain)]
    return meant[0] if len(meant) == 1 else None


def _choice_of_reference(answer: str, options: Mapping[str, str]) -> str:
    letter = _choice(answer, options)
    if letter is None:
        known = f"the letters {', '.join(options)} or the text of one option" if options else "a letter from A to J"
        raise ValueError(f'the answer {answer!r:.60} is no choice, expected {known} with how="choice"')
    return letter
