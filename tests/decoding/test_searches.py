"""Searches over steps, on a policy whose error rate is known."""

import gc
import weakref
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import binom

from prmkit import Solution
from prmkit.decoding import (
    CallableGenerator,
    SearchDisplay,
    beam_search,
    best_of_n,
    diverse_beam_search,
    lookahead_search,
    particle_filter,
    rollout_search,
    step_expander,
)
from prmkit.scoring.tables import ScoresSolutions

BEAMS = {
    "beam": partial(beam_search, beam_width=3, beam_factor=2),
    "diverse": partial(diverse_beam_search, beam_width=4, beam_factor=2, n_trees=2),
    "lookahead": partial(lookahead_search, beam_width=3, beam_factor=2, lookahead=2),
    "rollout": partial(rollout_search, beam_width=2, beam_factor=2, n_rollouts=2),
}
SEARCHES = {**BEAMS, "particles": partial(particle_filter, n_particles=6)}
every_search = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)
every_beam = pytest.mark.parametrize("search", BEAMS.values(), ids=BEAMS)
# What goes wrong in parts that all share is tried with one search of each kind.
each_kind = pytest.mark.parametrize("search", [SEARCHES[kind] for kind in ("beam", "rollout", "particles")])
ERROR_RATE = 0.3
N_STEPS = 4
N_SEEDS = 25


def write(problem, steps, n, seed, *, error_rate=ERROR_RATE, n_steps=N_STEPS, end=0.0):
    """Write a step that says whether it is right, which of its siblings it is, and a number of its own."""
    rng = np.random.default_rng(seed)
    wrong, ends = rng.random(n) < error_rate, rng.random(n) < end
    marks = rng.integers(10**6, size=n)
    return [
        (f"{'wrong' if w else 'right'} #{k} {mark}", "eos" if len(steps) >= n_steps - 1 or e else "stop")
        for k, (w, e, mark) in enumerate(zip(wrong, ends, marks, strict=True))
    ]


def perfect(solutions):
    """Score a step 0 from the first wrong one on."""
    return [np.cumprod([step.startswith("right") for step in one.steps]).astype(float) for one in solutions]


def constant(solutions):
    return [np.full(one.n_steps, 0.5) for one in solutions]


def is_right(solution):
    return all(step.startswith("right") for step in solution.steps)


def policy(**settings):
    return CallableGenerator(partial(write, **settings))


class Watched:
    """A generator that keeps what it was asked and what it gave."""

    step_separator = "\n\n"

    def __init__(self, inner):
        self.inner, self.asked, self.given = inner, [], []

    def generate(self, requests, *, n=1, **settings):
        rows = self.inner.generate(requests, n=n, **settings)
        self.asked.append([(request, n, settings["temperature"]) for request in requests])
        self.given += [one for row in rows for one in row]
        return rows


@every_search
def test_a_perfect_scorer_finds_a_right_solution_if_the_search_has_met_one(search):
    found = [search(policy(), perfect, "Q", random_state=i) for i in range(N_SEEDS)]
    chosen = [is_right(one.solution) for one in found]
    assert chosen == [any(c.is_complete and is_right(c.solution) for c in one.candidates) for one in found]
    assert all(one.stopped == "eos" and one.solution.n_steps == N_STEPS for one in found)
    # A beam of one candidate with two continuations is the least that each of these searches has.
    assert sum(chosen) >= binom.ppf(1e-5, N_SEEDS, (1 - ERROR_RATE**2) ** N_STEPS)
    # Without the scorer it would be the rate of the policy.
    assert sum(chosen) > binom.ppf(1 - 1e-5, N_SEEDS, (1 - ERROR_RATE) ** N_STEPS)


@every_search
def test_a_constant_scorer_chooses_a_draw_of_the_generator(search):
    """The first continuation of the first candidate, whatever the lengths of the solutions are."""
    found = [search(policy(end=0.3), constant, "Q", random_state=i) for i in range(N_SEEDS)]
    assert all("#0" in step for one in found for step in one.solution.steps)
    lengths = np.bincount([one.solution.n_steps for one in found], minlength=N_STEPS + 1)
    assert binom.ppf(1e-5, N_SEEDS, 0.3) <= lengths[1] <= binom.ppf(1 - 1e-5, N_SEEDS, 0.3)
    steps = [step.startswith("right") for one in found for step in one.solution.steps]
    assert binom.ppf(1e-5, len(steps), 0.7) <= sum(steps) <= binom.ppf(1 - 1e-5, len(steps), 0.7)


