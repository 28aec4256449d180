"""The process that runs math-verify: run as a module, so that an expression without end can be killed with it.

Each line of standard input is a JSON object, each line of standard output the reply to it: true, false, or null
where an answer could not be read.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import lru_cache
from typing import Any

MEMORY_LIMIT = 4 * 2**30  # bytes of address space


def main() -> None:
    """Answer requests until standard input is closed."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # whatever a library prints is no reply
    logging.disable(logging.CRITICAL)
    limit_memory()
    import math_verify  # noqa: F401  before the first request, whose time is limited

    replies.write(json.dumps("ready") + "\n")
    replies.flush()
    for line in sys.stdin:
        request = json.loads(line)
        end_in(request["seconds"] + 1.0)
        try:
            reply = compare(*request["answers"])
        except Exception:  # of any kind: an answer that cannot be read
            reply = None
        end_in(0.0)
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def limit_memory() -> None:
    """Refuse memory beyond a limit, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = MEMORY_LIMIT if hard == resource.RLIM_INFINITY else min(MEMORY_LIMIT, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def end_in(seconds: float) -> None:
    """End this process in some seconds, even in the middle of C code and if its parent is gone; 0: no more."""
    import signal

    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM without a handler ends a process


def compare(a: str, b: str | None) -> bool | None:
    """Return whether two answers are equal in either order; with one answer, whether it can be evaluated."""
    from math_verify import verify
    from sympy import Integer

    first = parsed(a)
    if not first:
        return None
    second = [Integer(1)] if b is None else parsed(b)
    if not second:
        return None
    arguments: dict[str, Any] = {"timeout_seconds": None}
    equal = verify(first, second, **arguments) or verify(second, first, **arguments)
    return True if b is None else bool(equal)


@lru_cache(maxsize=4096)
def parsed(answer: str) -> Any:
    """Return what math-verify reads in an answer, an empty list if nothing."""
    from math_verify import parse

    return parse(f"\\boxed{{{answer}}}", parsing_timeout=None)


if __name__ == "__main__":
    main()
