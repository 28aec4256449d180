"""A log of a generator: what it answers again, what it refuses, and that a killed search goes on."""

import json
import pickle

import numpy as np
import pytest

from prmkit import Solution
from prmkit.decoding import CallableGenerator, Generation, LoggedGenerator, best_of_n


class Counting:
    """A generator that notes what it was asked. Its texts depend on the seed."""

    def __init__(self, finish="stop"):
        self.asked, self.finish = [], finish

    def generate(self, requests, *, n=1, stop=(), max_tokens=512, temperature=1.0, seed=None):
        self.asked += [getattr(one, "problem", one) for one in requests]
        finish = self.finish.pop(0) if isinstance(self.finish, list) else self.finish
        return [
            [
                Generation(f"{one} {k}\ud800", finish, (one, np.int64(k)), (-0.1 / 3, float("-inf")), 2, stop="\n\n")
                if finish != "error"
                else Generation.failed("no")
                for k in range(n)
            ]
            for one in seed
        ]


def test_what_the_file_holds_is_not_generated_again(tmp_path):
    first = Counting()
    with LoggedGenerator(first, tmp_path / "log") as logged:
        rows = logged.generate(["a", "b"], n=2, seed=3)
        assert rows == logged.generate(["a", "b"], n=2, seed=3)
    second = Counting()
    with LoggedGenerator(second, tmp_path / "log") as logged:
        # One more request changes the seeds that an int stands for: the requests have their own here.
        seeds = [one["seed"] for one in map(json.loads, (tmp_path / "log").read_text().splitlines()[1:])]
        assert logged.generate(["b", "c", "a"], n=2, seed=[seeds[1], 5, seeds[0]])[::2] == rows[::-1]
        assert (logged.n_asked, logged.n_found) == (1, 2)
    assert (first.asked, second.asked) == (["a", "b"], ["c"])
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


@pytest.mark.parametrize(
    "other",
    [
        {"seed": [8]},
        {"n": 2},
        {"stop": ("\n",)},
        {"max_tokens": 9},
        {"temperature": 0.5},
        {"requests": [Solution("a", ["b"])]},
        {"requests": [Solution("a", [], meta={"token_ids": ((1,),)})]},
    ],
)
def test_a_request_that_differs_is_asked(tmp_path, other):
    generator = Counting()
    with LoggedGenerator(generator, tmp_path / "log") as logged:
        for settings in ({}, other, {}, other):
            settings = {"requests": ["a"], "seed": [7], **settings}
            logged.generate(settings.pop("requests"), **settings)
        assert (logged.n_asked, logged.n_found) == (2, 2)


def test_equal_requests_of_one_call_are_asked_once_if_their_seeds_are_equal(tmp_path):
    generator = Counting()
    with LoggedGenerator(generator, tmp_path / "log") as logged:
        one, two, three = logged.generate(["a", "a", "a"], seed=[1, 1, 2])
    assert generator.asked == ["a", "a"]
    assert one == two != three
    assert one is not two


def test_another_generator_shares_the_file_but_no_answers(tmp_path):
    with LoggedGenerator(Counting(), tmp_path / "log") as logged:
        logged.generate(["a"], seed=1)
    other = Counting()
    other.fingerprint = "another model"
    told = "1 answers of Counting, and none of another model"
    with LoggedGenerator(other, tmp_path / "log") as logged, pytest.warns(UserWarning, match=told):
        logged.generate(["a"], seed=1)
    assert other.asked == ["a"]


def test_a_failed_answer_is_asked_again(tmp_path):
    generator = Counting(finish=["error", "stop"])
    with LoggedGenerator(generator, tmp_path / "log") as logged:
        finishes = [logged.generate(["a"], seed=1)[0][0].finish for _ in range(3)]
    assert finishes == ["error", "stop", "stop"]
    assert generator.asked == ["a", "a"]


@pytest.mark.parametrize("n_lost", [1, 7, 60])
def test_a_torn_last_line_is_dropped(tmp_path, n_lost):
    log = tmp_path / "log"
    with LoggedGenerator(Counting(), log) as logged:
        rows = logged.generate(["a", "b"], seed=1)
    whole = log.read_bytes()
    log.write_bytes(whole[:-n_lost])
    generator = Counting()
    with LoggedGenerator(generator, log) as logged:
        assert logged.generate(["a", "b"], seed=1) == rows
    assert generator.asked == ["b"]
    assert log.read_bytes() == whole


def test_a_log_whose_first_line_is_torn_begins_anew(tmp_path):
    log = tmp_path / "log"
    log.write_text('{"text": ')
    with pytest.raises(ValueError, match="no log of a generator: line 1 is"):
        LoggedGenerator(Counting(), log).generate(["a"], seed=1)
    assert log.read_text() == '{"text": '  # a file of something else is left as it is
    with LoggedGenerator(Counting(), tmp_path / "other") as logged:
        logged.generate(["a"], seed=1)
    log.write_bytes((tmp_path / "other").read_bytes()[:20])
    with LoggedGenerator(Counting(), log) as logged:
        logged.generate(["a"], seed=1)
    assert log.read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda line: line.replace('"n": 1', '"n": 2'),
        lambda line: '{"text": "of another tool"}',
        lambda line: "no JSON",
        lambda line: "[1]",
        lambda line: "",
    ],
)
def test_a_damaged_line_is_named(tmp_path, damage):
    log = tmp_path / "log"
    with LoggedGenerator(Counting(), log) as logged:
        logged.generate(["a", "b", "c"], seed=1)
    lines = log.read_text().split("\n")
    log.write_text("\n".join([*lines[:2], damage(lines[2]), *lines[3:]]))
    with pytest.raises(ValueError, match=r"line 3 of the log .* is damaged"):
        LoggedGenerator(Counting(), log).generate(["a"], seed=1)