@every_search
def test_candidates_make_a_tree(search):
    found = search(policy(), perfect, "Q", random_state=0)
    for number, one in enumerate(found.candidates):
        if one.parent is None:
            continue
        parent = found.candidates[one.parent]
        assert one.parent < number
        assert parent.stopped in ("expanded", "pruned")
        assert one.solution.steps[: parent.solution.n_steps] == parent.solution.steps
    reasons = {one.stopped for one in found.candidates}
    assert reasons <= {"eos", "expanded", "pruned"}
    frame = found.to_frame()
    assert frame["chosen"].sum() == 1
    assert frame["parent"].isna().sum() >= 2


@every_search
def test_the_seed_gives_the_same_result_again(search):
    one, again, other = (search(policy(), perfect, "Q", random_state=seed) for seed in (3, 3, 4))
    assert [c.solution for c in one.candidates] == [c.solution for c in again.candidates]
    assert one.chosen == again.chosen
    assert one.cost == again.cost
    assert [c.solution for c in one.candidates] != [c.solution for c in other.candidates]


@every_search
@pytest.mark.parametrize("budget", [8, 30, 61, 10**6])
def test_the_budget_is_kept_and_counted(search, budget):
    generator = Watched(policy(error_rate=0.5))
    cost = search(generator, perfect, "Q", budget=budget, random_state=0).cost
    assert cost.generated_tokens == sum(one.n_tokens for one in generator.given) <= budget
    assert cost.n_requests == len(generator.given)


@every_search
def test_a_budget_that_allows_nothing_is_named(search):
    with pytest.raises(RuntimeError, match="budget does not allow"):
        search(policy(), perfect, "Q", budget=3)


@every_search
def test_a_search_can_be_watched(search):
    rounds = list(search.func.iterate(policy(), perfect, "Q", random_state=1, **search.keywords))
    result = search(policy(), perfect, "Q", random_state=1)
    assert [progress.round for progress in rounds] == list(range(1, len(rounds) + 1))
    assert [progress.result is None for progress in rounds] == [True] * (len(rounds) - 1) + [False]
    assert rounds[-1].result.solution == result.solution
    tokens = [progress.cost.generated_tokens for progress in rounds]
    assert tokens == sorted(tokens)
    assert tokens[-1] == result.cost.generated_tokens
    assert all(one.stopped is None for progress in rounds for one in progress.live)


@every_search
def test_a_search_that_was_cut_off_goes_on_from_its_log(search, tmp_path):
    settings = {"log": tmp_path / "log.jsonl", "random_state": 1}
    rounds = search.func.iterate(Watched(policy()), perfect, "Q", **settings, **search.keywords)
    next(rounds)
    done = next(rounds).cost.n_requests
    rounds.close()
    del rounds
    generator = Watched(policy())
    found = search(generator, perfect, "Q", **settings)
    undisturbed = search(policy(), perfect, "Q", random_state=1)
    assert [one.solution for one in found.candidates] == [one.solution for one in undisturbed.candidates]
    assert found.cost == undisturbed.cost
    assert len(generator.given) == found.cost.n_requests - done
    with pytest.raises(ValueError, match="random_state"):
        search(policy(), perfect, "Q", log=tmp_path / "other.jsonl")


@every_search
def test_a_failed_request_costs_one_candidate(search):
    def shaky(problem, steps, n, seed):
        if seed % 5 == 0 and steps:
            raise OSError("connection reset")
        return [("", "error") if k == 1 and not steps else one for k, one in enumerate(write(problem, steps, n, seed))]

    found = [search(CallableGenerator(shaky), perfect, "Q", random_state=i) for i in range(10)]
    failed = [sum(c.stopped == "error" for c in one.candidates) for one in found if one.solution.n_steps == N_STEPS]
    assert len(failed) >= 7
    assert all(n >= 1 for n in failed)
    assert all(one.cost.n_errors >= 1 for one in found)


@every_search
def test_if_everything_fails_the_error_says_why(search):
    def broken(problem, steps, n, seed):
        raise OSError("no route to the server")

    with pytest.raises(RuntimeError, match="no route to the server"):
        search(CallableGenerator(broken), perfect, "Q")


