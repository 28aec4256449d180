"""Best-of-N: samples, scores, votes, budgets and what goes wrong."""

import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch

from prmkit import PRMClassifier, Solution
from prmkit.decoding import (
    AttributeRewardModel,
    CallableGenerator,
    Generation,
    LoggedGenerator,
    beam_search,
    best_of_n,
    label_by_rollouts,
)


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


def test_a_generator_that_makes_too_many_tokens_is_told_of(recwarn):
    class Talkative:
        def generate(self, requests, *, n, stop, max_tokens, temperature, seed):
            return [[Generation("The answer is 3.", "eos", n_tokens=40)] * n for _ in requests]

    with pytest.warns(UserWarning, match=r"Talkative\.generate gave a continuation of more tokens than max_tokens"):
        found = best_of_n(Talkative(), is_three, "1 + 2?", n=2, max_tokens=39)
    assert found.cost.generated_tokens == 80
    recwarn.clear()
    best_of_n(Talkative(), is_three, "1 + 2?", n=2, max_tokens=40)
    assert not recwarn


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


def test_further_requests_do_not_change_the_draws_of_the_first_ones():
    generator = CallableGenerator(lambda problem, steps, n, seed: [(f"{seed}.", "eos")] * n)
    texts = [[row[0].text for row in generator.generate(["1 + 2?"] * k, seed=3)] for k in (1, 2, 5)]
    assert texts[:2] == [texts[2][:1], texts[2][:2]]
    assert len(set(texts[2])) == 5


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


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"stop": "\n"}, "stop is one text"),
        ({"stop": ["\n", ""]}, "texts that are not empty"),
        ({"stop": [b"\n"]}, "texts that are not empty"),
        ({"stop": None}, "stop is None"),
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"seed": "7"}, "seed is '7'"),
        ({"seed": [0.5]}, "seed is"),
        ({"seed": True}, "seed is True"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda one, path: one, LoggedGenerator], ids=["bare", "logged"])
def test_settings_that_no_generator_can_meet_are_named(wrap, settings, told, tmp_path):
    generator = wrap(CallableGenerator(guesses), tmp_path / "log.jsonl")
    with pytest.raises((TypeError, ValueError), match=told):
        generator.generate(["1 + 2?"], **({"seed": 0} | settings))


@pytest.mark.parametrize("one", ["1 + 2?", Solution("1 + 2?", ())])
def test_a_request_outside_of_a_list_is_not_cut_into_characters(one):
    with pytest.raises(TypeError, match=r"expected a list of requests: \[request\]"):
        CallableGenerator(guesses).generate(one)


@pytest.mark.parametrize("n_tokens", [-1, 2.5, None, True])
def test_a_generation_has_a_number_of_tokens(n_tokens):
    with pytest.raises(ValueError, match="n_tokens is"):
        Generation("So 3.", "eos", n_tokens=n_tokens)


def test_costs_are_plain_numbers():
    cost = best_of_n(CallableGenerator(guesses), is_three, "1 + 2?", n=2, max_tokens=np.int64(2)).cost
    assert json.loads(json.dumps(asdict(cost)))["generated_tokens"] == 4


@pytest.mark.parametrize(
    ("generator", "told"),
    [(guesses, "goes into CallableGenerator"), (CallableGenerator, r"CallableGenerator\(…\)"), (None, "NoneType")],
)
def test_what_is_no_generator_is_named(generator, told):
    with pytest.raises(TypeError, match=f"generator is .*{told}"):
        best_of_n(generator, is_three, "1 + 2?", n=2)


MAKES = {
    "bfloat16": lambda row: torch.tensor(row, dtype=torch.bfloat16),
    "grad": lambda row: torch.tensor(row, requires_grad=True),
    "tuple": tuple,
    "array": np.array,
}


@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
def test_a_scorer_may_give_tensors_of_any_kind(make):
    def made(solutions):
        return [make(row) for row in is_three(solutions)]

    plain, other = (
        best_of_n(CallableGenerator(guesses), scorer, "1 + 2?", n=4, random_state=0).scores.tolist()
        for scorer in (is_three, made)
    )
    assert other == plain
    assert len(set(plain)) == 2


@pytest.mark.parametrize("row", [["good"], [1j], {0: 1.0}, iter([0.5])])
def test_rewards_that_are_no_numbers_are_shown(row):
    with pytest.raises(TypeError, match=r"the scorer .* gave .* expected a list or an array of numbers"):
        best_of_n(CallableGenerator(guesses), lambda solutions: [row] * len(solutions), "1 + 2?", n=2)


@pytest.mark.parametrize("reward", [float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "search", [partial(best_of_n, n=2), partial(beam_search, beam_width=1, beam_factor=2)], ids=["best of n", "beams"]
)
def test_infinite_rewards_are_refused(search, reward):
    told = f"gave {reward} for step 0 of solution 0, '.*', expected finite rewards, or NaN"
    with pytest.raises(ValueError, match=told):
        search(CallableGenerator(guesses), lambda solutions: [[reward] * one.n_steps for one in solutions], "1 + 2?")


@pytest.mark.parametrize("scorer", [PRMClassifier(), PRMClassifier, AttributeRewardModel])
def test_a_scorer_that_is_not_ready_is_refused_before_anything_is_generated(scorer):
    asked = []
    generator = CallableGenerator(lambda *request: asked.append(request) or guesses(*request))
    told = "not fitted|is a class|the class AttributeRewardModel"
    with pytest.raises((TypeError, ValueError), match=told):
        best_of_n(generator, scorer, "1 + 2?", n=2)
    with pytest.raises((TypeError, ValueError), match=told):
        best_of_n(generator, is_three, "1 + 2?", n=2, final_scorer=scorer)
    with pytest.raises((TypeError, ValueError), match=told):
        label_by_rollouts(generator, lambda problem, solution: True, ["1 + 2?"], judge=scorer)
    assert not asked
