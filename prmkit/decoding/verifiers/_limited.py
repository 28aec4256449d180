"""Any verifier within a limit of time: it runs in a process that is killed when it hangs."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import numpy as np
from joblib.externals.loky.backend.reduction import dumps

from prmkit.data.solution import Solution
from prmkit.decoding.verifiers.references import Verifier
from prmkit.utils.limited_process import LimitedProcess, limit_memory


class LimitedVerifier:
    """Run a verifier in another process, which is killed when it takes too long.

    Parameters
    ----------
    verifier : callable
        ``verifier(problem, solution) -> bool``. It is sent to the process, with all that it holds: what changes in it
        there, such as counts, does not come back.
    seconds : float, default=10.0
        Longest time that one call may take, by the clock.
    memory : int, optional
        Bytes of memory that the process may use, where the system has such a limit (not on Windows).

    Attributes
    ----------
    counts : Counter
        Number of calls by result: ``"right"``, ``"wrong"``, ``"raised"``, ``"timed_out"`` and ``"died"``.

    Raises
    ------
    TypeError
        If the verifier cannot be sent to another process.
    ValueError
        If a limit is not above 0.

    Notes
    -----
    The process starts with the first call, which takes some seconds, and anew after it was killed. Threads may share
    an instance, which answers one call at a time. It can be pickled. :class:`AnswerVerifier` and
    :class:`UnitTestVerifier` have limits of their own, and need none of these.

    Examples
    --------
    >>> def hangs(problem, solution):
    ...     while True:
    ...         pass
    >>> verifier = LimitedVerifier(hangs, seconds=0.1)
    >>> verifier("2 + 2?", Solution("2 + 2?", ["The answer is 4."]))
    Traceback (most recent call last):
        ...
    TimeoutError: the verifier hangs did not return within 0.1 s, and was ended
    >>> verifier.counts
    Counter({'timed_out': 1})
    """

    def __init__(self, verifier: Verifier, *, seconds: float = 10.0, memory: int | None = None) -> None:
        for name, value in (("seconds", seconds), ("memory", memory)):
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value!r}, expected a number above 0")
        self.seconds = seconds
        self.memory = memory
        self.counts: Counter[str] = Counter()
        self._name = getattr(verifier, "__name__", type(verifier).__name__)
        if not callable(verifier):
            raise TypeError(
                f"verifier is {self._name}, expected a callable that takes a problem and a solution and returns a bool"
            )
        try:
            sent = bytes(dumps(verifier))
        except Exception as error:
            raise TypeError(
                f"the verifier {self._name} cannot be sent to another process ({error}): let it open files, "
                "connections and locks when it is called"
            ) from error
        call = _Call(sent, memory)
        self._process = LimitedProcess(call, seconds, prepare=call.prepare)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name}, seconds={self.seconds})"

    def __call__(self, problem: str, solution: Solution) -> bool:
        """Return what the verifier says.

        Parameters
        ----------
        problem : str
            Text of the problem.
        solution : Solution
            Solution to verify.

        Returns
        -------
        bool
            Whether the solution is right.

        Raises
        ------
        TimeoutError
            If the verifier takes too long.
        RuntimeError
            If it raises, returns no bool, or ends its process.
        """
        try:
            told, why = self._process.ask(problem, solution)
        except TimeoutError:
            self.counts["timed_out"] += 1
            raise TimeoutError(
                f"the verifier {self._name} did not return within {self.seconds} s, and was ended"
            ) from None
        except ChildProcessError:
            self.counts["died"] += 1
            raise RuntimeError(f"the verifier {self._name} ended its process: out of memory, or a crash") from None
        if told is None:
            self.counts["raised"] += 1
            raise RuntimeError(f"the verifier {self._name} {why}")
        self.counts["right" if told else "wrong"] += 1
        return bool(told)

    def close(self) -> None:
        """End the process. It starts again when it is needed."""
        self._process.close()


class _Call:
    """The call as the other process makes it: what goes wrong comes back as text, since no error need be picklable."""

    def __init__(self, sent: bytes, memory: int | None) -> None:
        self._sent = sent
        self._memory = memory
        self._verifier: Verifier | None = None
        self._why = ""

    def prepare(self) -> None:
        """Load the verifier and what it imports, which must not count against the time of a call."""
        try:
            self._verifier = pickle.loads(self._sent)  # noqa: S301 (the owner's own)
        except BaseException as error:
            self._why = f"cannot be loaded in another process: {type(error).__name__}: {error}"
        if self._memory is not None:
            limit_memory(self._memory)

    def __call__(self, problem: str, solution: Solution) -> tuple[bool | None, str]:
        if self._verifier is None:
            return None, self._why
        try:
            told: Any = self._verifier(problem, solution)
        except BaseException as error:  # an exit too: it is the verifier's, and not this process's
            return None, f"raised {type(error).__name__}: {error}"
        if not isinstance(told, (bool, np.bool_)):
            return None, f"returned {told!r:.60}, expected True or False"
        return bool(told), ""
