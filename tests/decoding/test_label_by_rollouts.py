"""Labels by rollouts on a policy whose steps are known to be right or wrong."""

import random
from functools import cache

import numpy as np
import pytest
from scipy.stats import betabinom

from prmkit import PRMClassifier, Solution
from prmkit.data import load_math_shepherd, load_stepwise, write
from prmkit.decoding import CallableGenerator, label_by_rollouts
from prmkit.decoding.labelling._noise import RolloutNoise, precision_of_share, wilson_interval

N_STEPS = 5
PROBLEMS = [f"What is {i} + {i + 1} + … + {i + 4}?" for i in range(12)]


def continued(problem, steps, n, seed, p_right=0.75):
    """Write what is missing of five steps. A step is good or bad by chance, and after a bad one nothing helps."""
    texts = []
    for k in range(n):
        rng = random.Random(seed * 1000 + k)
        written = [*steps]
        while len(written) < N_STEPS:
            word = "good" if rng.random() < p_right else "bad"
            written.append(f"A {word} step {rng.randrange(10)}.")
        texts.append(("\n\n".join(written[len(steps) :]), "eos"))
    return texts


def by_step(problem, steps, n, seed):
    """Write one step at a time."""
    rows = continued(problem, steps, n, seed)
    return [(text.split("\n\n")[0], "stop" if len(steps) + 1 < N_STEPS else "eos") for text, _ in rows]


def is_right(problem, solution):
    return not any("bad" in step for step in solution.steps)


def label(*, generator=continued, verifier=is_right, problems=PROBLEMS, n_solutions=4, **settings):
    settings = {"n_completions": 16, "random_state": 0, **settings}
    return label_by_rollouts(CallableGenerator(generator), verifier, problems, n_solutions, **settings)


@cache
def labelled(labels="hard", **settings):
    """Return the data sets that several tests look at."""
    return label(labels=labels, **settings)


def truth(step):
    return -1 if any("bad" in text for text in (*step.prefix, step.text)) else 1


def labels_of(data):
    return {(step.problem, *step.prefix, step.text): mark for step, mark in zip(data.X, data.y.tolist(), strict=True)}


@pytest.mark.parametrize("generator", [continued, by_step])
@pytest.mark.parametrize("stop_early", [True, False])
def test_hard_labels_say_whether_the_answer_can_be_reached(generator, stop_early):
    data = label(generator=generator, stop_early=stop_early)
    assert data.vocabulary == "rating"
    true = np.array([truth(step) for step in data.X])
    assert np.mean(np.asarray(data.y) == true) > 0.98
    assert not (data.y[true == -1] == 1).any()  # a success is a proof
    for solution, error in zip(data.solutions, data.first_errors, strict=True):
        assert solution.meta["is_right"] == (error == -1) == is_right("", solution)
    assert (data.counts["problems"], data.counts["solutions"]) == (12, len(data.solutions))


def test_soft_labels_are_shares_with_counts_and_intervals():
    data = labelled("soft")
    assert data.vocabulary == "soft"
    frame = data.to_frame()
    ends = frame["index"] == N_STEPS - 1
    assert set(frame[ends].y) <= {0.0, 1.0}
    assert (frame[ends].low == frame[ends].y).all()
    inner = frame[~ends]
    assert set(inner.n_tried) == {16}
    assert np.allclose(inner.y, inner.n_right / 16)
    assert ((inner.low <= inner.y) & (inner.y <= inner.high)).all()
    alive = np.array([truth(step) for step in data.X])[~ends] == 1
    assert (inner.y[~alive] == 0).all()
    expected = 0.75 ** (N_STEPS - 1 - inner["index"][alive])
    covered = (inner.low[alive] <= expected) & (expected <= inner.high[alive])
    assert covered.mean() > 0.85
    assert np.mean(inner.y[alive] - expected) == pytest.approx(0, abs=0.03)
    first = data.solutions[0]
    assert first.meta["n_tried"][: N_STEPS - 1] == [16] * (N_STEPS - 1)


