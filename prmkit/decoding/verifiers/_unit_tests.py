"""Verify the code of a solution by unit tests, which run in a process of their own, within limits."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, cast, get_args

from prmkit.data.solution import Solution
from prmkit.decoding.verifiers.references import References

Outcome: TypeAlias = Literal["passed", "failed", "raised", "timed_out", "too_much_output", "died", "no_code"]
Tests: TypeAlias = str | Sequence[str]

_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})([^`]*)")
_PYTHON = ("python", "py", "python3")
_LARGEST_OUTPUT, _SHOWN_OUTPUT = 2**20, 2_000
_LARGEST_FILE = 64 * 2**20
# Names of the environment that the code may see: no key of an API is among them.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")
# Runs in the other process. The word at the end says that all tests came to their end: an exit before it is no success.
_RUNNER = """
import inspect, os, signal, sys, traceback, types, unittest
word, memory, seconds, largest = sys.argv[1], *map(int, sys.argv[2:5])
del sys.argv[1:]
try:
    import resource
except ImportError:
    pass
else:
    limits = {"RLIMIT_AS": memory, "RLIMIT_CPU": seconds, "RLIMIT_FSIZE": largest, "RLIMIT_CORE": 0}
    for name, value in limits.items():
        try:
            resource.setrlimit(getattr(resource, name), (value, value))
        except (OSError, ValueError):
            pass  # the system has no such limit, or a lower one
if hasattr(signal, "alarm"):
    signal.alarm(seconds + 5)  # for the day on which nobody is left to end this process

def called(test):
    if not inspect.isclass(test):
        test()
    elif issubclass(test, unittest.TestCase):
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(test).run(result)
        for _, text in result.failures + result.errors:
            raise AssertionError(text)
    else:
        for name in dir(test):
            if name.startswith("test"):
                getattr(test(), name)()

def main():
    write, stdout = os.write, sys.stdout.fileno()
    module = types.ModuleType("solution")
    sys.modules["solution"] = module
    outcome, why, stage = "passed", "", "code"
    try:
        for stage in ("code", "tests"):
            with open(stage + ".py", "rb") as file:
                exec(compile(file.read(), stage + ".py", "exec"), vars(module))
        with open("names.txt", encoding="utf-8") as file:
            for name in file.read().split():
                called(vars(module)[name])
    except BaseException as error:
        is_failure = stage == "tests" and isinstance(error, AssertionError)
        outcome, why = "failed" if is_failure else "raised", traceback.format_exc()
    try:
        sys.stdout.flush()
    except BaseException:
        pass  # the code closed it, or put another one there
    write(stdout, f"\\n{why}\\n{word} {outcome}\\n".encode("utf-8", "replace"))
    os._exit(0)

