"""Verifiers: final answers, unit tests, limits of time, and the words for a process."""

import gc
import os
import pickle
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from prmkit import Solution
from prmkit.decoding import (
    AnswerVerifier,
    CallableGenerator,
    LimitedVerifier,
    UnitTestVerifier,
    best_of_n,
    is_complete_process,
    is_correct_process,
    is_valid_process,
    non_sequiturs,
)
from prmkit.decoding.verifiers._unit_tests import code_of


def solved(written, problem="What is it?", **meta):
    return Solution(problem, ["Let us see.", f"The answer is {written}."], meta=meta or None)


@pytest.mark.parametrize(
    ("how", "written", "reference", "is_right"),
    [
        ("exact", "12  cats", "12 cats", True),
        ("exact", "0.5", "1/2", False),
        ("exact", "Cat", "cat", False),
        ("numeric", "$1,250.50", 1250.5, True),
        ("numeric", "333.3334", "1000/3", True),
        ("numeric", "333.34", "1000/3", False),
        ("numeric", r"$\frac{7}{4}$ cups", 1.75, True),
        ("numeric", r"1750 \text{ g}", 1750, True),
        ("numeric", r"2 \text{ dozen}", 2, False),
        ("numeric", "2x", 2, False),
        ("numeric", "1e999999999", 1, False),
        ("numeric", "3/0", 3, False),
        ("numeric", "-4", 4, False),
        ("numeric", "0.0000001", np.float64(1e-7), True),
        ("numeric", "12 cm", np.int64(12), True),
        ("choice", "(C)", "C", True),
        ("choice", "c", "C", True),
        ("choice", r"\textbf{(C)}\ 17", "(C) 17", True),
        ("choice", "option C", "C", True),
        ("choice", "C. A cat", "C", True),
        ("choice", "C or B", "C", False),
        ("choice", "(c) and (b)", "C", False),
        ("choice", "B, C", "B", False),
        ("choice", "a cat", "A", False),
        ("choice", "K", "C", False),
    ],
)
def test_answers_by_kind(how, written, reference, is_right):
    verifier = AnswerVerifier(how=how, rel_tol=1e-5)
    solution = solved(written, answer=reference)
    assert verifier(solution.problem, solution) is is_right
    assert sum(verifier.counts.values()) == 1
    assert (verifier.counts["equal"] == 1) is is_right


@pytest.mark.parametrize(
    ("written", "reference", "is_right"),
    [("0.5", r"\frac12", True), ("12", r"\boxed{12}", True), ("12", "6 + 6 = 12\n#### 12", True), ("5", "6", False)],
)
def test_answers_as_mathematics_where_spelling_decides(written, reference, is_right):
    pytest.importorskip("math_verify")
    assert AnswerVerifier({"What is  it?": reference})("what is it?", solved(written)) is is_right


@pytest.mark.slow
def test_answers_as_mathematics_where_it_does_not():
    pytest.importorskip("math_verify")
    verifier = AnswerVerifier({"p": r"\frac{\sqrt{3}}{3}"})
    assert verifier("p", solved(r"$\frac{1}{\sqrt{3}}$"))
    assert pickle.loads(pickle.dumps(verifier))("p", solved(r"$\frac{1}{\sqrt{3}}$"))
    assert dict(verifier.counts) == {"equal": 1}


@pytest.mark.parametrize(
    "problem",
    [
        "Largest?\nA) the moon\nB) the sun\nC) the earth",
        "Largest? (A) the moon (B) the sun (C) the earth",
        "Largest?\n  (A) the moon\n  (B) the sun\n  (C) the earth",
        "Largest?\nA. the moon\nB. the sun\nC. the earth",
    ],
)
def test_options_of_the_problem_have_texts_and_end_the_letters(problem):
    verifier = AnswerVerifier(how="choice")
    written = ["the Sun", "B", "B) the sun", "D", "the moon", "the stars"]
    told = [verifier(problem, solved(text, problem, answer="the sun")) for text in written]
    assert told == [True, True, True, False, False, False]
    assert dict(verifier.counts) == {"equal": 3, "different": 1, "missing": 2}
    with pytest.raises(ValueError, match="expected the letters A, B, C"):
        verifier(problem, solved("B", problem, answer="F"))


