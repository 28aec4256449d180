"""Verifiers: final answers, unit tests, limits of time, and the words for a process."""

import pickle

import pytest

from prmkit import Solution
from prmkit.decoding import AnswerVerifier, CallableGenerator, best_of_n


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
        ("numeric", "2x", 2, False),
        ("numeric", "1e999999999", 1, False),
        ("numeric", "3/0", 3, False),
        ("numeric", "-4", 4, False),
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


@pytest.mark.parametrize("last", ["B", "(B)", "**B**", "So the correct option is B.", r"$\boxed{\text{B}}$"])
def test_a_choice_without_the_sentence(last):
    assert AnswerVerifier({"p": "B"}, how="choice")("p", Solution("p", ["Both others are wrong.", last]))


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
    with pytest.raises(TypeError, match=r"verifier\(solution.problem, solution\)"):
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
