"""Certified stopping: what is kept is what the certifier keeps of the whole solution, and the level holds."""

import zlib
from functools import partial

import numpy as np
import pytest
from scipy.stats import betabinom
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError

from prmkit import Solution
from prmkit.data import flatten
from prmkit.decoding import CallableGenerator, Generation, best_of_n, certified_search
from prmkit.uncertainty import ErrorDetector, FirstErrorSet, PrefixCertifier

N_STEPS = 5


def policy(error_rate=0.15):
    """Return a generator of five steps, each of which is wrong at a known rate. The text says which ones."""

    def write(problem, steps, n, seed):
        rng = np.random.default_rng(seed)
        wrong = rng.random(n) < error_rate
        numbers = rng.integers(10**9, size=n)
        finish = "eos" if len(steps) == N_STEPS - 1 else "stop"
        return [(f"{'wrong' if w else 'right'} step {k}", finish) for w, k in zip(wrong, numbers, strict=True)]

    return CallableGenerator(write)


class NoisyJudge(ClassifierMixin, BaseEstimator):
    """A classifier of steps. It knows the truth, and adds noise that follows from the text: no step is drawn twice."""

    def __init__(self, noise=0.35):
        self.noise = noise
        self.classes_ = np.array([-1, 1])
        self.n_read = 0

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        self.n_read += len(X)
        wrong = np.array([step.text.startswith("wrong") for step in X])
        seeds = [zlib.crc32(step.text.encode()) for step in X]
        noise = np.array([np.random.default_rng(seed).normal(scale=self.noise) for seed in seeds])
        risks = np.clip(0.3 + 0.4 * wrong + noise, 0.001, 0.999)
        return np.stack([risks, 1 - risks], axis=1)


def first_errors(solutions):
    wrong = [[step.startswith("wrong") for step in one.steps] for one in solutions]
    return [row.index(True) if any(row) else -1 for row in wrong]


def drawn_once(names):
    """Return one solution per problem, each written step by step and kept whatever it is worth."""
    never = {"stop_condition": lambda solution: False}
    return [best_of_n(policy(), None, name, n=1, choose="first", random_state=i, **never).solution for i, name in names]


def problems(name, n):
    return [(1000 * len(name) + i, f"{name} {i}?") for i in range(n)]


@pytest.fixture(scope="module")
def calibration():
    return drawn_once(problems("calibration", 300))


@pytest.fixture(scope="module", params=["prefix", "detector"])
def certifier(request, calibration):
    kind = PrefixCertifier(NoisyJudge(), alpha=0.2) if request.param == "prefix" else ErrorDetector(NoisyJudge(), 0.8)
    return kind.fit(calibration, first_errors(calibration))


def kept_of(certifier, solution):
    """Return how many steps stand before the first refused one."""
    risks = certifier.classifier.predict_proba(flatten([solution]))[:, 0]
    return int(np.argmax([*(risks > certifier.threshold_), True]))


def test_what_is_kept_is_what_the_certifier_keeps_of_the_whole_solution(certifier):
    some = problems("new", 40)
    stopped = []
    for (seed, name), whole in zip(some, drawn_once(some), strict=True):
        found = certified_search(policy(), certifier, name, random_state=seed)
        n_kept = kept_of(certifier, whole)
        assert found.solution.steps == whole.steps[:n_kept]
        assert found.stopped == ("eos" if n_kept == whole.n_steps else "doubt")
        refused = [one.solution.steps for one in found.candidates if one.stopped == "refused"]
        assert refused == ([whole.steps[: n_kept + 1]] if n_kept < whole.n_steps else [])
        assert len(found.candidates[found.chosen].rewards) == n_kept
        stopped.append(found.stopped)
    assert set(stopped) == {"eos", "doubt"}