main()
"""


@dataclass(frozen=True, slots=True)
class TestRun:
    """What became of the tests of one solution.

    Parameters
    ----------
    outcome : str
        ``"passed"``, ``"failed"`` (an assertion), ``"raised"`` (another exception, in the code or in a test),
        ``"timed_out"``, ``"too_much_output"``, ``"died"`` (the process ended before the tests did) or ``"no_code"``.
    output : str
        End of what was printed, the error included.
    """

    outcome: Outcome
    output: str = ""


class UnitTestVerifier:
    r"""Verify the Python code of a solution by running tests on it, in another process.

    The code is the last fenced block of the solution (three backticks and ``python``). Code and tests share their
    names. A solution is right if the tests end without an exception.

    Parameters
    ----------
    tests : mapping of str to (str or sequence of str), optional
        Python code of the tests of each problem, by the text of the problem: statements such as ``assert``, functions
        ``test_…`` without parameters, ``unittest.TestCase`` classes. If None, ``solution.meta["tests"]`` holds them.
    seconds : float, default=10.0
        Longest time of a run, by the clock.
    memory : int, default=2147483648
        Bytes of memory that the run may use, where the system has such a limit (not on Windows).
    python : str, optional
        Path of the Python that runs the code. If None, this one.

    Attributes
    ----------
    counts : Counter
        Number of runs by outcome: ``"passed"``, ``"failed"``, ``"raised"``, ``"timed_out"``, ``"too_much_output"``,
        ``"died"`` and ``"no_code"``.

    Raises
    ------
    ValueError
        If a limit is not above 0, or ``tests`` contradicts itself.

    Notes
    -----
    The process has limits of time, memory and size of files, no input, an empty folder of its own that is removed
    afterwards, none of the environment's secrets, and Python's isolated mode (``-I``). It is ended together with the
    processes that it started.

    **It is no sandbox.** The code runs as the same user: it can read and delete the user's files, use the network, and
    start a process that leaves its group. It can also cheat, by a look at its tests or a change of what they call. For
    code of a model that you do not trust, run prmkit in a container without network, or as another user.

    A verifier can be pickled, and threads may share it: each call has its own process.

    Examples
    --------
    >>> problem = "Write add(a, b)."
    >>> verifier = UnitTestVerifier({problem: "assert add(2, 3) == 5"})
    >>> right = Solution(problem, ["So:", "```python\ndef add(a, b):\n    return a + b\n```"])
    >>> wrong = Solution(problem, ["So:", "```python\ndef add(a, b):\n    return a - b\n```"])
    >>> verifier(problem, right), verifier(problem, wrong)
    (True, False)
    >>> verifier.run(problem, wrong).output.splitlines()[-1]
    'AssertionError'
    """

    def __init__(
        self,
        tests: Mapping[str, Tests] | None = None,
        *,
        seconds: float = 10.0,
        memory: int = 2 * 2**30,
        python: str | None = None,
    ) -> None:
        for name, value in (("seconds", seconds), ("memory", memory)):
            if not value > 0:
                raise ValueError(f"{name} is {value!r}, expected a number above 0")
        self.seconds = seconds
        self.memory = memory
        self.python = python
        self.counts: Counter[str] = Counter()
        self._references = References(tests, "tests", "tests")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(seconds={self.seconds})"

    def __call__(self, problem: str, solution: Solution) -> bool:
        """Return whether the code of a solution passes the tests of its problem.

        Parameters
        ----------
        problem : str
            Text of the problem.
        solution : Solution
            Solution to verify.

        Returns
        -------
        bool
            Whether all tests passed. False if the solution has no code.

        Raises
        ------
        LookupError
            If no tests are known.
        TypeError, ValueError
            If the tests are no Python code, or cannot fail.
        OSError
            If the process cannot be started.
        """
        return self.run(problem, solution).outcome == "passed"

    def run(self, problem: str, solution: Solution) -> TestRun:
        """Run the tests of a problem on a solution, and return what became of them.

        Parameters
        ----------
        problem : str
            Text of the problem.
        solution : Solution
            Solution to verify.

        Returns
        -------
        TestRun
            Its ``outcome``, and the end of its ``output``.

        Raises
        ------
        LookupError
            If no tests are known.
        TypeError, ValueError
            If the tests are no Python code, or cannot fail.
        OSError
            If the process cannot be started.
        """
        tests, names = _checked_tests(self._references.of(problem, solution), problem)
        code = code_of(solution)
        found = TestRun("no_code") if code is None else self._run(code, tests, names)
        self.counts[found.outcome] += 1
        return found

    def _run(self, code: str, tests: str, names: Sequence[str]) -> TestRun:
        with tempfile.TemporaryDirectory(prefix="prmkit-tests-", ignore_cleanup_errors=True) as folder:
            for name, text in (("code.py", code), ("tests.py", tests), ("names.txt", "\n".join(names))):
                (Path(folder) / name).write_bytes(text.encode("utf-8", "surrogatepass"))
            word = uuid.uuid4().hex
            limits = (self.memory, max(1, round(self.seconds) + 1), _LARGEST_FILE)
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            folders = dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), folder)
            process = subprocess.Popen(
                [self.python or sys.executable, "-I", "-c", _RUNNER, word, *map(str, limits)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment | folders | {"OMP_NUM_THREADS": "1"},
                start_new_session=os.name == "posix",
            )
            reader = _Reader(process)
            try:
                process.wait(self.seconds)
                is_late = False
            except subprocess.TimeoutExpired:
                is_late = True
            finally:
                _end(process)
                # A process that left the group may hold the pipe open. It is not waited for.
                reader.join(1.0)
        output = reader.text
        head, found, told = output.rpartition(f"\n{word} ")
        outcome = told.strip()
        if found and outcome in get_args(Outcome):
            return TestRun(cast("Outcome", outcome), head[-_SHOWN_OUTPUT:].strip())
        stopped: Outcome = "too_much_output" if reader.is_too_much else "timed_out" if is_late else "died"
        return TestRun(stopped, output[-_SHOWN_OUTPUT:].strip())


class _Reader(threading.Thread):
    """Reads what a process prints, keeps the end of it, and ends the process if it is too much."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._kept = b""
        self.is_too_much = False
        self.start()

    def run(self) -> None:
        assert self._process.stdout is not None
        n_read = 0
        # It is closed at its end, which what holds it open may put off beyond this call.
        with self._process.stdout as pipe:
            while piece := os.read(pipe.fileno(), 2**16):
                n_read += len(piece)
                self._kept = (self._kept + piece)[-4 * _SHOWN_OUTPUT :]
                if n_read > _LARGEST_OUTPUT and not self.is_too_much:
                    self.is_too_much = True
                    _end(self._process)

    @property
    def text(self) -> str:
        return self._kept.decode("utf-8", "replace").replace("\r\n", "\n")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and those that it started."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def code_of(solution: Solution) -> str | None:
    """Return the last fenced block of Python in a solution, or None.

    A block without a language counts if none says Python. One that is not closed goes on to the end.
    """
    blocks: list[tuple[str, list[str]]] = []
    fence = ""
    for line in "\n\n".join(solution.steps).splitlines():
        if fence:
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
            else:
                blocks[-1][1].append(line)
        elif match := _FENCE.fullmatch(line):
            fence = match[1]
            language = match[2].split()
            blocks.append((language[0].lower() if language else "", []))
    for languages in (_PYTHON, ("",)):
        codes = [lines for language, lines in blocks if language in languages]
        if codes:
            return textwrap.dedent("\n".join(codes[-1]))
    return None