def test_halving_finds_the_same_first_errors_with_fewer_completions():
    everything, halved = labelled(stop_early=False), label(search="binary", stop_early=False)
    errors = [dict(zip(data.solutions, data.first_errors, strict=True)) for data in (everything, halved)]
    same = [errors[0][one] == errors[1][one] for one in errors[0]]
    assert np.mean(same) > 0.95
    assert halved.counts["completions"] < 0.6 * everything.counts["completions"]
    found = [mark for (*_, step), mark in labels_of(halved).items()]
    assert set(found) == {-1, 1}
    soft = label(search="binary", labels="soft")
    assert soft.vocabulary == "soft"
    assert soft.counts["labelled steps"] < everything.counts["labelled steps"]


def test_the_labels_do_not_depend_on_order_or_on_what_is_asked_together():
    one, other = labelled(), label(problems=PROBLEMS[::-1], n_open=5, generator=continued)
    alone = label(problems=PROBLEMS[3:4])
    assert labels_of(one) == labels_of(other)
    assert labels_of(alone).items() <= labels_of(one).items()
    assert labels_of(label(random_state=1)) != labels_of(one)


def test_early_stopping_asks_for_less():
    asked = []

    def counted(problem, steps, n, seed):
        asked.append((n, steps))
        return continued(problem, steps, n, seed)

    early = label(generator=counted)
    sizes = {n for n, steps in asked if steps}
    assert sizes == {2, 4, 10}
    assert early.counts["completions"] < 0.7 * labelled(stop_early=False).counts["completions"]
    soft, narrow = labelled("soft"), label(labels="soft", max_width=0.5)
    assert narrow.counts["completions"] < soft.counts["completions"]
    width = narrow.rows["high"] - narrow.rows["low"]
    assert (width[narrow.rows["n_tried"] < 16] <= 0.5).all()


def test_beginnings_that_solutions_share_are_completed_once():
    asked = []

    def narrow(problem, steps, n, seed):
        asked.append(steps)
        return [(text.replace("step 1", "step"), finish) for text, finish in continued(problem, steps, n, seed, 0.5)]

    def few(problem, steps, n, seed):
        rows = narrow(problem, steps, n, seed)
        return [("\n\n".join(line[:6] for line in text.split("\n\n")), finish) for text, finish in rows]

    data = label(generator=few, n_solutions=15, stop_early=False, problems=PROBLEMS[:2])
    tried = [steps for steps in asked if steps]
    assert len(tried) <= 2 * len(set(tried))  # of two problems
    assert data.counts["repeated solutions"] > 0


@pytest.mark.parametrize("budget", [100, 1000, 4000])
@pytest.mark.parametrize("max_tokens", [2048, 30])
def test_the_budget_is_kept(budget, max_tokens):
    with pytest.warns(UserWarning, match=f"the budget of {budget} tokens was spent"):
        data = label(budget=budget, max_tokens=max_tokens, n_solutions=2)
    assert 0 < data.counts["generated tokens"] <= budget
    assert not (data.y[[truth(step) == -1 for step in data.X]] == 1).any()
    assert np.mean([truth(step) == mark for step, mark in zip(data.X, data.y, strict=True)]) > 0.95


def test_a_budget_that_allows_nothing_says_so():
    with pytest.raises(RuntimeError, match="the budget of 3 tokens"), pytest.warns(UserWarning, match="budget"):
        label(budget=3)


def test_solutions_that_were_cut_lose_their_last_step():
    def long(problem, steps, n, seed):
        return continued(problem, steps, n, seed, 0.95)

    data = label(generator=long, max_tokens=14, n_solutions=3, problems=PROBLEMS[:4])
    assert {solution.meta["finish"] for solution in data.solutions} == {"length"}
    assert {solution.n_steps for solution in data.solutions} == {3}  # 14 words are three steps of four and a half
    assert {solution.meta["is_right"] for solution in data.solutions} == {None}
    assert data.counts["cut solutions"] == len(data.solutions)
    told = "cut in their first step: pass more than max_tokens=3"
    with pytest.raises(RuntimeError, match=told), pytest.warns(UserWarning, match="no solution has a step"):
        label(generator=long, max_tokens=3)

    def long_once(problem, steps, n, seed):
        return [("word " * 99, "eos")] * n if problem == PROBLEMS[0] else continued(problem, steps, n, seed)

    with pytest.warns(UserWarning, match="no solution has a step: they were cut in it, pass more than max_tokens=50"):
        label(generator=long_once, max_tokens=50, problems=PROBLEMS[:2])