def test_no_step_is_scored_twice_and_none_after_the_refused_one(certifier):
    seed, name = problems("new", 40)[3]
    certifier.classifier.n_read = 0
    found = certified_search(policy(), certifier, name, on_doubt="backtrack", max_attempts=9, random_state=seed)
    texts = {step for one in found.candidates for step in one.solution.steps}
    assert certifier.classifier.n_read == len(texts)
    assert found.cost.scored_tokens == sum(len(text.split()) for text in [name, *texts])
    assert found.cost.generated_tokens == sum(len(text.split()) for text in texts)


def refusing(certifier, word):
    """Return a generator whose second step is one that the certifier refuses, until it has been asked often enough."""
    words = iter(word)

    def write(problem, steps, n, seed):
        assert n == 1
        if not steps:
            return [("right step 0", "stop")]
        return [(next(words), "eos")]

    return CallableGenerator(write)


@pytest.fixture(scope="module")
def exact(calibration):
    """A certifier whose judge makes no mistake."""
    return PrefixCertifier(NoisyJudge(0.0), alpha=0.1).fit(calibration, first_errors(calibration))


def test_backtracking_writes_the_refused_step_again_and_then_gives_up(exact):
    found = certified_search(refusing(exact, ["wrong a", "wrong b", "right c"]), exact, "1?", on_doubt="backtrack")
    assert (found.solution.steps, found.stopped) == (("right step 0", "right c"), "eos")
    assert [one.stopped for one in found.candidates] == ["refused", "refused", "eos"]
    few = certified_search(refusing(exact, ["wrong a", "wrong b"]), exact, "1?", on_doubt="backtrack", max_attempts=2)
    assert (few.solution.steps, few.stopped) == (("right step 0",), "doubt")
    assert few.cost.n_requests == 3


class Remembering:
    """A generator that knows its tokens, and remembers what it was asked."""

    def __init__(self, write, step_separator):
        self.write, self.step_separator, self.asked = write, step_separator, []

    def generate(self, requests, *, n=1, stop=(), max_tokens=512, temperature=1.0, seed=None):
        self.asked += [(request.steps, dict(request.meta or {}), tuple(stop)) for request in requests]
        text, finish = self.write(requests[0].steps)
        return [[Generation(text, finish, token_ids=(1, 2), logprobs=(-0.5, -0.5), n_tokens=2)]]


def test_a_stronger_generator_writes_the_refused_step_alone_and_gets_text(exact):
    written = [("right 0", "stop"), ("wrong 1", "stop"), ("right 2", "eos")]
    weak = Remembering(lambda steps: written[len(steps)], "\n")
    strong = Remembering(lambda steps: ("right and strong", "stop"), "\n\n")
    found = certified_search(weak, exact, "1?", on_doubt="escalate", stronger=strong)
    assert (found.solution.steps, found.stopped) == (("right 0", "right and strong", "right 2"), "eos")
    assert [steps for steps, _, _ in strong.asked] == [("right 0",)]
    assert strong.asked[0][1:] == ({}, ("\n\n",))
    # Tokens of one generator are never given to the other.
    assert [set(meta) for _, meta, _ in weak.asked] == [set(), {"token_ids", "token_logprobs"}, set()]
    assert found.cost.generated_tokens == 8
    again = certified_search(weak, exact, "1?", on_doubt="escalate", stronger=weak, max_attempts=2)
    assert (again.solution.steps, again.stopped, again.cost.n_requests) == (("right 0",), "doubt", 3)


def test_a_log_holds_the_answers_of_both_generators(exact, tmp_path):
    asked = []

    def weak(problem, steps, n, seed):
        asked.append("weak")
        return policy(0.6).fn(problem, steps, n, seed)

    def strong(problem, steps, n, seed):
        asked.append("strong")
        return policy(0.4).fn(problem, steps, n, seed)

    settings = {"on_doubt": "escalate", "random_state": 3, "log": tmp_path / "log.jsonl", "max_attempts": 9}
    generators = CallableGenerator(weak), CallableGenerator(strong)
    found, again = (certified_search(generators[0], exact, "1?", stronger=generators[1], **settings) for _ in range(2))
    assert set(asked) == {"weak", "strong"}
    assert len(asked) == found.cost.n_requests  # nothing was asked again
    assert [one.solution for one in again.candidates] == [one.solution for one in found.candidates]
    assert again.cost == found.cost


