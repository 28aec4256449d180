"""Best-of-N: samples, scores, votes, budgets and what goes wrong."""

import numpy as np
import pytest

from prmkit import Solution
from prmkit.decoding import CallableGenerator, best_of_n


def guesses(problem, steps, n, seed):
    """Add two numbers in two steps. The answer is right one time in four."""
    rng = np.random.default_rng(seed)
    if not steps:
        return [("Let us add.", "stop")] * n
    return [(f"The answer is {rng.integers(4)}.", "eos") for _ in range(n)]


def is_three(solutions):
    return [[float("answer" not in step or "3" in step) for step in one.steps] for one in solutions]


def test_a_perfect_scorer_finds_the_right_solution_if_there_is_one():
    found = [best_of_n(CallableGenerator(guesses), is_three, "1 + 2?", n=4, random_state=i) for i in range(40)]
    right = ["3" in one.solution.steps[-1] for one in found]
    any_right = [any("3" in candidate.solution.steps[-1] for candidate in one.candidates) for one in found]
    assert right == any_right
    assert 0 < sum(right) < 40
    assert all(len(one.candidates) == 4 and one.stopped == "eos" for one in found)


def test_the_seed_gives_the_same_result_again():
    one, again = (best_of_n(CallableGenerator(guesses), is_three, "1 + 2?", n=3, random_state=7) for _ in range(2))
    assert [a.solution for a in one.candidates] == [b.solution for b in again.candidates]
    assert one.cost == again.cost


def test_adaptive_voting_stops_asking_and_has_the_winner_of_all():
    asked = []

    def mostly_three(problem, steps, n, seed):
        asked.append(n)
        return [("The answer is 3.", "eos")] * n

    found = best_of_n(CallableGenerator(mostly_three), None, "1 + 2?", n=9, choose="majority", adaptive=True)
    assert sum(asked) == len(found.candidates) == 5
    assert found.solution.steps == ("The answer is 3.",)


def test_adaptive_voting_asks_for_no_more_than_n_if_requests_fail():
    asked = []

    def fails_at_first(problem, steps, n, seed):
        asked.append(n)
        return [("", "error") if len(asked) == 1 else ("The answer is 3.", "eos")] * n

    found = best_of_n(CallableGenerator(fails_at_first), None, "1 + 2?", n=9, choose="majority", adaptive=True)
    assert sum(asked) == len(found.candidates) <= 9
    assert found.cost.n_errors == asked[0] > 0
    assert found.solution.steps == ("The answer is 3.",)


@pytest.mark.parametrize(
    ("pair", "known"),
    [
        (("First.\n\nSecond.", "eos"), ("First.", "stop", "\n\n")),
        (("First.\nSecond.", "stop"), ("First.", "stop", "\n")),
        (("It is lost.\n\nHere", "error"), ("It is lost.\n\nHere", "error", None)),
    ],
)
def test_a_text_of_a_function_ends_at_the_first_and_longest_stop_string_unless_it_failed(pair, known):
    generator = CallableGenerator(lambda problem, steps, n, seed: [pair] * n)
    [[one]] = generator.generate(["1 + 2?"], stop=["\n", "\n\n"])
    assert (one.text, one.finish, one.stop) == known


def test_a_failed_request_costs_one_candidate():
    def sometimes(problem, steps, n, seed):
        return [("", "error"), *[("The answer is 3.", "eos")] * (n - 1)]

    found = best_of_n(CallableGenerator(sometimes), is_three, "1 + 2?", n=3)
    assert [one.stopped for one in found.candidates] == ["error", "eos", "eos"]
    assert found.cost.n_errors == 1
    assert found.stopped == "eos"


def test_if_everything_fails_the_error_says_why():
    def broken(problem, steps, n, seed):
        raise OSError("no route to the server")

    with pytest.raises(RuntimeError, match="no route to the server"):
        best_of_n(CallableGenerator(broken), is_three, "1 + 2?", n=3)


def test_the_budget_is_never_exceeded():
    def long_text(problem, steps, n, seed):
        return [(" ".join(["word"] * 50), "stop")] * n

    found = best_of_n(CallableGenerator(long_text), is_three, "1 + 2?", n=4, budget=90)
    assert found.cost.generated_tokens <= 90
    assert found.stopped == "length"


@pytest.mark.parametrize(
    ("fn", "told"),
    [
        (lambda p, s, n, seed: None, "NoneType"),
        (lambda p, s, n, seed: [("a", "eos")], "1 pairs"),
        (lambda p, s, n, seed: ["a"] * n, "pair of a text"),
        (lambda p, s, n, seed: [("a", "done")] * n, "eos"),
    ],
)
def test_a_function_that_breaks_the_protocol_is_named(fn, told):
    with pytest.raises((TypeError, ValueError), match=told):
        best_of_n(CallableGenerator(fn), is_three, "1 + 2?", n=2)


@pytest.mark.parametrize("scores", [lambda s: [[0.5]] * len(s), lambda s: [], lambda s: None])
def test_a_scorer_of_another_length_is_refused(scores):
    with pytest.raises(ValueError, match="scorer"):
        best_of_n(CallableGenerator(guesses), scores, "1 + 2?", n=2)


@pytest.mark.parametrize("n", [0, -1, 1.5, True])
def test_n_is_a_number_of_solutions(n):
    with pytest.raises(ValueError, match="n is"):
        best_of_n(CallableGenerator(guesses), is_three, "1 + 2?", n=n)


def test_a_solution_can_be_continued():
    found = best_of_n(CallableGenerator(guesses), is_three, Solution("1 + 2?", ["Let us begin."]), n=2, random_state=0)
    assert found.solution.steps[0] == "Let us begin."
    assert len(found.solution.steps) == 2


def test_a_search_that_broke_off_frees_its_log(tmp_path):
    def broken(solutions):
        raise ArithmeticError("no memory left")

    settings = {"n": 3, "random_state": 0, "log": tmp_path / "log.jsonl"}
    with pytest.raises(ArithmeticError) as kept:  # what is raised keeps the search alive
        best_of_n(CallableGenerator(guesses), broken, "1 + 2?", **settings)
    assert len(best_of_n(CallableGenerator(guesses), is_three, "1 + 2?", **settings).candidates) == 3
    assert kept.value.args == ("no memory left",)