@every_search
@pytest.mark.parametrize("n_good", [0, 1])
def test_empty_steps_do_not_go_on_for_ever(search, n_good):
    """The score of a solution that does not grow does not fall either, so it would win each round."""

    def silent(problem, steps, n, seed):
        return [("right", "stop") if k < n_good and not steps else (" \n", "stop") for k in range(n)]

    generator = Watched(CallableGenerator(silent))
    if n_good:
        found = search(generator, perfect, "Q", random_state=0)
        assert found.solution.steps == ("right",)
        assert any(one.stopped == "empty" for one in found.candidates)
    else:
        with pytest.raises(RuntimeError, match="no text"):
            search(generator, perfect, "Q")
    assert len(generator.asked) <= 5


@every_search
def test_a_step_without_a_score_never_beats_one_with_a_score(search):
    def unread(solutions):
        return [[np.nan if step.startswith("wrong") else 0.01 for step in one.steps] for one in solutions]

    found = [search(policy(error_rate=0.5), unread, "Q", random_state=i) for i in range(10)]
    for one in found:
        scored = [c for c in one.candidates if c.is_complete and not np.isnan(c.score)]
        assert np.isnan(one.scores[one.chosen]) == (not scored)
    assert sum(is_right(one.solution) for one in found) >= 5


@every_search
def test_the_final_scorer_chooses_among_what_is_left(search):
    def last_number(solutions):
        return [[float(step.split()[-1]) for step in one.steps] for one in solutions]

    found = search(policy(), perfect, "Q", final_scorer=last_number, final_rule="last", random_state=0)
    numbers = [float(c.solution.steps[-1].split()[-1]) for c in found.candidates if c.is_complete]
    assert found.scores[found.chosen] == max(numbers)
    by_rule = search(policy(), perfect, "Q", final_rule="mean", random_state=0)
    assert by_rule.scores[by_rule.chosen] == by_rule.candidates[by_rule.chosen].rewards.mean()


@every_search
def test_a_stop_condition_ends_solutions_and_max_steps_the_search(search):
    found = search(policy(), perfect, "Q", stop_condition=lambda one: one.n_steps == 2, random_state=0)
    assert found.stopped == "condition"
    assert found.solution.n_steps == 2
    cut = search(policy(n_steps=50), perfect, "Q", max_steps=3, random_state=0)
    assert cut.stopped == "max_steps"
    assert cut.solution.n_steps == 3


@every_search
def test_a_solution_can_be_continued(search):
    found = search(policy(), perfect, Solution("Q", ["right start"]), random_state=0)
    assert found.solution.steps[0] == "right start"
    assert found.solution.n_steps == N_STEPS


@every_search
def test_the_tokens_of_a_step_are_limited(search):
    found = search(policy(), perfect, "Q", max_tokens=2, random_state=0)
    assert found.stopped == "length"
    assert found.solution.n_steps == 1


@each_kind
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"max_steps": 0}, "max_steps is 0"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"budget": 0}, "budget is 0"),
        ({"budget": 1e3}, "budget is 1000.0"),
        ({"budget": 12.5}, "budget is 12.5"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"stop": [""]}, "texts that are not empty"),
        ({"stop_condition": "answer"}, "stop_condition is 'answer'"),
        ({"rule": "median"}, "rule is 'median'"),
        ({"final_rule": "median"}, "rule is 'median'"),
        ({"stop": "\n"}, "stop is one text"),
        ({"random_state": "seed"}, "random_state is str"),
    ],
)
def test_settings_out_of_range_are_named(search, settings, told):
    with pytest.raises((TypeError, ValueError), match=told):
        search(policy(), perfect, "Q", **settings)


@each_kind
@pytest.mark.parametrize("scores", [lambda s: [[0.5] * 9] * len(s), lambda s: [], lambda s: None, 3, None])
def test_a_scorer_that_breaks_the_protocol_is_named(search, scores):
    with pytest.raises((TypeError, ValueError), match="scorer"):
        search(policy(), scores, "Q")


@each_kind
@pytest.mark.parametrize("rows", [None, [], [[None] * 6], [["right"] * 6]])
def test_a_generator_that_breaks_the_protocol_is_named(search, rows):
    generator = SimpleNamespace(generate=lambda requests, **settings: rows)
    with pytest.raises((TypeError, ValueError), match=r"SimpleNamespace\.generate gave"):
        search(generator, perfect, "Q")


@every_beam
@pytest.mark.parametrize(("name", "value"), [("beam_width", 0), ("beam_factor", 1.5), ("n_complete", True)])
def test_a_width_is_a_whole_number(search, name, value):
    with pytest.raises(ValueError, match=f"{name} is"):
        search.func(policy(), perfect, "Q", **{**search.keywords, name: value})