def test_several_steps_at_once_are_kept_up_to_the_refused_one(exact):
    generator = CallableGenerator(lambda p, s, n, seed: [("right a\n\nright b\n\nwrong c\n\nright d", "eos")])
    found = certified_search(generator, exact, "1?", stop=["END"])
    assert (found.solution.steps, found.stopped) == (("right a", "right b"), "doubt")
    assert found.candidates[0].solution.steps == ("right a", "right b", "wrong c")


def test_given_steps_are_judged_and_nothing_may_be_kept(exact):
    generator = CallableGenerator(lambda p, s, n, seed: [("right end", "eos")])
    begun = certified_search(generator, exact, Solution("1?", ["right a"]))
    assert (begun.solution.steps, begun.stopped) == (("right a", "right end"), "eos")
    doubted = certified_search(generator, exact, Solution("1?", ["right a", "wrong b"]))
    assert (doubted.solution.steps, doubted.stopped, doubted.cost.n_requests) == (("right a",), "doubt", 0)
    none = certified_search(CallableGenerator(lambda p, s, n, seed: [("wrong", "stop")]), exact, "1?")
    assert (none.solution.steps, none.stopped) == ((), "doubt")


def test_limits_and_failures_keep_what_was_accepted(exact):
    endless = CallableGenerator(lambda p, s, n, seed: [(f"right step {len(s)}", "stop")])
    assert certified_search(endless, exact, "1?", max_steps=4).solution.n_steps == 4
    assert certified_search(endless, exact, "1?", max_steps=4).stopped == "max_steps"
    short = certified_search(endless, exact, "1?", budget=9)
    assert (short.stopped, short.cost.generated_tokens) == ("budget", 9)
    rounds = list(certified_search.iterate(endless, exact, "1?", max_steps=3))
    assert [one.live[0].solution.n_steps for one in rounds[:-1]] == [1, 2]
    assert rounds[-1].result.solution.n_steps == 3

    def breaks(problem, steps, n, seed):
        if steps:
            raise OSError("no route to the server")
        return [("right step", "stop")]

    found = certified_search(CallableGenerator(breaks), exact, "1?")
    assert (found.solution.n_steps, found.stopped, found.cost.n_errors) == (1, "error", 1)
    assert "no route" in found.candidates[-1].error


def test_what_cannot_certify_is_refused(calibration, exact):
    errors = first_errors(calibration)
    with pytest.raises(NotFittedError):
        certified_search(policy(), PrefixCertifier(NoisyJudge()), "1?")
    numbers = PrefixCertifier(alpha=0.2).fit([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.1, 0.6]], [1, 1, 1, -1])
    with pytest.raises(ValueError, match="calibrated on numbers"):
        certified_search(policy(), numbers, "1?")
    with pytest.raises(ValueError, match="calibrated on"):
        certified_search(policy(), exact, calibration[0].problem.upper())
    with pytest.raises(TypeError, match="FirstErrorSet"):
        certified_search(policy(), FirstErrorSet(NoisyJudge()).fit(calibration, errors), "1?")
    with pytest.warns(UserWarning, match="certified"):
        few = PrefixCertifier(NoisyJudge(), alpha=0.05).fit(calibration[:5], errors[:5])
    with pytest.raises(ValueError, match="could not attain"):
        certified_search(policy(), few, "1?")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"on_doubt": "pray"}, "on_doubt is 'pray'"),
        ({"on_doubt": "escalate"}, "stronger goes with"),
        ({"stronger": policy()}, "stronger goes with"),
        ({"on_doubt": "escalate", "stronger": max}, "stronger is builtin"),
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_steps": 1.5}, "max_steps is 1.5"),
    ],
)
def test_settings_out_of_range_are_named(exact, settings, told):
    with pytest.raises((TypeError, ValueError), match=told):
        certified_search(policy(), exact, "1?", **settings)