def _checked_tests(tests: object, problem: str) -> tuple[str, list[str]]:
    """Return tests as text, and the names that have to be called. What could never fail is an error."""
    parts = [tests] if isinstance(tests, str) else tests
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise TypeError(f"the tests of {problem!r:.60} are {type(tests).__name__}, expected a str, or a list of str")
    text = "\n".join(parts)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the tests of {problem!r:.60} are no Python code: {error}") from error
    names = []
    can_fail = False
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test"):
            needed = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
            if isinstance(node, ast.AsyncFunctionDef) or needed > 0 or None in node.args.kw_defaults:
                raise ValueError(
                    f"the tests of {problem!r:.60} hold {node.name}, which is asynchronous or has parameters, expected "
                    "test functions that are called without arguments"
                )
            names.append(node.name)
        elif isinstance(node, ast.ClassDef):
            if any(isinstance(part, ast.FunctionDef) and part.name.startswith("test") for part in node.body):
                names.append(node.name)
        elif not isinstance(node, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.Assign, ast.AnnAssign)):
            is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            # Nothing runs as the main module here.
            is_main = isinstance(node, ast.If) and "__name__" in ast.unparse(node.test)
            can_fail = can_fail or not (is_text or is_main or isinstance(node, ast.Pass))
    if not names and not can_fail:
        raise ValueError(
            f"the tests of {problem!r:.60} call nothing, so they cannot fail: add assertions, a function test_…(), or "
            "a call of the function that checks"
        )
    return text, names