@pytest.mark.parametrize(
    "decode",
    [
        partial(beam_search, beam_width=5, beam_factor=3, n_complete=1, rule="last", final_rule="mean"),
        partial(best_of_n, n=5, rule="mean"),
        partial(rollout_search, beam_width=5, beam_factor=3, n_complete=1, value="max", final_rule="mean"),
    ],
    ids=["tree_decode", "best_of_n_decode", "rollout_tree_decode"],
)
def test_the_decode_functions_of_sdiehl_prm_can_be_said(decode):
    """Steps are lines, and a solution is complete as soon as it has a stop word. The model never ends by itself."""

    def lines(problem, steps, n, seed):
        rows = write(problem, steps, n, seed, n_steps=99)
        return [(f"{text} QED\nright more" if len(steps) == 2 else f"{text}\nmore", "eos") for text, _ in rows]

    found = decode(
        CallableGenerator(lines, step_separator="\n"),
        perfect,
        "Q",
        stop=["\n"],
        stop_condition=lambda one: any(word in step for step in one.steps for word in ("QED", "\\boxed")),
        random_state=42,
    )
    assert found.stopped == "condition"
    assert found.solution.n_steps == 3
    assert found.solution.steps[-1].endswith("QED")
    assert found.scores[found.chosen] == found.candidates[found.chosen].rewards.mean()
    assert found.candidates[found.chosen].rewards.mean() == max(
        one.rewards.mean() for one in found.candidates if one.is_complete
    )


def test_numbers_of_one_search_alone_are_checked():
    with pytest.raises(ValueError, match="divisor of beam_width"):
        diverse_beam_search(policy(), perfect, "Q", beam_width=4, beam_factor=2, n_trees=3)
    with pytest.raises(ValueError, match="lookahead is 0"):
        lookahead_search(policy(), perfect, "Q", beam_width=4, beam_factor=2, lookahead=0)
    with pytest.raises(ValueError, match="value is 'median'"):
        rollout_search(policy(), perfect, "Q", beam_width=4, beam_factor=2, value="median")


def test_a_round_asks_for_no_more_than_width_times_factor_and_never_for_what_is_finished():
    generator = Watched(policy(end=0.3, n_steps=9))
    found = beam_search(generator, perfect, "Q", beam_width=3, beam_factor=4, random_state=2)
    asked = [sum(n for _, n, _ in row) for row in generator.asked]
    assert asked[0] == 12
    assert max(asked) <= 12
    assert asked[-1] < 12  # complete solutions have places by then
    finished = {one.solution.steps for one in found.candidates if one.stopped == "eos"}
    assert not finished & {request.steps for row in generator.asked for request, _, _ in row}


def test_the_search_ends_with_the_number_of_complete_solutions_that_is_wanted():
    found = beam_search(policy(end=0.2, n_steps=9), perfect, "Q", beam_width=3, beam_factor=4, random_state=2)
    first = beam_search(
        policy(end=0.2, n_steps=9), perfect, "Q", beam_width=3, beam_factor=4, n_complete=1, random_state=2
    )
    assert first.cost.generated_tokens < found.cost.generated_tokens
    assert first.stopped == "eos"


def test_equal_children_are_one_candidate_that_is_scored_once():
    seen = []

    def two_texts(problem, steps, n, seed):
        return [(f"right {k % 2}", "eos" if len(steps) == 2 else "stop") for k in range(n)]

    def counting(solutions):
        seen.extend(one.steps for one in solutions)
        return perfect(solutions)

    settings = {"beam_width": 8, "beam_factor": 4, "filter_duplicates": True}
    found = beam_search(CallableGenerator(two_texts), counting, "Q", **settings)
    assert len(set(seen)) == len(seen) == len(found.candidates) == 2 + 4 + 8
    assert sum(one.n_copies for one in found.candidates) == found.cost.n_requests == 32 + 2 * 4 + 4 * 4
    beams = [progress.live for progress in beam_search.iterate(CallableGenerator(two_texts), perfect, "Q", **settings)]
    assert [len(beam) for beam in beams] == [2, 4, 0]


def test_a_step_that_was_drawn_often_is_continued_often_unless_duplicates_are_filtered():
    def mostly_one(problem, steps, n, seed):
        first = [("right good", "stop")] * 6 + [("right poor", "stop")] * 2
        return [(f"right {seed} {k}", "eos") for k in range(n)] if steps else first

    def likes_good(solutions):
        return [[0.9 if one.steps[0] == "right good" else 0.5] * one.n_steps for one in solutions]

    for filter_duplicates, asked in ((False, [4, 0]), (True, [1, 1])):
        generator = Watched(CallableGenerator(mostly_one))
        beam_search(generator, likes_good, "Q", beam_width=4, beam_factor=2, filter_duplicates=filter_duplicates)
        steps = [request.steps[0] for request, *_ in generator.asked[1]]
        assert [steps.count("right good"), steps.count("right poor")] == asked


