"""math-verify in a process of its own, because an expression may take time or memory without end.

math-verify's own time limit needs the main thread and Unix, and cannot end a computation in C.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from functools import lru_cache
from typing import Any

from prmkit.utils.limited_process import LimitedProcess, limit_memory

# Bytes of address space.
_MEMORY_LIMIT = 4 * 2**30
# Digits to which exact numbers are compared, and the largest difference, as a share of the larger one.
_DIGITS, _SHARE = 60, 1e-40


class AnswerProcess(LimitedProcess):
    """Compares answers in another process, which may compute some seconds for one request."""

    def __init__(self, seconds: float) -> None:
        super().__init__(_compare_or_none, seconds, prepare=_prepare, computing=True)

    def ask(self, a: str, b: str | None) -> bool | None:
        """Return whether two answers are equal, None if the process cannot read one, or runs out of memory.

        With ``b=None``, the reply says whether ``a`` can be evaluated. A TimeoutError says that it takes too long.
        """
        try:
            reply: bool | None = super().ask(a, b)
        except ChildProcessError:
            return None
        return reply


def _prepare() -> None:
    """Set the process up: no output, a limit of memory, and the libraries loaded before the first request."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    logging.disable(logging.CRITICAL)
    limit_memory(_MEMORY_LIMIT)
    # The first comparison loads further libraries, which must not count against the time of a request.
    with suppress(Exception):
        _compare("y+1", "1+y")


def _compare_or_none(a: str, b: str | None) -> bool | None:
    try:
        return _compare(a, b)
    except Exception:  # whatever it is, an answer cannot be read
        return None


def _compare(a: str, b: str | None) -> bool | None:
    """Return whether two answers are equal in either order."""
    from math_verify import verify
    from sympy import Expr, Float, Integer, Rational

    first = _parsed(a)
    second = [Integer(1)] if b is None else _parsed(b)
    if not first or not second:
        return None
    no_limit: dict[str, Any] = {"timeout_seconds": None}
    is_equal = verify(first, second, **no_limit) or verify(second, first, **no_limit)
    if b is None:
        return True
    pair = first[0], second[0]
    if not all(isinstance(number, Expr) and number.is_number for number in pair):
        return bool(is_equal)
    # math-verify takes all numbers near zero for equal, and adds 0.1 and 0.2 in doubles.
    one, other = (number.replace(lambda x: x.is_Float, lambda x: Rational(str(x))) for number in pair)
    larger = max(abs(one.evalf(_DIGITS)), abs(other.evalf(_DIGITS)))
    if not larger.is_finite:
        return bool(is_equal)
    if abs((one - other).evalf(_DIGITS)) <= _SHARE * larger:
        return True
    return bool(is_equal) and any(number.has(Float) for number in pair)


@lru_cache(maxsize=4096)
def _parsed(answer: str) -> Any:
    """Return the expressions that math-verify reads in an answer, an empty list if it reads none."""
    from math_verify import parse

    return parse(f"\\boxed{{{answer}}}", parsing_timeout=None)