def test_a_verifier_that_raises_costs_one_completion():
    def sometimes(problem, solution):
        if "3" in solution.steps[-1]:
            raise TimeoutError("it ran for 5 seconds")
        return is_right(problem, solution)

    with pytest.warns(UserWarning, match=r"failed verifications, the first: the verifier raised TimeoutError: it ran"):
        data = label(verifier=sometimes, labels="soft", stop_early=False)
    assert data.counts["failed verifications"] > 10
    inner = data.rows["n_tried"][[step.index < N_STEPS - 1 for step in data.X]]
    assert inner.min() < 16
    assert inner.mean() > 12


def test_one_bad_problem_does_not_lose_the_others():
    def picky(problem, steps, n, seed):
        if problem == "bad":
            raise ConnectionError("no route")
        return continued(problem, steps, n, seed)

    def knows(problem, solution):
        return bool(solution.meta["answer"]) and is_right(problem, solution)

    entries = [{"problem": one, "answer": 1} for one in PROBLEMS[:3]]
    entries += [{"problem": "bad", "answer": 1}, {"answer": 1}, None, Solution("p", ["begun"]), PROBLEMS[5]]
    entries += [Solution(PROBLEMS[4], (), meta={"answer": 2}), {"problem": PROBLEMS[0], "answer": 5}, entries[1]]
    with pytest.warns(UserWarning, match="6 problems gave no labels") as told:
        data = label(generator=picky, verifier=knows, problems=entries)
    assert {step.problem for step in data.X} == {*PROBLEMS[:3], PROBLEMS[4]}
    assert "no route" in str(told[0].message)
    assert data.solutions[0].meta["answer"] == 1
    assert (data.counts["problems left out or in doubt"], data.counts["repeated problems"]) == (6, 2)
    told = "4 failed verifications, the first: the verifier raised KeyError"  # no completion was asked for
    with pytest.raises(RuntimeError, match="KeyError"), pytest.warns(UserWarning, match=told):
        label(verifier=lambda problem, solution: solution.meta["answer"] == 1, problems=[{"problem": "a", "b": 1}])


@pytest.mark.parametrize("answer", [None, [], [("So 5.", "done")], "So 5.", [None]])
def test_an_answer_that_is_none_costs_its_problem(answer):
    def breaks(problem, steps, n, seed):
        return answer if problem == PROBLEMS[0] else continued(problem, steps, n, seed)

    with pytest.warns(UserWarning, match="1 problems gave no labels"):
        data = label(generator=breaks, problems=PROBLEMS[:3])
    assert {step.problem for step in data.X} == set(PROBLEMS[1:3])
    with (
        pytest.raises(RuntimeError, match="the function of the generator gave"),
        pytest.warns(UserWarning, match="1 problem"),
    ):
        label(generator=breaks, problems=PROBLEMS[:1])


@pytest.mark.parametrize("threshold", ["x", None, float("nan")])
def test_a_threshold_that_is_no_number_is_refused_before_anything_is_generated(threshold):
    with pytest.raises(ValueError, match=r"judge_threshold is .*, expected a number"):
        label(judge_threshold=threshold)


def test_what_is_no_generator_is_named():
    with pytest.raises(TypeError, match="goes into CallableGenerator"):
        label_by_rollouts(continued, is_right, PROBLEMS[:1])