def test_subtrees_do_not_compete():
    """The first steps of half of the trees are worse than all others, and go on."""

    def numbered(solutions):
        return [[1 - int(one.steps[0].split("#")[1].split()[0]) / 100] * one.n_steps for one in solutions]

    settings = {"beam_width": 4, "beam_factor": 2, "random_state": 0}
    one_tree = beam_search(policy(), numbered, "Q", **settings)
    four = diverse_beam_search(policy(), numbered, "Q", **settings)
    two = diverse_beam_search(policy(), numbered, "Q", n_trees=2, **settings)

    def first_steps(found):
        return {int(c.solution.steps[0].split("#")[1].split()[0]) for c in found.candidates if c.is_complete}

    assert first_steps(one_tree) == {0}
    assert first_steps(two) == {0, 4}
    assert first_steps(four) == {0, 2, 4, 6}
    assert diverse_beam_search(policy(), numbered, "Q", n_trees=1, **settings).solution == one_tree.solution


def trap(problem, steps, n, seed):
    """Take the way whose first step looks better. It ends in a step that is wrong, the other one does not."""
    if not steps:
        return [(f"{'shiny' if (seed + k) % 2 else 'plain'}", "stop") for k in range(n)]
    return [("right" if steps[0] == "plain" else "wrong", "eos" if len(steps) == 2 else "stop")] * n


def likes_shiny(solutions):
    worth = {"shiny": 0.9, "plain": 0.6, "right": 0.8, "wrong": 0.1}
    return [[worth[step] for step in one.steps] for one in solutions]


@pytest.mark.parametrize(
    ("search", "first"),
    [
        (beam_search, "shiny"),
        (partial(lookahead_search, lookahead=1), "plain"),
        (partial(lookahead_search, lookahead=9), "plain"),
        (rollout_search, "plain"),
        (partial(rollout_search, value="max"), "plain"),
    ],
)
def test_who_looks_ahead_does_not_fall_into_the_trap(search, first):
    generator = Watched(CallableGenerator(trap))
    found = search(generator, likes_shiny, "Q", beam_width=1, beam_factor=4, max_steps=3, random_state=0)
    assert found.solution.steps[0] == first
    one = next(c for c in found.candidates if c.solution.steps == ("plain",))
    assert one.rewards.tolist() == [0.6]
    assert one.stopped == ("pruned" if first == "shiny" else "expanded")
    greedy = isinstance(search, partial) and search.func is lookahead_search
    assert any(temperature == 0 for row in generator.asked for *_, temperature in row) == greedy


def test_rollouts_that_end_are_candidates_and_those_that_do_not_are_no_evidence():
    found = rollout_search(policy(), perfect, "Q", beam_width=2, beam_factor=2, n_rollouts=3, random_state=0)
    assert sum(one.is_complete for one in found.candidates) > 4
    short = rollout_search(
        policy(n_steps=9), perfect, "Q", beam_width=2, beam_factor=2, max_steps=2, n_rollouts=3, random_state=0
    )
    assert np.isnan(short.scores).all()


class Reader:
    """A scorer that keeps what it has read, and counts the steps that it reads."""

    alive = weakref.WeakSet()
    n_read = 0

    def __init__(self, steps=()):
        self.steps = tuple(steps)
        Reader.alive.add(self)

    def incremental(self, problem):
        return Reader()

    def score_solutions(self, solutions):
        raise AssertionError("it reads new steps alone")

    def fork(self):
        return Reader(self.steps)

    def extend(self, steps):
        self.steps += tuple(steps)
        Reader.n_read += len(steps)

    @property
    def rewards(self):
        return np.asarray(perfect([Solution("Q", self.steps)])[0])


@pytest.mark.parametrize(("search", "n_read"), [(beam_search, 12), (partial(lookahead_search, lookahead=2), 36)])
def test_each_step_is_read_once_and_what_was_pruned_is_forgotten(search, n_read):
    Reader.n_read = 0
    alive = []
    iterate = search.func.iterate if isinstance(search, partial) else search.iterate
    settings = search.keywords if isinstance(search, partial) else {}
    rounds = iterate(
        policy(n_steps=20), Reader(), "Q", beam_width=3, beam_factor=4, max_steps=9, random_state=0, **settings
    )
    for _ in rounds:
        gc.collect()
        alive.append(len(Reader.alive))
        assert Reader.n_read <= n_read * len(alive)
    assert max(alive) <= 2 + 3  # the scorer itself, one without steps, and the beam