def most_failures(alpha, n_calibration, n):
    """Return a number of failures that n new problems exceed one time in 10,000 if the level holds."""
    k = int(alpha * (n_calibration + 1))
    return betabinom(n, k, n_calibration + 1 - k).ppf(0.9999)


@pytest.mark.slow
def test_the_level_holds_for_stop_and_for_other_policies_after_a_calibration_on_what_they_write(calibration):
    alpha, n = 0.1, 200
    first = PrefixCertifier(NoisyJudge(), alpha=alpha).fit(calibration, first_errors(calibration))
    bound = most_failures(alpha, len(calibration), n)

    def solutions(name, n, **policy_settings):
        run = partial(certified_search, policy(), first, **policy_settings)
        results = [run(problem, random_state=i) for i, problem in problems(name, n)]
        results = [
            certified_search(policy(), first, p, random_state=i, **policy_settings) for i, p in problems(name, n)
        ]
        return [one.solution for one in results if one.solution.steps]

    stopped = first_errors(solutions("new", n))
    assert sum(error >= 0 for error in stopped) <= bound
    for settings in (
        {"on_doubt": "backtrack", "max_attempts": 4},
        {"on_doubt": "escalate", "max_attempts": 4, "stronger": policy(0.1)},
    ):
        found = solutions("new", n, **settings)
        errors = np.array(first_errors(found))
        # The threshold chooses among the draws, so its level is lost.
        assert (errors >= 0).sum() > bound
        others = solutions("second", 300, **settings)
        second = PrefixCertifier(NoisyJudge(), alpha=alpha).fit(others, first_errors(others))
        kept = second.predict(found)
        assert ((errors >= 0) & (kept > errors)).sum() <= most_failures(alpha, len(others), n)
        assert kept.mean() > 1  # it holds with steps kept, not by refusing all


@pytest.mark.slow
def test_of_the_solutions_that_would_be_wrong_the_stated_share_is_stopped(calibration):
    recall, some = 0.8, problems("new", 300)
    detector = ErrorDetector(NoisyJudge(), recall=recall).fit(calibration, first_errors(calibration))
    wrong = [error >= 0 for error in first_errors(drawn_once(some))]
    passed = [certified_search(policy(), detector, p, random_state=i).stopped == "eos" for i, p in some]
    n_missed = sum(w and p for w, p in zip(wrong, passed, strict=True))
    assert 0 < n_missed <= most_failures(1 - recall, detector.n_calibration_, sum(wrong))


class ShortSighted(NoisyJudge):
    """A judge that cannot read the third step, which its own setting makes an error."""

    def __init__(self, noise=0.0, too_long="raise"):
        super().__init__(noise)
        self.too_long = too_long

    def predict_proba(self, X):
        beyond = np.array([step.index > 1 for step in X])
        if beyond.any() and self.too_long == "raise":
            raise ValueError("a step is beyond the length of the model")
        return np.where(beyond[:, None], np.nan, super().predict_proba(X))


@pytest.mark.filterwarnings("ignore:no score for")
@pytest.mark.parametrize("kind", [partial(PrefixCertifier, alpha=0.2), partial(ErrorDetector, recall=0.8)])
def test_a_step_that_the_model_cannot_read_is_refused(kind, calibration):
    short = [Solution(one.problem, one.steps[:2]) for one in calibration]
    certifier = kind(ShortSighted()).fit(short, first_errors(short))
    found = certified_search(policy(error_rate=0.0), certifier, "A new one?", random_state=0)
    assert (found.solution.n_steps, found.stopped) == (2, "doubt")