@pytest.mark.parametrize(
    "last",
    [
        *("B", "(B)", "**B**", "So the correct option is B.", r"$\boxed{\text{B}}$", "Result: Choice_B (a cat)"),
        *(r"Result: Choice\_B", "We take option (B): 4, which is less."),
    ],
)
def test_a_choice_without_the_sentence(last):
    assert AnswerVerifier({"p": "B"}, how="choice")("p", Solution("p", ["The answer is not a dog.", last]))


@pytest.mark.parametrize(
    "last", ["Choice_A or Choice_B", "None of the choices (A, B) is right.", "Bees", "Confidence: 1"]
)
def test_no_choice(last):
    verifier = AnswerVerifier({"p": "B"}, how="choice")
    assert not verifier("p", Solution("p", ["Option C is wrong.", last]))
    assert dict(verifier.counts) == {"missing": 1}


@pytest.mark.parametrize(
    "long", [" " * 200_000, "`" * 200_000, "a" * 200_000 + "`", "(A) \n" * 50_000, "Choice " * 30_000]
)
def test_long_texts_are_read_at_once(long):
    """Patterns that go back and forth would never end here."""
    solution = Solution(f"Which? (A) x{long}", [f"```{long}", f"Option is {long}", f"The option is (A){long}{long}"])
    AnswerVerifier({solution.problem: "A"}, how="choice")(solution.problem, solution)
    code_of(solution)


def test_the_last_number_can_be_refused():
    unmarked = Solution("p", ["6 cats and 6 dogs are 12"])
    assert AnswerVerifier({"p": 12}, how="numeric")("p", unmarked)
    strict = AnswerVerifier({"p": 12}, how="numeric", last_number=False)
    assert not strict("p", unmarked)
    assert dict(strict.counts) == {"missing": 1}


def test_what_cannot_be_told_is_an_error_never_false():
    verifier = AnswerVerifier(how="numeric")
    with pytest.raises(LookupError, match=r'solution\.meta\["answer"\]'):
        verifier("p", solved(3))
    with pytest.raises(LookupError, match="answers has no entry"):
        AnswerVerifier({"q": 3}, how="exact")("p", solved(3, answer=3))
    for bad, error in (
        (True, TypeError),
        (["3"], TypeError),
        (" ", ValueError),
        ("cat", ValueError),
        (None, LookupError),
    ):
        with pytest.raises(error):
            verifier("p", solved(3, answer=bad))
    with pytest.raises(ValueError, match="a letter from A to J"):
        AnswerVerifier(how="choice")("p", solved("B", answer=2))
    with pytest.raises(TypeError, match=r"pass solution\.problem and solution"):
        verifier(solved(3, answer=3), "p")
    assert not verifier.counts


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"how": "fuzzy"}, ValueError, "math, exact, numeric, choice"),
        ({"how": "numeric", "rel_tol": -1}, ValueError, "rel_tol"),
        ({"answers": ["3"], "how": "exact"}, TypeError, "mapping"),
        ({"answers": {"p q": "3", "P  q": "4"}, "how": "exact"}, ValueError, "twice"),
    ],
)
def test_settings_that_cannot_be(arguments, error, words):
    with pytest.raises(error, match=words):
        AnswerVerifier(**arguments)


def test_math_verify_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr("prmkit.data.answers.equivalence.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install math-verify"):
        AnswerVerifier()
    AnswerVerifier(how="numeric")


def test_the_answer_travels_with_the_generated_solutions():
    verifier = AnswerVerifier(how="numeric")
    adds = CallableGenerator(lambda problem, steps, n, seed: [(f"The answer is {i}.", "eos") for i in range(n)])
    found = best_of_n(adds, None, Solution("1 + 2?", (), meta={"answer": "3"}), n=5, choose="majority", random_state=0)
    assert sum(verifier(one.solution.problem, one.solution) for one in found.candidates) == 1


def coded(code, *before, fence="```python", after=("That is it.",)):
    return Solution("Write add(a, b).", [*before, f"{fence}\n{code}\n{fence[:3]}", *after])


ADD = "def add(a, b):\n    return a + b"