class ShortReader(ScoresSolutions):
    """A classifier that can read two steps, and whose own setting makes more of them an error."""

    classes_ = np.array([-1, 1])
    label_order_ = (-1, 1)

    def __init__(self):
        self.too_long = "raise"

    def predict_proba(self, X):
        if self.too_long == "raise" and any(step.index > 1 for step in X):
            raise ValueError("a step is beyond the length of the model")
        good = np.array([np.nan if step.index > 1 else float(step.text.startswith("right")) for step in X])
        return np.stack([1 - good, good], axis=1)


@pytest.mark.filterwarnings("ignore:no score for")
@pytest.mark.parametrize("search", [SEARCHES["beam"], SEARCHES["rollout"], partial(best_of_n, n=4)])
def test_a_solution_beyond_the_length_of_the_model_loses_its_score_and_not_the_search(search):
    model = ShortReader()
    found = search(policy(), model, "Q", random_state=0)
    lengths = np.array([one.solution.n_steps for one in found.candidates])
    assert lengths.max() > 2
    assert np.isnan(found.scores[lengths > 2]).all()
    assert model.too_long == "raise"


def test_a_scorer_that_reads_whole_solutions_is_asked_once_per_round():
    calls = []

    def counting(solutions):
        calls.append(len(solutions))
        return perfect(solutions)

    found = beam_search(policy(), counting, "Q", beam_width=3, beam_factor=4, random_state=0)
    assert calls == [12] * N_STEPS
    assert found.cost.n_forward == N_STEPS


def two_ways(problem, steps, n, seed):
    """Take way a or b, with odds that depend on the way so far."""
    p = 0.3 + 0.1 * len(steps) + 0.2 * (bool(steps) and steps[-1] == "a")
    return [
        ("a" if u < p else "b", "eos" if len(steps) == 2 else "stop") for u in np.random.default_rng(seed).random(n)
    ]


def worth_of_ways(solutions):
    return [[{"a": 0.3, "b": 0.6}[step] + 0.1 * (t and step == one.steps[t - 1]) for t, step in enumerate(one.steps)]
            for one in solutions]  # fmt: skip


def enumerated(weight_temperature):
    """Return the distribution that the particles stand for, by adding up all ways."""
    mass = {(): 1.0}
    for t in range(3):
        grown = {}
        for steps, value in mass.items():
            p = 0.3 + 0.1 * t + 0.2 * (bool(steps) and steps[-1] == "a")
            for step, chance in (("a", p), ("b", 1 - p)):
                reward = worth_of_ways([Solution("Q", [*steps, step])])[0][-1]
                grown[(*steps, step)] = value * chance * (reward / (1 - reward)) ** (1 / weight_temperature)
        mass = grown
    total = sum(mass.values())
    return {steps: value / total for steps, value in mass.items()}


@pytest.mark.parametrize(
    ("resampling", "ess_threshold", "weight_temperature"),
    [("systematic", 1.0, 1.0), ("multinomial", 1.0, 2.0), ("systematic", 0.5, 0.5), ("multinomial", 1e-9, 1.0)],
)
def test_particles_stand_for_the_distribution_of_policy_times_weights(resampling, ess_threshold, weight_temperature):
    truth = enumerated(weight_temperature)
    runs = []
    for seed in range(8):
        found = particle_filter(
            CallableGenerator(two_ways), worth_of_ways, "Q", n_particles=150, rule="last", random_state=seed,
            resampling=resampling, ess_threshold=ess_threshold, weight_temperature=weight_temperature,
        )  # fmt: skip
        weights = {one.solution.steps: one.weight for one in found.candidates if one.is_complete}
        assert sum(weights.values()) == pytest.approx(1)
        runs.append([weights.get(steps, 0.0) for steps in truth])
    mean, error = np.mean(runs, axis=0), np.std(runs, axis=0, ddof=1) / np.sqrt(len(runs))
    # 99.99 % of Student's t with 7 degrees of freedom, and a bias of the order of 1 / n_particles.
    assert (np.abs(mean - list(truth.values())) < 7.9 * error + 1 / 150).all()
    assert error.max() < 0.02  # or the comparison says nothing
    assert np.abs(mean - list(enumerated(1e9).values())).max() > 0.05  # the policy alone is something else