def test_a_problem_that_comes_twice_may_hold_arrays_and_nan():
    one, other = ({"problem": PROBLEMS[0], "a": np.arange(n), "b": float("nan")} for n in (3, 4))
    assert label(problems=[one, {**one, "a": np.arange(3), "b": float("nan")}]).counts["repeated problems"] == 1
    with pytest.warns(UserWarning, match="it comes twice, with different fields"):
        label(problems=[one, other])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"n_solutions": 0}, "n_solutions is 0"),
        ({"n_completions": 1.5}, "n_completions is 1.5"),
        ({"labels": "both"}, "labels"),
        ({"search": "linear"}, "search"),
        ({"agreement": "no"}, "agreement"),
        ({"max_width": 0.2}, "max_width"),
        ({"budget": 0}, "budget is 0"),
        ({"problems": "one"}, "problems is one str"),
        ({"problems": None}, "problems is one NoneType"),
        ({"problems": []}, "the list is empty"),
        ({"verifier": None}, "verifier is NoneType"),
        ({"verifier": lambda problem, solution: 1.0}, "the verifier returned 1.0"),
        ({"judge": 3}, "scorer is int"),
        ({"log": "log", "random_state": None}, "a log needs a seed"),
    ],
)
def test_settings_out_of_range_are_named(settings, told):
    with pytest.raises((ValueError, TypeError), match=told):
        label(**settings)


def test_a_judge_keeps_what_it_agrees_with():
    everything = labelled()

    def strict(solutions):
        """See an error in the first step of every second problem, and elsewhere the truth."""
        return [
            [0.0] * one.n_steps if PROBLEMS.index(one.problem) % 2 else [float(truth_ == 1) for truth_ in _truths(one)]
            for one in solutions
        ]

    kept = label(judge=strict)
    by_count = kept.counts["solutions that the judge agrees with"], kept.counts["solutions that the judge contradicts"]
    assert by_count[0] == len(kept.solutions)
    assert sum(by_count) == len(everything.solutions)
    assert min(by_count) > 0
    assert all(PROBLEMS.index(one.problem) % 2 == 0 or "bad" in one.steps[0] for one in kept.solutions)
    lenient = label(judge=lambda solutions: [[1.0] * one.n_steps for one in solutions], agreement="step")
    assert set(lenient.y) == {1}
    assert len(lenient.solutions) > len(label(judge=lambda s: [[1.0] * one.n_steps for one in s]).solutions)
    with pytest.raises(RuntimeError, match="the judge agrees with none"):
        label(judge=lambda solutions: [[np.nan] * one.n_steps for one in solutions])


def _truths(solution):
    return [-1 if any("bad" in text for text in solution.steps[: t + 1]) else 1 for t in range(solution.n_steps)]


def test_files_of_other_tools_read_back_as_they_are(tmp_path):
    hard, soft = labelled(), labelled("soft")
    write(hard, tmp_path / "a.jsonl", "math_shepherd")
    write(hard, tmp_path / "b.jsonl", "stepwise")
    write(soft, tmp_path / "c.jsonl", "stepwise")
    read = load_math_shepherd(tmp_path / "a.jsonl", numbering="strip"), load_stepwise(tmp_path / "b.jsonl")
    for back in read:
        assert labels_of(back) == labels_of(hard)
        assert back.vocabulary == hard.vocabulary
        assert back.first_errors == hard.first_errors
    assert labels_of(load_stepwise(tmp_path / "c.jsonl")) == labels_of(soft)
    assert hard.to_hf()[0]["first_error"] == hard.first_errors[0]


def test_a_classifier_learns_from_the_weighted_labels():
    data = labelled()
    weight = data.rows["sample_weight"]
    clf = PRMClassifier(views=("words",), random_state=0).fit(data.X, data.y, sample_weight=weight)
    bad = [step for step in data.X if "bad" in step.text]
    assert np.mean(clf.predict(bad) == -1) > 0.9
    assert np.mean(clf.predict(data.X) == 1) > 0.1