@pytest.mark.parametrize(
    ("code", "tests", "outcome"),
    [
        (ADD, "assert add(2, 3) == 5", "passed"),
        (ADD, ["assert add(2, 3) == 5", "assert add(1, 1) == 3"], "failed"),
        (ADD, "def test_all():\n    assert add(1, 1) == 3", "failed"),
        (
            ADD,
            "from unittest import TestCase\nclass T(TestCase):\n    def test_it(self):\n        self.fail()",
            "failed",
        ),
        (ADD, "class TestAdd:\n    def test_it(self):\n        assert add(1, 1) == 3", "failed"),
        ("def add(a, b)", "assert add(2, 3) == 5", "raised"),
        (f"{ADD}\nadd(input(), 1)", "assert add(2, 3) == 5", "raised"),
        # Neither an exit nor a word that looks like success is one.
        (f"{ADD}\nimport os\nprint('passed', flush=True)\nos._exit(0)", "assert add(1, 1) == 3", "died"),
        (f"{ADD}\nraise SystemExit(0)", "assert add(1, 1) == 3", "raised"),
        (f"{ADD}\nx = bytearray(3 * 2**30)", "assert add(2, 3) == 5", "raised"),
        (f"{ADD}\nwhile True:\n    print('x' * 10_000)", "assert add(2, 3) == 5", "too_much_output"),
    ],
)
def test_what_becomes_of_code(code, tests, outcome):
    verifier = UnitTestVerifier({"Write add(a, b).": tests}, seconds=60)
    found = verifier.run("Write add(a, b).", coded(code))
    assert (found.outcome, dict(verifier.counts)) == (outcome, {outcome: 1}), found.output
    assert len(found.output) <= 2_000


@pytest.mark.parametrize(
    "solution",
    [
        coded(f"{ADD}\n\n\n# Two lines above are blank."),
        coded(ADD, "```python\ndef add(a, b):\n    return 0\n```"),
        coded(ADD, after=("It prints", "```\n5\n```", "and:", "```text\nOK\n```")),
        coded(ADD, fence="~~~"),
        Solution("p", ["1. So:\n   ```py\n   def add(a, b):\n       return a + b\n   ```"]),
        Solution("p", ["Not closed:", f"```python\n{ADD}"]),
        Solution("p", ["```python\ndef add(a, b):", "    return a + b\n```"]),  # a blank line cut it into steps
    ],
)
def test_which_block_is_the_code(solution):
    namespace = {}
    exec(code_of(solution), namespace)
    assert namespace["add"](2, 3) == 5


def test_a_solution_without_code_is_wrong_and_starts_nothing(monkeypatch):
    monkeypatch.setattr("subprocess.Popen", None)
    verifier = UnitTestVerifier({"p": "assert f() == 1"})
    assert not verifier("p", Solution("p", ["I cannot.", "```bash\nls\n```"]))
    assert dict(verifier.counts) == {"no_code": 1}


def test_code_that_hangs_is_ended_with_what_it_started(tmp_path, monkeypatch):
    noted = tmp_path / "pid"
    wait = subprocess.Popen.wait

    def time_is_up(process, timeout=None):
        """End the time as soon as the code has done what it is here for."""
        if timeout is None:
            return wait(process)
        while not (noted.exists() and noted.read_text()):
            time.sleep(0.01)
        raise subprocess.TimeoutExpired(process.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", time_is_up)
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(noted)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)"
    )
    verifier = UnitTestVerifier({"Write add(a, b).": "assert True"})
    assert verifier.run("Write add(a, b).", coded(code)).outcome == "timed_out"
    pid = int(noted.read_text())
    state = Path(f"/proc/{pid}/stat")
    if os.name == "posix":
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"


def test_code_sees_no_secrets_and_leaves_no_files(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, sys\nseen = dict(os.environ)\nopen('mine.txt', 'w').write('x')\n"
        "home, here = os.path.expanduser('~'), os.getcwd()"
    )
    tests = "assert 'secret' not in seen.values() and os.path.samefile(home, here)\nassert '' not in sys.path"
    verifier = pickle.loads(pickle.dumps(UnitTestVerifier({"Write add(a, b).": tests}, seconds=60)))
    found = verifier.run("Write add(a, b).", coded(code))
    assert found.outcome == "passed", found.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error::ResourceWarning", "error::pytest.PytestUnraisableExceptionWarning")
def test_a_run_leaves_no_open_file():
    verifier = UnitTestVerifier({"Write add(a, b).": "assert True"}, seconds=60)
    assert verifier("Write add(a, b).", coded("print('here')"))
    gc.collect()