def one_step(problem, steps, n, seed):
    return [(f"{'abcd'[seed % 4]}", "stop" if not steps else "eos") for _ in range(n)]


def by_letter(solutions):
    return [[{"a": 0.9, "b": 0.5, "c": 0.2, "d": 0.0}[step] for step in one.steps] for one in solutions]


@pytest.mark.parametrize("resampling", ["systematic", "multinomial"])
def test_particles_are_drawn_by_their_weights(resampling):
    got, expected, sizes = [], [], []
    for seed in range(20):
        first = next(particle_filter.iterate(
            CallableGenerator(one_step), by_letter, "Q", n_particles=40, resampling=resampling, random_state=seed
        ))  # fmt: skip
        everyone = [*first.live, *first.ended]
        odds = np.array([one.n_copies * one.score / max(1 - one.score, 1e-7) for one in everyone])
        expected.append(odds / odds.sum())
        got.append([one.weight for one in everyone])
        sizes.append(first.effective_sample_size)
        assert first.effective_sample_size == pytest.approx(
            1
            / sum(one.n_copies * (share / one.n_copies) ** 2 for one, share in zip(everyone, expected[-1], strict=True))
        )
    assert max(sizes) < 40
    difference = np.concatenate(got) - np.concatenate(expected)
    if resampling == "systematic":
        assert np.abs(difference).max() < 1 / 40 + 1e-6
    else:
        variance = sum((share * (1 - share)).sum() / 40 for share in expected)
        assert 0.5 < (difference**2).sum() / variance < 1.6


def test_a_sampled_particle_follows_the_weights():
    def ended(problem, steps, n, seed):
        return [("abcd"[seed % 4], "eos")] * n

    found = [
        particle_filter(
            CallableGenerator(ended),
            by_letter,
            "Q",
            n_particles=4,
            choose="sample",
            weight_temperature=4,
            random_state=i,
        )
        for i in range(100)
    ]
    weights = np.array([
        sum(one.weight for one in run.candidates if one.solution.steps == ("a",)) for run in found
    ])  # fmt: skip
    chosen = sum(run.solution.steps == ("a",) for run in found)
    assert abs(chosen - weights.sum()) < 4.5 * np.sqrt((weights * (1 - weights)).sum())
    assert len({run.solution.steps for run in found}) > 1


def test_complete_particles_wait_and_take_part():
    """A particle of one good step is complete, the others are worse, so it crowds them out."""

    def early(problem, steps, n, seed):
        return [("a", "eos") if seed % 3 == 0 and not steps else ("c", "stop")] * n

    found = particle_filter(CallableGenerator(early), by_letter, "Q", n_particles=30, max_steps=12, random_state=1)
    assert found.solution.steps == ("a",)
    assert found.candidates[found.chosen].weight == pytest.approx(1)
    assert found.cost.n_requests < 30 * 3


def test_particles_are_not_drawn_once_more_when_the_steps_run_out():
    generator = CallableGenerator(lambda problem, steps, n, seed: [(f"draw {seed}", "stop")] * n)
    found = particle_filter(
        generator,
        lambda s: [[0.2 + int(one.steps[0][-1]) / 20] for one in s],
        "Q",
        n_particles=8,
        max_steps=1,
        random_state=0,
    )
    odds = found.scores / (1 - found.scores)
    assert [one.stopped for one in found.candidates] == ["max_steps"] * 8
    np.testing.assert_allclose([one.weight for one in found.candidates], odds / odds.sum())


def test_particles_without_a_score_are_lost_unless_there_is_no_other():
    def half_read(solutions):
        return [[np.nan if "wrong" in step else 0.2 for step in one.steps] for one in solutions]

    found = particle_filter(policy(), half_read, "Q", n_particles=8, random_state=0)
    assert is_right(found.solution)
    blind = particle_filter(
        policy(), lambda s: [[np.nan] * one.n_steps for one in s], "Q", n_particles=8, random_state=0
    )
    assert blind.solution.n_steps == N_STEPS


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_particles": 0}, "n_particles is 0"),
        ({"n_particles": 2.5}, "n_particles is 2.5"),
        ({"resampling": "stratified"}, "resampling is 'stratified', expected one of systematic, multinomial"),
        ({"choose": "vote"}, "choose is 'vote'"),
        ({"weight_temperature": 0}, "weight_temperature is 0"),
        ({"ess_threshold": 1.5}, "ess_threshold is 1.5"),
        ({"choose": "sample", "final_scorer": perfect}, "leave final_scorer"),
    ],
)
def test_settings_of_particles_are_checked(settings, told):
    with pytest.raises(ValueError, match=told):
        particle_filter(policy(), perfect, "Q", **{"n_particles": 4, **settings})