def test_weights_and_noise_follow_the_counts():
    many = [f"What is {i} * {i}?" for i in range(40)]
    data = label(n_completions=4, generator=lambda *a: continued(*a, p_right=0.5), n_solutions=6, problems=many)
    rows = data.rows
    doubtful = (data.y == -1) & (np.array([step.index for step in data.X]) < N_STEPS - 1)
    assert (rows["sample_weight"][~doubtful] == 1).all()
    assert np.allclose(rows["sample_weight"][doubtful], 1 - rows["p_alive"][doubtful])
    # The estimate is near the share that is truly in error, which four completions leave large.
    true = np.mean([truth(step) == 1 for step, is_in in zip(data.X, doubtful, strict=True) if is_in])
    assert true > 0.02
    assert rows["p_alive"][doubtful].mean() == pytest.approx(true, abs=0.06)
    assert "estimated share of the labels -1" in data.description


@pytest.mark.parametrize(("dead", "a", "b"), [(0.5, 1.0, 1.0), (0.3, 1.2, 3.0), (0.8, 2.0, 1.0)])
def test_the_noise_of_a_known_mixture_is_found(dead, a, b):
    rng = np.random.default_rng(0)
    is_dead = rng.random(4000) < dead
    n = np.full(4000, 8)
    k = np.where(is_dead, 0, betabinom(8, a, b).rvs(4000, random_state=rng))
    noise = RolloutNoise(k, n)
    assert float(noise.p_all_fail(8)) == pytest.approx(betabinom(8, a, b).pmf(0), abs=0.06)
    assert float(noise.p_alive_if_all_fail(8)) == pytest.approx(np.mean(~is_dead[k == 0]), abs=0.06)


def test_intervals_and_weights_of_shares():
    low, high = wilson_interval([0, 8, 16, 0], [16, 16, 16, 0])
    assert low[:3] == pytest.approx([0, 0.28, 0.806], abs=1e-3)
    assert high[:3] == pytest.approx([0.194, 0.72, 1], abs=1e-3)
    assert np.isnan([low[3], high[3]]).all()
    assert precision_of_share(0, 0) == pytest.approx(0)
    assert 0 < precision_of_share(1, 2) < precision_of_share(8, 16) < precision_of_share(0, 16) < 1


KILLED = """
import os, signal, sys
import numpy as np
from prmkit.decoding import CallableGenerator, label_by_rollouts

def steps_of(problem, steps, n, seed):
    steps_of.n_calls = getattr(steps_of, "n_calls", 0) + 1
    if steps_of.n_calls > int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    with open("calls", "a") as file:
        file.write(f"{problem} {steps} {seed}\\n")
    rng = np.random.default_rng(seed)
    def line():
        return f"{'good' if rng.random() < .7 else 'bad'} {rng.integers(9)}"
    return [("\\n\\n".join(line() for _ in range(4 - len(steps))), "eos") for _ in range(n)]

data = label_by_rollouts(
    CallableGenerator(steps_of), lambda problem, solution: "bad" not in " ".join(solution.steps), ["a", "b", "c"], 3, 8,
    random_state=3, log=sys.argv[2], n_open=2,
)
print(data.description)
print(data.to_frame().to_csv())
print(data.first_errors, [(one.id, one.meta) for one in data.solutions])
"""


def killed_and_finished(start_python, run_python, folder, n_kills, at):
    """Return what a labelling prints at once, what it prints after some kills, and the calls that were answered."""
    undisturbed = run_python(KILLED, "99999", "whole", folder=folder)
    n_calls = len((folder / "calls").read_text().splitlines())
    (folder / "calls").unlink()
    for _ in range(n_kills):
        process = start_python(KILLED, str(at), "log", folder=folder)
        process.join()
        assert process.exitcode == -9
    after = run_python(KILLED, "99999", "log", folder=folder)
    calls = (folder / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == n_calls  # nothing was generated twice
    assert (folder / "log").read_bytes() == (folder / "whole").read_bytes()
    return undisturbed, after


def test_a_killed_labelling_goes_on(start_python, run_python, tmp_path):
    one, again = killed_and_finished(start_python, run_python, tmp_path, 1, at=9)
    assert one == again


@pytest.mark.slow
def test_a_labelling_that_was_killed_ten_times_goes_on(start_python, run_python, tmp_path):
    one, again = killed_and_finished(start_python, run_python, tmp_path, 10, at=2)
    assert one == again
