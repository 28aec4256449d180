"""Answers compare as mathematics where spelling does not decide, and nothing hangs."""

import os
import pickle
import signal
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pytest

from prmkit.data import answer_keys, same_answer
from prmkit.data.answers._process import AnswerProcess
from prmkit.data.answers.equivalence import AnswerComparison

NEVER_ENDS = "9^{9^{9^{9}}}"


@pytest.fixture(scope="module")
def comparison():
    pytest.importorskip("math_verify")
    with AnswerComparison(math_verify=True, timeout=1.5) as comparison:
        comparison.same("x+1", "1+x")  # loads the libraries
        yield comparison


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}", True),
        ("x^2-1", "(x-1)(x+1)", True),
        (r"\{1,2\}", r"\{2,1\}", True),
        ("(1,2)", "(2,1)", False),
        ("2x+1", "2x+2", False),
        ("listen", "silent", False),  # the same letters, multiplied
        ("101_2", "101", False),  # the subscript would be lost
        ("5}{6", "5", False),  # the rest would be lost
        ("9**9", "9", False),
        ("1/0", "2", False),
        (r"\infty", "5", False),
        ("5!", "5", False),
        ("4!", "24", True),
        ("k!", "k", False),
        pytest.param("9!!", "9", False, marks=pytest.mark.slow),
        ("Yes!", "yes", True),
        # math-verify takes numbers near zero for equal. Both are exact here.
        ("1/2^{99}", "1/2^{98}", False),
        (r"\frac{\sqrt{3}}{10^{40}}", r"\frac{\sqrt{3}}{10^{41}}", False),
        ("3^{-70}", "0", False),
        ("10^{40}", "10^{40}+1", False),
        # A decimal of six digits or more is what it rounds or cuts.
        (r"\frac{1}{12}", "0.0833333333333333", True),
        (r"-\frac{2}{3}", "-0.666667", True),
        (r"-\frac{2}{3}", "-0.666666", True),
        (r"\frac{2}{3}", "0.666665", False),
        (r"\frac{2}{3}", "0.667", False),
        (r"\sqrt{2}", "1.41421356", True),
        (r"\sqrt{2}", "1.41", False),
        ("0.1+0.2", "0.3", True),
        ("0.1+0.2", r"\frac{3}{10}", True),
        ("50%", "50", True),
        (r"50\%", "0.5", False),  # the sign is a unit
        ("x=1e5", "100000", True),
        ("x = 10^5", "1e5", True),
    ],
)
def test_mathematics(comparison, a, b, expected):
    assert comparison.same(a, b) is expected
    assert comparison.same(b, a) is expected


@pytest.mark.slow
def test_what_never_ends_is_counted_once_slow_then_fast(comparison):
    before = comparison.counts["timed_out"]
    assert not comparison.same(NEVER_ENDS, r"\sqrt{7}")
    with mock.patch.object(AnswerProcess, "ask", side_effect=AssertionError("asked again")):
        assert not any(comparison.same(NEVER_ENDS, rf"\sqrt{{{i}}}") for i in range(11, 30))
    assert comparison.counts["timed_out"] == before + 20
    assert comparison.same("y+1", "1+y")  # the next one has a new process


@pytest.mark.parametrize(
    "strange",
    [
        "9**9**9**9",
        "{" * 200,
        pytest.param("(" * 140 + "1" + ")" * 140, marks=pytest.mark.slow),
        r"\frac{1}{" * 30 + "2" + "}" * 30,
        "1" * 5000,
        pytest.param("10!!!", marks=pytest.mark.slow),
    ],
)
def test_strange_expressions_return(comparison, strange):
    assert not comparison.same(strange, r"\sqrt{3}")


def test_threads_share_a_process(comparison):
    with ThreadPoolExecutor(4) as threads:
        pairs = [(f"z+{i}", f"{i + i % 2}+z") for i in range(12)]
        results = list(threads.map(lambda pair: comparison.same(*pair), pairs))
    assert results == [i % 2 == 0 for i in range(12)]


def test_a_process_that_dies_is_a_failure_and_replaced(comparison):
    assert comparison.same("q+1", "1+q")
    os.kill(comparison._process.pid, signal.SIGKILL)
    assert comparison.same("w+1", "1+w")
    comparison.close()
    assert comparison.same("v+1", "1+v")


def test_copies_start_their_own(comparison):
    copy = pickle.loads(pickle.dumps(comparison))
    assert copy.same("u+1", "1+u")
    assert copy._process.pid != comparison._process.pid
    copy.close()


def test_the_process_ends_with_its_owner(comparison):
    other = AnswerComparison()
    other.same("u+1", "2+u")
    pid = other._process.pid
    del other
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_a_busy_machine_makes_no_answer_different():
    """The limit is one of computing: a process that has to wait for its turn answers late, but right."""
    pytest.importorskip("math_verify")
    with AnswerComparison(timeout=0.5) as comparison, ThreadPoolExecutor(1) as thread:
        assert comparison.same("x+1", "1+x")
        os.kill(comparison._process.pid, signal.SIGSTOP)
        reply = thread.submit(comparison.same, "y+1", "1+y")
        time.sleep(1.5)
        os.kill(comparison._process.pid, signal.SIGCONT)
        assert reply.result()
        assert comparison.counts == {"equal": 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_starts_its_own_and_leaves_its_parents_alone(comparison):
    assert comparison.same("s+1", "1+s")
    pid = comparison._process.pid
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            is_right = comparison.same("t+1", "1+t") and comparison._process.pid != pid
            comparison.close()
        except BaseException:
            is_right = False
        os._exit(0 if is_right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert comparison.same("r+1", "1+r")
    assert comparison._process.pid == pid


def test_counts_without_math_verify():
    comparison = AnswerComparison(math_verify=False)
    assert [comparison.same("0.5", "1/2"), comparison.same("x+1", "1+x"), comparison.same(None, None)] == [
        True,
        False,
        False,
    ]
    assert comparison.counts == {"equal": 1, "different": 1, "missing": 1}
    with pytest.raises(TypeError, match="expected a str or None"):
        comparison.same(5, "5")
    with pytest.raises(ValueError, match="timeout"):
        AnswerComparison(timeout=0)


def test_math_verify_asked_for_but_absent(monkeypatch):
    monkeypatch.setattr("prmkit.data.answers.equivalence.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="needs math-verify: pip install math-verify"):
        AnswerComparison(math_verify=True)
    assert same_answer("18 insects", "18.0")
    assert not same_answer("x+1", "1+x")


def test_keys_group_equal_answers(comparison):
    keys = answer_keys(["1/2", "x+1", None, "0.50", "1+x", "", "Paris", r"\text{paris}"], comparison=comparison)
    assert keys == ["1/2", "x+1", None, "1/2", "x+1", None, "paris", "paris"]
    assert answer_keys(iter(["7", "7.0"])) == ["7", "7"]