def test_two_writers_are_refused_until_the_first_ends(tmp_path):
    one, two = (LoggedGenerator(Counting(), tmp_path / "log") for _ in range(2))
    one.generate(["a"], seed=1)
    with pytest.raises(BlockingIOError, match="another process writes the log"):
        two.generate(["a"], seed=1)
    one.close()
    assert two.generate(["a"], seed=1) == one.generator.generate(["a"], seed=[1])
    del two  # as if it went out of a function that raised
    one.generate(["a"], seed=1)


@pytest.mark.parametrize("random_state", [None, np.random.default_rng(0), True])
def test_a_log_needs_a_seed(tmp_path, random_state):
    with pytest.raises(ValueError, match="a log needs a seed"):
        best_of_n(Counting(), None, "a", n=1, choose="majority", random_state=random_state, log=tmp_path / "log")
    with pytest.raises(ValueError, match="a log needs seeds"):
        LoggedGenerator(Counting(), tmp_path / "log").generate(["a"])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [[], [(0, [])], [(1, [Generation("a", "eos")])], [(0, [Generation("a", "eos")])] * 2])
def test_a_generator_that_breaks_the_protocol_is_named(tmp_path, rows):
    generator = Counting()
    generator.iter_generate = lambda requests, **settings: iter(rows)
    with pytest.raises(ValueError, match=r"Counting\.(iter_)?generate"):
        LoggedGenerator(generator, tmp_path / "log").generate(["a"], seed=1)


def test_each_answer_is_in_the_file_before_the_next_is_asked(tmp_path):
    n_lines = []

    def note(problem, steps, n, seed):
        n_lines.append(len((tmp_path / "log").read_text().splitlines()))
        return [("So 5.", "eos")] * n

    with LoggedGenerator(CallableGenerator(note, step_separator="\n"), tmp_path / "log") as logged:
        logged.generate(["a", "b", "c"], seed=1)
        assert logged.step_separator == "\n"
        copy = pickle.loads(pickle.dumps(LoggedGenerator(Counting(), tmp_path / "log")))
        assert copy.path == logged.path
    assert n_lines == [1, 2, 3]


# The n-th call of the function kills its process; the calls that were answered are noted.
KILLED = """
import os, signal, sys
from prmkit.decoding import CallableGenerator, beam_search, best_of_n

def step(problem, steps, n, seed):
    step.n_calls = getattr(step, "n_calls", 0) + 1
    if step.n_calls > int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    with open("calls", "a") as file:
        file.write(f"{steps} {seed}\\n")
    return [(f"{(seed + k) % 97} + {len(steps)}.", "stop" if len(steps) < 3 else "eos") for k in range(n)]

def score(solutions):
    return [[len(step) / 9 for step in one.steps] for one in solutions]

settings = {"n": 4} if sys.argv[3] == "best_of_n" else {"beam_width": 2, "beam_factor": 3, "max_steps": 6}
search = {"best_of_n": best_of_n, "beam_search": beam_search}[sys.argv[3]]
found = search(CallableGenerator(step), score, "2 + 3?", random_state=5, log=sys.argv[2], **settings)
print([(one.solution.steps, one.score, one.stopped) for one in found.candidates], found.chosen)
print(found.cost.generated_tokens, found.cost.n_requests)
"""


def killed_and_finished(start_python, run_python, folder, n_kills, at, search="best_of_n"):
    """Return what a search prints at once, what it prints after some kills, and the calls that were answered."""
    undisturbed = run_python(KILLED, "999", "whole", search, folder=folder)
    n_calls = len((folder / "calls").read_text().splitlines())
    (folder / "calls").unlink()
    for _ in range(n_kills):
        process = start_python(KILLED, str(at), "log", search, folder=folder)
        process.join()
        assert process.exitcode == -9
    after = run_python(KILLED, "999", "log", search, folder=folder)
    calls = (folder / "calls").read_text().splitlines()
    assert len(calls) == len(set(calls)) == n_calls  # nothing was generated twice
    assert (folder / "log").read_bytes() == (folder / "whole").read_bytes()
    return undisturbed, after


def test_a_killed_search_goes_on(start_python, run_python, tmp_path):
    one, again = killed_and_finished(start_python, run_python, tmp_path, 1, at=6)
    assert one == again


@pytest.mark.slow
@pytest.mark.parametrize(("search", "n_kills"), [("best_of_n", 10), ("beam_search", 6)])
def test_a_search_that_was_killed_many_times_goes_on(start_python, run_python, tmp_path, search, n_kills):
    one, again = killed_and_finished(start_python, run_python, tmp_path, n_kills, at=1, search=search)
    assert one == again