def test_weights_need_scores_between_0_and_1():
    with pytest.raises(ValueError, match=r"a score is 3, and weights of particles need scores in \[0, 1\]"):
        particle_filter(policy(), lambda s: [[3.0] * one.n_steps for one in s], "Q", n_particles=4)


def test_an_expander_gives_one_step_and_its_score():
    generator = Watched(policy())
    generate = step_expander(generator, perfect, "Q", random_state=0)
    first, score = generate(None)
    assert score == float(first.steps[0].startswith("right"))
    state = first
    for n_steps in range(2, N_STEPS + 1):
        state, score = generate(state)
        assert state.n_steps == n_steps
        assert score == float(is_right(state))
    assert state.meta["stopped"] == "eos"
    n_asked = len(generator.asked)
    assert generate(state) == (state, score)
    assert len(generator.asked) == n_asked == N_STEPS
    assert generate(first)[0].steps != generate(first)[0].steps  # another draw each time
    assert generate.cost.n_requests == N_STEPS + 2
    again = step_expander(policy(), perfect, "Q", random_state=0)
    assert again(None)[0] == first


def test_an_expander_serves_a_best_first_search():
    """As treequest's algorithms do: take the state with the highest score, and put what comes of it back."""
    generate = step_expander(policy(error_rate=0.5), perfect, "Q", random_state=3)
    tree = [(None, 1.0)]
    for _ in range(60):
        state, _ = max(tree, key=lambda pair: (pair[1], pair[0].n_steps if pair[0] else 0))
        tree.append(generate(state))
        if "stopped" in (tree[-1][0].meta or {}) and tree[-1][1] == 1:
            break
    assert is_right(tree[-1][0])
    assert tree[-1][0].n_steps == N_STEPS


def test_a_failed_expansion_is_an_error_or_has_the_score_that_was_named():
    def broken(problem, steps, n, seed):
        raise OSError("no route")

    with pytest.raises(RuntimeError, match=r"no route.*failed_score=0.0"):
        step_expander(CallableGenerator(broken), perfect, "Q")(None)
    state, score = step_expander(CallableGenerator(broken), perfect, "Q", failed_score=0.0)(None)
    assert (state.n_steps, score) == (0, 0.0)
    unread = step_expander(policy(), lambda s: [[np.nan] * one.n_steps for one in s], "Q")
    with pytest.raises(RuntimeError, match="no score"):
        unread(None)
    spent = step_expander(policy(), perfect, "Q", budget=3)
    spent(None)
    with pytest.raises(RuntimeError, match="budget of 3 tokens is spent"):
        spent(None)
    with pytest.raises(TypeError, match="another problem"):
        spent(Solution("R", ["right"]))
    with pytest.raises(TypeError, match="scorer is None"):
        step_expander(policy(), None, "Q")


def test_a_result_shows_its_solution():
    shown = beam_search(policy(), perfect, "1 < 2?", beam_width=2, beam_factor=2, random_state=0)._repr_html_()
    assert "1 &lt; 2?" in shown
    assert "background:rgba(" in shown  # coloured steps
    assert "eos, score" in shown
    raw = beam_search(policy(), lambda s: [[7.25] * one.n_steps for one in s], "1 < 2?", beam_width=2, beam_factor=2)
    assert "7.25" in raw._repr_html_()


@pytest.mark.parametrize(("name", "value"), [("beam", "score"), ("lookahead", "reward")])
def test_a_search_is_drawn_as_a_tree(name, value):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    found = SEARCHES[name](policy(), perfect, "Q", final_scorer=constant, random_state=0)
    display = SearchDisplay.from_result(found, value=value)
    n_points = sum(len(points.get_offsets()) for points in display.ax_.collections)
    assert n_points == len(found.candidates) + 1  # and a ring around the chosen one
    lines = [line for line in display.ax_.lines if len(line.get_xdata()) == 2 and line.get_color() == "black"]
    assert sorted(line.get_xdata()[1] for line in lines) == [2, 3, 4]
    with pytest.raises(TypeError, match="expected SearchResult"):
        SearchDisplay.from_result(found.candidates)
    with pytest.raises(ValueError, match="value is 'risk'"):
        SearchDisplay.from_result(found, value="risk")
    matplotlib.pyplot.close(display.figure_)
