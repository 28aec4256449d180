"""Every rule of ``select`` against counting by hand, and when a vote is decided against all ways to go on."""

import itertools
import math

import numpy as np
import pytest

from prmkit.metrics import select, vote, vote_is_decided

RULES = ["best", "weighted", "combine", "tie_break", "filter", "pessimistic"]


def groups_of(answers, missing, among):
    """Return the candidates of each answer, in the order of their first ones."""
    groups = {}
    for i in among:
        if answers[i] is None and missing == "drop":
            continue
        groups.setdefault(("alone", i) if answers[i] is None else answers[i], []).append(i)
    return list(groups.values())


def best_groups(answers, scores, rule, *, missing="alone", drop=0.5, penalty=0.5):
    """Return the best-scored candidate of each of the best answers, by hand."""
    n = len(answers)
    known = [-math.inf if math.isnan(score) else score for score in scores]
    if rule == "best":
        return [i for i in range(n) if known[i] == max(known)]
    among = range(n)
    if rule == "filter":
        lowest = sorted(known)[math.floor(drop * n)]
        among = [i for i in range(n) if known[i] >= lowest]
    groups = groups_of(answers, missing, among)
    value = {
        "majority": len,
        "filter": len,
        "tie_break": lambda group: (len(group), max(known[i] for i in group)),
        "weighted": lambda group: round(sum(known[i] for i in group if known[i] > -math.inf), 9),
        "combine": lambda group: round(sum(1 / (1 + math.exp(-known[i])) for i in group if known[i] > -math.inf), 9),
        "pessimistic": lambda group: round(
            sum(known[i] for i in group if known[i] > -math.inf) / len(group)
            - penalty * math.log(n) / (len(group) + 1),
            9,
        ),
    }[rule]
    top = max(map(value, groups), default=None)
    return [max(group, key=lambda i: (known[i], -i)) for group in groups if value(group) == top] or [0]


@pytest.mark.parametrize("missing", ["alone", "drop"])
@pytest.mark.parametrize("rule", [*RULES, "majority"])
def test_rules_by_hand(rule, missing):
    rng = np.random.default_rng(0)
    for n in range(1, 8):
        for _ in range(20):
            answers = [["a", "b", "c", None][i] for i in rng.integers(0, 4, n)]
            scores = np.where(rng.random(n) < 0.1, np.nan, rng.integers(0, 5, n) / 4)
            drop, penalty = rng.choice([0, 0.25, 0.5, 0.9]), rng.choice([0, 0.5, 2])
            options = {"missing": missing, "drop": drop, "penalty": penalty}
            found = select(answers, scores, rule=rule, **options)
            assert found == best_groups(answers, scores.tolist(), rule, **options)[0]


def test_what_the_rules_are_for():
    answers, scores = ["12", "14", "14", "16", "16"], [0.9, 0.2, 0.3, 0.4, 0.3]
    chosen = {rule: answers[select(answers, scores, rule=rule)] for rule in [*RULES, "majority", "first"]}
    assert chosen == {
        "first": "12",
        "majority": "14",
        "best": "12",
        "weighted": "12",
        "combine": "16",
        "tie_break": "16",
        "filter": "16",  # of 0.9, 0.4 and both 0.3
        "pessimistic": "12",
    }
    assert answers[select(answers, scores, rule="filter", drop=0.7)] == "12"
    assert answers[select(answers, scores, rule="pessimistic", penalty=3)] == "16", "one vote is not believed"


def test_random_is_seeded_and_reaches_all():
    chosen = [select("abc", rule="random", random_state=seed) for seed in range(30)]
    assert chosen == [select("abc", rule="random", random_state=seed) for seed in range(30)]
    assert set(chosen) == {0, 1, 2}


@pytest.mark.parametrize("rule", RULES)
def test_without_scores_nothing_is_preferred(rule):
    assert select(["a", "b", "b"], [np.nan] * 3, rule=rule) in ({0} if rule == "best" else {0, 1})
    assert select([None], [0.5], rule=rule) == 0
    with pytest.raises(ValueError, match=f'rule "{rule}" needs scores'):
        select(["a"], rule=rule)
    with pytest.raises(ValueError, match="none of them inf"):
        select(["a"], [np.inf], rule=rule)
    # A candidate without a score votes, and is behind all others.
    assert select(["a", "b"], [np.nan, 0.1], rule=rule) == 1


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (([], []), {"rule": "best"}, "answers is empty"),
        ((["a"], [0.1, 0.2]), {"rule": "best"}, r"expected \(1,\)"),
        ((["a"], [0.1]), {"rule": "mean"}, "expected one of first, random"),
        ((["a"], [0.1]), {"rule": "filter", "drop": 1}, "drop is 1"),
        ((["a"], [0.1]), {"rule": "pessimistic", "penalty": -1}, "penalty is -1"),
        ((["a"], [-3.0]), {"rule": "pessimistic"}, "outside"),
        ((["a"], [0.1]), {"rule": "best", "missing": "?"}, "expected one of alone, drop"),
    ],
)
def test_bad_input_is_named(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        select(*arguments, **options)


@pytest.mark.parametrize("missing", ["alone", "drop"])
def test_a_vote_is_decided_when_no_way_to_go_on_turns_it(missing):
    for n in range(1, 5):
        for k in range(n + 1):
            for answers in itertools.product(["a", "b", None], repeat=k):
                found = vote_is_decided(answers, n, missing=missing)
                # Whoever comes may answer as one before, or give answers of their own, or none.
                rest = itertools.product(["a", "b", None, "new", "newer"], repeat=n - k)
                winners = {vote([*answers, *more], missing=missing) for more in rest}
                names = {i if i >= k or answers[i] is None else answers[i] for i in winners}
                assert found == (len(names) == 1 and (k > 0 or n == 0)), (answers, n)


def test_numbers_of_voters_are_checked():
    with pytest.raises(ValueError, match="n is 1 with 2 answers"):
        vote_is_decided(["a", "b"], 1)
    assert not vote_is_decided([], 1)