@pytest.mark.parametrize(
    ("tests", "error", "words"),
    [
        ("", ValueError, "call nothing"),
        ("def check(f):\n    assert f(1, 1) == 2", ValueError, "call nothing"),
        ("def check():\n    assert 0\nif __name__ == '__main__':\n    check()", ValueError, "call nothing"),
        ("assert add(", ValueError, "no Python code"),
        ("def test_it(tmp_path):\n    assert 0", ValueError, "without arguments"),
        (7, TypeError, "expected a str"),
        (None, LookupError, "tests"),
    ],
)
def test_tests_that_tell_nothing_are_errors(tests, error, words):
    verifier = UnitTestVerifier()
    with pytest.raises(error, match=words):
        verifier("p", Solution("p", coded(ADD).steps, meta={"tests": tests}))
    assert not verifier.counts


def test_a_limited_verifier_ends_what_hangs_and_counts_what_fails():
    def odd(problem, solution):
        if problem == "hang":
            while True:
                pass
        if problem == "raise":
            raise ValueError("no idea")
        if problem == "leave":
            os._exit(3)
        return None if problem == "none" else solution.steps == ("a",)

    verifier = LimitedVerifier(odd, seconds=60)
    right = Solution("p", ["a"])
    assert verifier("p", right)
    assert not verifier("p", Solution("p", ["b"]))
    for problem, words in (("raise", "ValueError: no idea"), ("none", "returned None"), ("leave", "ended its process")):
        with pytest.raises(RuntimeError, match=words):
            verifier(problem, right)
    verifier._process.seconds = 0.1
    with pytest.raises(TimeoutError, match="odd did not return"):
        verifier("hang", right)
    assert verifier._process.pid is None
    verifier._process.seconds = 60
    assert verifier("p", right)
    verifier.close()
    assert dict(verifier.counts) == {"right": 2, "wrong": 1, "raised": 2, "died": 1, "timed_out": 1}


def test_what_cannot_be_sent_to_a_process_is_said_at_once():
    lock = threading.Lock()
    with pytest.raises(TypeError, match="cannot be sent"):
        LimitedVerifier(lambda problem, solution: bool(lock))
    with pytest.raises(TypeError, match="expected a callable"):
        LimitedVerifier("exact")
    with pytest.raises(ValueError, match="seconds"):
        LimitedVerifier(max, seconds=0)


GUESS = Solution("2 + 3 * 4?", ["5 * 4 = 20.", "20 - 6 = 14.", "The answer is 14."])


@pytest.mark.parametrize(
    "follows",
    [
        [False, True, True],
        "-++",
        np.array([-1, 0, 1]) >= 0,
        lambda step: not (step.index == 0 and not step.prefix and step.problem.startswith("2 + 3")),
    ],
)
def test_a_lucky_guess_is_complete_and_correct_but_not_valid(follows):
    assert non_sequiturs(GUESS, follows) == [0]
    assert not is_valid_process(GUESS, follows)
    assert is_complete_process(GUESS)
    assert is_correct_process(GUESS, AnswerVerifier({GUESS.problem: 14}, how="numeric"))


def test_an_unfinished_process_may_be_valid():
    start = Solution(GUESS.problem, ["3 * 4 = 12."])
    assert is_valid_process(start, [True])
    assert non_sequiturs(start, [True]) == []
    assert not is_complete_process(start)
    assert is_complete_process(Solution("p", ["Hence both are even. QED"]))
    assert not is_complete_process(Solution("p", ["Hence both are even. QED"]), stop_words=())
    assert is_valid_process(Solution("p", []), [])


def test_a_verifier_of_steps_is_asked_up_to_the_first_non_sequitur():
    asked = []

    def follows(step):
        asked.append(step.index)
        return step.index != 1

    assert not is_valid_process(GUESS, follows)
    assert asked == [0, 1]


@pytest.mark.parametrize(
    ("follows", "error", "words"),
    [
        ([1, 0, 1], TypeError, "ratings >= 0"),
        ([True, None, True], TypeError, "step 1 is None"),
        (["good", "bad", "good"], TypeError, "'good'"),
        ([True], ValueError, "one per step: 3"),
        (lambda step: 0.7, TypeError, "returned 0.7"),
    ],
)
def test_no_polarity_is_guessed(follows, error, words):
    for ask in (non_sequiturs, is_valid_process):
        with pytest.raises(error, match=words):
            ask(GUESS, follows)


def test_a_correct_process_needs_a_reference():
    with pytest.raises(LookupError):
        is_correct_process(GUESS, AnswerVerifier(how="exact"))
    with pytest.raises(TypeError, match="list of strings"):
        is_complete_process(GUESS, stop_words="QED")
